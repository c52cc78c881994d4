"""GroupNorm over time that sees valid frames only."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise_over_time(x: Tensor, frames: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of `x` [B, T, C] over the first `frames` [B] steps, then scale and shift.

    For one unpadded utterance this is `nn.GroupNorm` with a group a channel, as in wavlm-base and
    wav2vec2-base; in a padded batch it gives that same result, where `nn.GroupNorm` mixes the padding into
    the mean and variance. Statistics are float32. B batch, T steps, C channels; `weight` and `bias` [C].
    """
    with torch.autocast(x.device.type, enabled=False):
        wide = x.float()
        valid = (torch.arange(x.shape[1], device=x.device) < frames[:, None])[..., None]
        count = frames.clamp(min=1).to(wide.dtype)[:, None, None]
        centred = wide - wide.masked_fill(~valid, 0).sum(1, keepdim=True) / count
        variance = centred.masked_fill(~valid, 0).square().sum(1, keepdim=True) / count
        scale = torch.rsqrt(variance + eps) * weight.float()
        return torch.addcmul(bias.float(), centred, scale).to(x.dtype)
