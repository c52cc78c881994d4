"""A head a target: features of an utterance to one number on the unit scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn


class RegressionHead(nn.Module):
    """Features [B, D] -> [B]: (Linear, LayerNorm, ReLU, dropout) for each hidden width, Linear, sigmoid.

    Without `sigmoid` the last step is left out and the output is free.
    """

    def __init__(self, features: int, *, hidden: Sequence[int], dropout: float, sigmoid: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(features, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(dropout)]
            features = width
        layers.append(nn.Linear(features, 1))
        self.network = nn.Sequential(*layers)
        self.sigmoid = sigmoid

    def forward(self, features: Tensor) -> Tensor:
        """Return [B] in float32 of `features` [B, D]."""
        value = cast(Tensor, self.network(features)).squeeze(-1).float()
        return value.sigmoid() if self.sigmoid else value
