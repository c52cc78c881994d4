"""Decoder layers of slots that ask a sequence of frames, and each other (Carion et al. 2020).

A slot that is not there takes no part: it changes no other one, and slots in another order give the same in that order.
Legend: B batch, N slots, T frames, D channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from affect.models.conformer import FeedForward
from affect.models.dropout import Dropout
from affect.models.multi_head import MultiHeadAttention


class SlotDecoderLayer(nn.Module):
    """Attention to frames, attention of the slots to each other and a feed-forward, each beside its input.

    What a slot stands for is added to what it asks, in every attention.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.frames_norm, self.slots_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_frames, self.to_slots = MultiHeadAttention(width, heads), MultiHeadAttention(width, heads)
        self.feed_forward = FeedForward(width, hidden, dropout)
        self.dropout = Dropout(dropout)

    def forward(
        self, slots: Tensor, meaning: Tensor, keys: Tensor, values: Tensor, mask: Tensor, there: Tensor
    ) -> Tensor:
        """Return [B, N, D] of `slots` and their `meaning` [B, N, D], and of frames' `keys` and `values` [B, T, D].

        `mask` [B, T] tells which frames count, `there` [B, N] which slots; each is True somewhere in each row.
        """
        asked = self.frames_norm(slots) + meaning
        slots = slots + self.dropout(self.to_frames(asked, keys, values, mask))
        own = self.slots_norm(slots)
        slots = slots + self.dropout(self.to_slots(own + meaning, own + meaning, own, there))
        changed: Tensor = slots + self.feed_forward(slots)
        return changed
