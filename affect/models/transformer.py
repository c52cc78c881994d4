"""Self-attention over valid frames, and the block of a transformer, whose dropout follows the example.

Legend: B batch, T frames, D channels. In each row at least one frame is valid: a softmax over none has no value.
"""

from __future__ import annotations

from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.dropout import Dropout
from affect.models.multi_head import attend


class SelfAttention(nn.Module):
    """Each frame looks at all valid ones, after a LayerNorm (Vaswani et al. 2017).

    The attention's weights are not dropped out: a fused kernel computes them.
    """

    def __init__(self, width: int, heads: int, head_width: int | None = None) -> None:
        """Raise AffectError where `width` is no multiple of `heads` and their own width is not given."""
        super().__init__()
        if head_width is None and width % heads:
            raise AffectError(f"the attention's width {width} has to be a multiple of its {heads} heads")
        inner = heads * (head_width or width // heads)
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * inner)
        self.output = nn.Linear(inner, width)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, T, D] of `frames` [B, T, D], of which those count where `mask` [B, T] is True."""
        parts = self.project(self.norm(frames)).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))
        seen = attend(query, key, value, mask, training=self.training)
        attended: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return attended


class TransformerBlock(nn.Module):
    """Self-attention and two layers for each frame, each behind a LayerNorm and beside its input."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, head_width: int | None = None) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, head_width)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, T, D] of `frames` [B, T, D] and `mask` [B, T]."""
        frames = frames + self.dropout(self.attention(frames, mask))
        changed: Tensor = frames + self.dropout(self.network(frames))
        return changed
