"""The Conformer (Gulati et al. 2020), whose convolution is normalised frame by frame in place of by the batch.

Legend: B batch, T frames, D channels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from affect.models.dropout import Dropout
from affect.models.multi_head import MultiHeadAttention


class FeedForward(nn.Module):
    """Two layers for each frame, behind a LayerNorm."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.SiLU(), Dropout(dropout), nn.Linear(hidden, width),
            Dropout(dropout),
        )  # fmt: skip

    def forward(self, frames: Tensor) -> Tensor:
        """Return [..., D] of `frames` [..., D]."""
        changed: Tensor = self.network(frames)
        return changed


class ConvolutionModule(nn.Module):
    """A gated layer, a convolution of each channel over `kernel` (odd) frames, and a layer; padding counts as 0."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.inner_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, T, D] of `frames` [B, T, D], of which those count where `mask` [B, T] is True."""
        gated = F.glu(self.gate(self.norm(frames)), dim=-1).masked_fill(~mask[..., None], 0)
        mixed = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)
        changed: Tensor = self.dropout(self.output(F.silu(self.inner_norm(mixed))))
        return changed


class ConformerBlock(nn.Module):
    """Half a feed-forward, self-attention, a convolution and half a feed-forward, each beside its input."""

    def __init__(self, width: int, heads: int, hidden: int, kernel: int, dropout: float) -> None:
        """Raise AffectError where `width` is no multiple of `heads`."""
        super().__init__()
        self.before = FeedForward(width, hidden, dropout)
        self.attention_norm, self.attention = nn.LayerNorm(width), MultiHeadAttention(width, heads)
        self.dropout = Dropout(dropout)
        self.convolution = ConvolutionModule(width, kernel, dropout)
        self.after = FeedForward(width, hidden, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, T, D] of `frames` [B, T, D] and `mask` [B, T], which is True somewhere in each row."""
        frames = frames + 0.5 * self.before(frames)
        normed: Tensor = self.attention_norm(frames)
        frames = frames + self.dropout(self.attention(normed, normed, normed, mask))
        frames = frames + self.convolution(frames, mask)
        normed = self.norm(frames + 0.5 * self.after(frames))
        return normed
