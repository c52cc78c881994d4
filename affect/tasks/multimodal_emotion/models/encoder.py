"""Encoders of one stream of utterance features: a vector of features to a hidden vector.

Legend: B examples, D features of the stream, H hidden width.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StreamEncoder(nn.Module):
    """A first linear layer [D -> H], then `rest` [H -> H]; features of a missing stream never get past the first."""

    def __init__(self, first: nn.Linear, rest: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.rest = rest

    def forward(self, features: Tensor | None, present: Tensor | None = None) -> Tensor:
        """Return [B, H] of `features` [B, D]; a row whose `present` [B, 1] is 0 counts as zeros.

        Masking the first layer's product is masking its input, for H values a row in place of D. Of None it returns
        what it makes of a vector of zeros [1, H].
        """
        if features is None:
            return cast(Tensor, self.rest(self.first.bias[None]))
        if present is None:
            return cast(Tensor, self.rest(self.first(features)))
        product = F.linear(features, self.first.weight)
        return cast(Tensor, self.rest(torch.where(present > 0, product, 0.0) + self.first.bias))


class MLPEncoder(StreamEncoder):
    """Three times (Linear, ReLU), all `hidden` wide; the dropout on its input is a site of the model it is part of."""

    def __init__(self, features: int, hidden: int) -> None:
        rest = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        super().__init__(nn.Linear(features, hidden), rest)
