"""Attention of transformers' models whose dropout follows the example, through its interface for custom attention."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from affect.models.dropout import drop

NAME = "keyed"


def use_keyed_attention(model: Any) -> None:
    """Let a model of transformers attend by `attend`, where its kind takes attention from outside.

    Others (DeBERTa) drop out by a module of their own, which `replace_dropout` replaces.
    """
    if _registered() and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)


@functools.cache
def _registered() -> bool:
    """Register the attention, and masks such as the fused one takes; once, since transformers' import takes long."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return True


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *,
    dropout: float = 0.0, scaling: float | None = None, is_causal: bool | None = None, **named: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Return [B, T, H, d] of `query`, `key` and `value` [B, H, T, d], and no weights: transformers' fused attention.

    With dropout its kernels draw masks of their own, so that softmax and dropout are written out then.
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    if not dropout:
        attended: Tensor = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **named
        )[0]
        return attended, None
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is None:
        if getattr(module, "is_causal", True) if is_causal is None else is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
    elif attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + attention_mask
    weights = drop(scores.softmax(-1).to(value.dtype), dropout, module)
    return (weights @ value).transpose(1, 2).contiguous(), None
