"""The convolutional feature encoder of wav2vec2, HuBERT and WavLM, with channels last.

transformers keeps [B, C, T] and transposes twice around each LayerNorm; each transpose becomes a copy of
the largest activations of the model. With channels last a window of a strided convolution is a row of a
matrix product, LayerNorm needs no transpose, and nothing is copied.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from affect.models.group_norm import normalise_over_time


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve `x` [B, T, C] with `weight` [D, C, K] to [B, (T - K) // stride + 1, D], as matrix products.

    The K taps are taken `stride` at a time: those of one group are neighbours in memory, so the group is a
    plain matrix product on a view of `x` (kernel 3 with stride 2 is two products, kernel 2 one).
    """
    batch, length, channels = x.shape
    width, _, kernel = weight.shape
    steps = (length - kernel) // stride + 1
    if channels == 1:
        return F.linear(x[..., 0].unfold(1, kernel, stride), weight[:, 0], bias)
    total: Tensor | None = None
    for start in range(0, kernel, stride):
        taps = min(stride, kernel - start)
        if taps == stride:
            rows = x[:, start : start + stride * steps].reshape(batch, steps, stride * channels)
        else:
            parts = [x[:, start + tap :: stride][:, :steps] for tap in range(taps)]
            rows = parts[0] if taps == 1 else torch.cat(parts, dim=-1)
        columns = weight[:, :, start : start + taps].transpose(1, 2).reshape(width, taps * channels)
        part = F.linear(rows, columns, bias if start == 0 else None)
        total = part if total is None else total + part
    return cast(Tensor, total)


class ConvLayer(nn.Module):
    """One layer of the feature encoder: convolution, norm (layer, group or none), activation.

    It takes over the modules of transformers' layer, under the same names.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.conv: nn.Conv1d = layer.conv
        self.layer_norm: nn.Module | None = getattr(layer, "layer_norm", None)
        self.activation: nn.Module = layer.activation

    def frames(self, samples: Tensor) -> Tensor:
        """Return how many outputs [B] lie wholly inside `samples` [B] valid inputs (at least 1)."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        return (torch.div(samples - kernel, stride, rounding_mode="floor") + 1).clamp(min=1)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """Return [B, T', D] of `x` [B, T, C]; `frames` [B] are the valid outputs."""
        x = convolve(x, self.conv.weight, self.conv.bias, self.conv.stride[0])
        if isinstance(self.layer_norm, nn.GroupNorm):
            norm = self.layer_norm
            x = normalise_over_time(x, frames, norm.weight, norm.bias, norm.eps)
        elif self.layer_norm is not None:
            x = self.layer_norm(x)
        return cast(Tensor, self.activation(x))


class ConvStack(nn.Module):
    """The whole feature encoder: waveform [B, S] -> features [B, T, C], padding never reaching a valid frame."""

    def __init__(self, feature_extractor: Any, *, frozen: bool, checkpointed: bool) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(layer) for layer in feature_extractor.conv_layers)
        self.frozen = frozen
        self.checkpointed = checkpointed
        if frozen:
            self.requires_grad_(False)

    @property
    def receptive_field(self) -> int:
        """The number of samples that the first frame sees."""
        field, stride = 1, 1
        for layer in self.layers():
            field += (layer.conv.kernel_size[0] - 1) * stride
            stride *= layer.conv.stride[0]
        return field

    def layers(self) -> list[ConvLayer]:
        """Return the layers, first to last."""
        return [cast(ConvLayer, layer) for layer in self.conv_layers]

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, T, C] and the number of valid frames [B] (at least 1).

        `waveform` [B, S] is zero beyond `samples` [B]. A frozen stack builds no graph.
        """
        short = self.receptive_field - waveform.shape[1]
        x = F.pad(waveform, (0, short)) if short > 0 else waveform
        x = x[..., None].to(self.layers()[0].conv.weight.dtype)
        frames = samples
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for layer in self.layers():
                frames = layer.frames(frames)
                if self.checkpointed and self.training and torch.is_grad_enabled():
                    x = cast(Tensor, checkpoint(layer, x, frames, use_reentrant=False))
                else:
                    x = layer(x, frames)
        return x, frames
