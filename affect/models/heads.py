"""A head a target: features of an utterance to one number on the unit scale, or to the logits of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from affect.models.dropout import Dropout


def _layers(features: int, hidden: Sequence[int], dropout: float, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(features, width), nn.LayerNorm(width), nn.ReLU(), Dropout(dropout)]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, outputs))


class RegressionHead(nn.Module):
    """Features [B, D] -> [B]: (Linear, LayerNorm, ReLU, dropout) for each hidden width, Linear, sigmoid.

    Without `sigmoid` the last step is left out and the output is free.
    """

    def __init__(self, features: int, *, hidden: Sequence[int], dropout: float, sigmoid: bool) -> None:
        super().__init__()
        self.network = _layers(features, hidden, dropout, 1)
        self.sigmoid = sigmoid

    def forward(self, features: Tensor) -> Tensor:
        """Return [B] in float32 of `features` [B, D]."""
        value = cast(Tensor, self.network(features)).squeeze(-1).float()
        return value.sigmoid() if self.sigmoid else value


class ClassHead(nn.Module):
    """Features [B, D] -> logits [B, C]: the layers of `RegressionHead`, ending in C classes."""

    def __init__(self, features: int, *, hidden: Sequence[int], dropout: float, classes: int) -> None:
        super().__init__()
        self.network = _layers(features, hidden, dropout, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits [B, C] in float32 of `features` [B, D]."""
        return cast(Tensor, self.network(features)).float()
