"""The prosody branch: utterance-level functionals through a small network."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.dropout import Dropout


class ProsodyBranch(nn.Module):
    """Functionals [B, P] -> [B, D]: standardised, Linear, LayerNorm, ReLU, dropout.

    The training part's mean and deviation are buffers, so they travel with the weights. B batch, P
    functionals, D channels.
    """

    def __init__(self, features: int, *, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = features
        self.width = width
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.network = nn.Sequential(nn.Linear(features, width), nn.LayerNorm(width), nn.ReLU(), Dropout(dropout))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the training part's mean [P] and standard deviation [P].

        A feature that never varied is only centred. Raises AffectError on another number of features or
        values that aren't finite.
        """
        for name, values in (("mean", mean), ("standard deviation", std)):
            if tuple(values.shape) != (self.features,):
                raise AffectError(
                    f"the prosody {name} has shape {list(values.shape)}, but the model takes {self.features} features"
                )
            if not bool(torch.isfinite(values).all()):
                raise AffectError(f"the prosody {name} has values that are not finite")
        cast(Tensor, self.mean).copy_(mean)
        cast(Tensor, self.deviation).copy_(torch.where(std > 1e-8, std, torch.ones_like(std)))

    def forward(self, functionals: Tensor) -> Tensor:
        """Return [B, D] of the raw `functionals` [B, P]; what is not finite counts as the mean."""
        standard = (functionals.float() - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        # 10 deviations: a broken f0 track may not throw the whole row.
        standard = standard.nan_to_num(0.0, posinf=0.0, neginf=0.0).clamp(-10, 10)
        return cast(Tensor, self.network(standard.to(next(self.network.parameters()).dtype)))
