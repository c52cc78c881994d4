"""WavLM's attention with gated relative positions, computed without its waste."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affect.models.dropout import drop

FIRST_LENGTH = 512
"""Frames that the bucket table covers from the start (about 10 s); it grows with the longest seen."""


def relative_buckets(length: int, *, buckets: int, max_distance: int) -> Tensor:
    """Return the bucket [2 * length - 1] of each distance key - query from -(length - 1) to length - 1.

    Half of the buckets are for keys after the query; of each half, one half are exact distances and the
    rest grow logarithmically up to `max_distance`. Source: WavLM (Chen et al. 2022), after T5. The result
    for a shorter length is the middle of that for a longer one.
    """
    distance = torch.arange(-(length - 1), length)
    half = buckets // 2
    exact = half // 2
    size = distance.abs()
    grown = torch.log(size.float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + grown.clamp(min=0)).long().clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(size < exact, size, far)


def skewed(values: Tensor, length: int) -> Tensor:
    """Return [1, H, T, T] whose row i is `values` [H, 2T - 1] from T - 1 - i on, for `length` T.

    For a compiler, which makes a graph for each length of a window (`unfold`). Rows of 2T, read as rows of 2T - 1,
    begin one later each.
    """
    rows = F.pad(values, (0, 1))[:, None].expand(-1, length, -1).flatten(1)
    return rows[:, : length * (2 * length - 1)].view(-1, length, 2 * length - 1)[None, :, :, length - 1 :]


class GatedAttention(nn.Module):
    """Multi-head self-attention with gated relative position bias, equal to transformers' `WavLMAttention`.

    It takes over that module's parameters, under the same names. What it saves: the bucket of a distance is
    computed once for the longest length and sliced, its embedding is looked up for the 2T - 1 distances and
    not for all T * T pairs (which also makes the embedding's gradient cheap), the bias is not repeated
    for each example, gate and padding mask are added in one pass, and no attention weights are averaged and
    returned. Its projections are called as modules, so adapters on them (LoRA) get a gradient.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.num_heads: int = attention.num_heads
        self.head_dim: int = attention.head_dim
        self.dropout: float = attention.dropout
        self.num_buckets: int = attention.num_buckets
        self.max_distance: int = attention.max_distance
        self.q_proj: nn.Linear = attention.q_proj
        self.k_proj: nn.Linear = attention.k_proj
        self.v_proj: nn.Linear = attention.v_proj
        self.out_proj: nn.Linear = attention.out_proj
        self.gru_rel_pos_const: nn.Parameter = attention.gru_rel_pos_const
        self.gru_rel_pos_linear: nn.Linear = attention.gru_rel_pos_linear
        self.rel_attn_embed: nn.Embedding | None = getattr(attention, "rel_attn_embed", None)
        self.buckets = torch.empty(0, dtype=torch.long)
        # All there are: farther apart, the bucket stays. Made here because an export may not compute a logarithm.
        self.all_buckets = relative_buckets(
            self.max_distance + 1, buckets=self.num_buckets, max_distance=self.max_distance
        )

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        index: int = 0,
        **kwargs: Any,
    ) -> tuple[Tensor, None, Tensor]:
        """Return the attended states [B, T, D], None (no weights) and the ungated bias [1, H, T, T].

        `attention_mask` [B, 1, 1, T] is added to the scores: 0 where valid, -inf at padding. H heads.
        """
        batch, length, width = hidden_states.shape
        shape = (batch, length, self.num_heads, self.head_dim)
        if position_bias is None:
            position_bias = self.position_bias(length, hidden_states.device)
        gate = self.gate(hidden_states.view(shape))
        mask = hidden_states.new_zeros(()) if attention_mask is None else attention_mask
        bias = torch.addcmul(mask.to(gate.dtype), gate, position_bias.to(gate.dtype))
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        attended = self.attend(query, key, value, bias)
        output: Tensor = self.out_proj(attended.transpose(1, 2).reshape(batch, length, width))
        return output, None, position_bias

    def position_bias(self, length: int, device: torch.device) -> Tensor:
        """Return the learned bias [1, H, T, T] of each query and key from their distance."""
        if self.rel_attn_embed is None:
            raise ValueError("only the first layer has relative positions: pass its position_bias on")
        if torch.compiler.is_exporting():
            return self.exported_bias(length)
        size = (len(self.buckets) + 1) // 2
        if size < length or self.buckets.device != device:
            # Computed on the CPU: a logarithm rounded differently on a device moves a bucket's edge.
            size = max(length, size, FIRST_LENGTH)
            table = relative_buckets(size, buckets=self.num_buckets, max_distance=self.max_distance)
            self.buckets = table.to(device)
        buckets = self.buckets[size - length : size + length - 1]
        values: Tensor = self.rel_attn_embed(buckets).t()
        if torch.compiler.is_compiling():
            return skewed(values, length)
        # Row i of the matrix is the window that starts at distance -i: windows in reverse order.
        return values.unfold(1, length, 1).flip(1)[None]

    def exported_bias(self, length: int) -> Tensor:
        """Return what `position_bias` does, as a graph for every length."""
        assert self.rel_attn_embed is not None
        far = self.max_distance
        place = torch.arange(length)
        distance = (place[None] - place[:, None]).clamp(-far, far)
        values: Tensor = self.rel_attn_embed(self.all_buckets[distance + far])
        return values.permute(2, 0, 1)[None]

    def gate(self, heads: Tensor) -> Tensor:
        """Return the gate [B, H, T, 1] on the position bias from the states by head [B, T, H, D / H]."""
        batch, length = heads.shape[:2]
        halves = self.gru_rel_pos_linear(heads).view(batch, length, self.num_heads, 2, 4).sum(-1)
        first, second = torch.sigmoid(halves).transpose(1, 2).chunk(2, dim=-1)
        return first * (second * self.gru_rel_pos_const - 1.0) + 2.0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return softmax(query key' / sqrt(d) + bias) value, each [B, H, T, d], `bias` [B, H, T, T]."""
        dropout = self.dropout if self.training else 0.0
        # The fused kernels draw masks of their own.
        if dropout == 0.0 and (query.device.type != "cpu" or not torch.is_grad_enabled()):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        # On a CPU the fused kernel has no gradient for the bias and torch falls back to a slower composition.
        return self.composed(query, key, value, bias, dropout)

    def composed(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, dropout: float) -> Tensor:
        """Return what `attend` does, written out, with `dropout` keyed by example."""
        scaled = (query * self.head_dim**-0.5).flatten(0, 1)
        scores = torch.baddbmm(bias.flatten(0, 1), scaled, key.flatten(0, 1).transpose(1, 2))
        weights = drop(scores.softmax(-1).view_as(bias), dropout, self).flatten(0, 1)
        return torch.bmm(weights.to(value.dtype), value.flatten(0, 1)).view_as(query)
