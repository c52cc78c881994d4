"""Cross-modal imputation: what a stream's hidden vector would be, predicted from the streams that are there.

Legend: B examples, S streams, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Imputation(nn.Module):
    """A small MLP a stream (Linear, ReLU, Linear) predicts its hidden vector from the mean of the other ones."""

    def __init__(self, streams: int, hidden: int) -> None:
        super().__init__()
        self.predictors = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden)) for _ in range(streams)
        )

    def forward(self, hidden: Tensor, kept: Tensor) -> Tensor:
        """Return the predictions [B, S, H] from `hidden` [B, S, H] and which streams are there, `kept` [B, S].

        A stream that has no other one to go by is predicted from a vector of zeros.
        """
        mean = others(hidden, kept)
        return torch.stack([mlp(mean[..., s, :]) for s, mlp in enumerate(self.predictors)], dim=-2)


def others(hidden: Tensor, kept: Tensor) -> Tensor:
    """Return the mean [B, S, H] over the kept streams other than each one, zeros where there is none."""
    streams = kept.shape[-1]
    weights = (1.0 - torch.eye(streams, dtype=kept.dtype, device=kept.device)) * kept[..., None, :]
    return (weights / weights.sum(-1, keepdim=True).clamp(min=1.0)) @ hidden
