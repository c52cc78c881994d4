"""Running transformer layers: additive masks, LayerDrop that every engine can follow, which states to keep."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.keyed import coin


def mask_frames(frames: Tensor, length: int) -> Tensor:
    """Return the mask [B, T] that is True on the first `frames` [B] of `length` T frames."""
    return torch.arange(length, device=frames.device) < frames[:, None]


def masked_waveform(waveform: Tensor, samples: Tensor) -> Tensor:
    """Return `waveform` [B, S] in float32 with zeros beyond `samples` [B]; raises AffectError for whole numbers."""
    if not waveform.is_floating_point():
        kind = str(waveform.dtype).removeprefix("torch.")
        raise AffectError(f"a waveform is samples from -1 to 1 in floating point, not {kind}: divide by full scale")
    return waveform.float().masked_fill(~mask_frames(samples, waveform.shape[1]), 0)


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [B, 1, 1, T] to add to attention scores: 0 where `mask` [B, T] is True, else -inf."""
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, -torch.inf)[:, None, None]


def run_layers(
    layers: nn.ModuleList,
    hidden: Tensor,
    call: Callable[[nn.Module, Tensor], Tensor],
    *,
    layerdrop: float,
    training: bool,
) -> list[Tensor]:
    """Return the states [B, T, D] before the first layer and after each one.

    A dropped layer is run and its result discarded: its parameters then get a gradient of zero and not
    none, as engines want it. A step drops the same layers for all examples of its global batch.
    """
    states = [hidden]
    for k, layer in enumerate(layers):
        new = call(layer, hidden)
        drops = training and layerdrop > 0
        hidden = torch.where(coin(layers, k).to(new.device) < layerdrop, hidden, new) if drops else new
        states.append(hidden)
    return states
