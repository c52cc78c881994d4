"""Frames to one vector: mean, attention, attentive statistics; each sees valid frames only.

Legend: B batch, T frames, D channels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from affect.errors import AffectError, nearest


def masked_mean(frames: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [B, D] of `frames` [B, T, D] where `mask` [B, T] is True (0 where nothing is)."""
    total = frames.masked_fill(~mask[..., None], 0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


class MeanPooling(nn.Module):
    """The mean over valid frames."""

    is_mean = True
    """Whether the mean of the frames is all it needs of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] of `frames` [B, T, D] and `mask` [B, T]."""
        return masked_mean(frames, mask)


class FrameAttention(nn.Module):
    """A weight for each valid frame, from a small network; the weights of an utterance sum to 1."""

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        # No bias: a constant added to all scores changes no softmax, and would be a parameter without use.
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the weights [B, T, 1], 0 outside of `mask` [B, T]."""
        scores = self.score(torch.tanh(self.hidden(frames)))
        lowest = torch.finfo(scores.dtype).min
        weights = scores.masked_fill(~mask[..., None], lowest).softmax(1)
        return cast(Tensor, weights.masked_fill(~mask[..., None], 0))


class AttentionPooling(nn.Module):
    """The mean over valid frames, weighted by a learned attention."""

    is_mean = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels
        self.attention = FrameAttention(channels)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, D] of `frames` [B, T, D] and `mask` [B, T]."""
        weights: Tensor = self.attention(frames, mask)
        return (weights * frames.masked_fill(~mask[..., None], 0)).sum(1)


class AttentiveStatisticsPooling(nn.Module):
    """The weighted mean and standard deviation over valid frames (Okabe et al. 2018)."""

    is_mean = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = 2 * channels
        self.attention = FrameAttention(channels)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, 2D], means before deviations, of `frames` [B, T, D] and `mask` [B, T]."""
        weights = self.attention(frames, mask).float()
        wide = frames.float().masked_fill(~mask[..., None], 0)
        mean = (weights * wide).sum(1, keepdim=True)
        variance = (weights * (wide - mean).square()).sum(1)
        # The floor keeps the square root's gradient finite for one frame, whose variance is 0.
        return torch.cat([mean.squeeze(1), variance.clamp(min=1e-6).sqrt()], dim=-1)


Pooling = MeanPooling | AttentionPooling | AttentiveStatisticsPooling

POOLINGS: dict[str, type[Pooling]] = {
    "mean": MeanPooling,
    "attention": AttentionPooling,
    "attentive_statistics": AttentiveStatisticsPooling,
}


def build_pooling(name: str, channels: int) -> Pooling:
    """Return the pooling called `name` for `channels` channels; raises AffectError if there is none."""
    if name not in POOLINGS:
        raise AffectError(f"there is no pooling {name!r}; {nearest(name, POOLINGS)}")
    return POOLINGS[name](channels)
