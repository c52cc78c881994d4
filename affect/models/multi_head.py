"""Attention of several heads to those frames that are there; fused where that is fast.

Legend: B batch, H heads, N queries, T keys, D channels, d channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.errors import AffectError


class MultiHeadAttention(nn.Module):
    """Queries look at those keys that are there, and take of their values (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        """Raise AffectError where `width` is no multiple of `heads`."""
        super().__init__()
        if width % heads:
            raise AffectError(f"the attention's width {width} has to be a multiple of its {heads} heads")
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return [B, N, D] of `queries` [B, N, D], `keys` and `values` [B, T, D] and the mask of those [B, T]."""
        parts = (self.query(queries), self.key(keys), self.value(values))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = attend(query, key, value, mask, training=self.training)
        output: Tensor = self.output(seen.transpose(1, 2).flatten(2))
        return output


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, training: bool) -> Tensor:
    """Return [B, H, N, d] of `query` [B, H, N, d], `key` and `value` [B, H, T, d] and `mask` [B, T]."""
    # The fused kernel's backward takes several times as long on a CPU.
    fused = not (training and query.device.type == "cpu")
    return (F.scaled_dot_product_attention if fused else written_out)(query, key, value, mask[:, None, None])


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Return [B, H, N, d] of `query` [B, H, N, d], `key` and `value` [B, H, T, d] and `mask` [B, 1, 1, T]."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    shares = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    seen: Tensor = shares.to(value.dtype) @ value
    return seen
