"""The convolutions of wav2vec2, HuBERT and WavLM, with channels last.

transformers keeps [B, C, T] and transposes twice around each LayerNorm; each transpose becomes a copy of
the largest activations of the model. With channels last the rows of a strided convolution are rows of a
matrix, LayerNorm needs no transpose, and nothing is copied, forward or backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from affect.frozen import once
from affect.models.group_norm import normalise_over_time


def split_taps(weight: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return `weight` [D, C, K] as matrices of the first `stride` taps [stride * C, D] and of the others."""
    taps = weight.permute(2, 1, 0)
    return taps[:stride].flatten(0, 1), taps[stride:].flatten(0, 1)


class StridedConvolution(torch.autograd.Function):
    """Convolution of rows [R, C] with kernel K, stride <= K <= 2 * stride, as two matrix products.

    Row n of the result takes the input's rows n * stride to n * stride + K - 1. `stride` rows of the input
    are one row of a matrix without being copied, and the taps beyond them are the beginning of the next one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        """Return [R / stride, D]; the last row, which lacks the taps beyond the end, is to be ignored."""
        first, rest = split_taps(weight, stride)
        rows = x.view(-1, first.shape[0])
        y = rows @ first if bias is None else torch.addmm(bias, rows, first)
        y[:-1].addmm_(rows[1:, : rest.shape[0]], rest)
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        first, rest = split_taps(weight, ctx.stride)
        rows = x.view(-1, first.shape[0])
        to_x: Tensor | None = None
        to_weight: Tensor | None = None
        if ctx.needs_input_grad[0]:
            to_rows = gradient @ first.t()
            to_rows[1:, : rest.shape[0]].addmm_(gradient[:-1], rest.t())
            to_x = to_rows.view_as(x)
        if ctx.needs_input_grad[1]:
            tail = rows[1:, : rest.shape[0]].t() @ gradient[:-1]
            taps = torch.cat([rows.t() @ gradient, tail])
            to_weight = taps.view(-1, x.shape[1], gradient.shape[1]).permute(2, 1, 0)
        return to_x, to_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None, None


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve `x` [B, T, C] with `weight` [D, C, K].

    One channel gives [B, (T - K) // stride + 1, D], and so does an export; more give [B, T / stride, D] (T is a
    multiple of the stride), of which rows from (T - K) // stride + 1 on mix what does not belong together.
    """
    if torch.compiler.is_exporting():  # No autograd function, and none of its views: the plain operator.
        return F.conv1d(x.transpose(1, 2), weight, bias, stride).transpose(1, 2)
    if x.shape[-1] == 1:
        return F.linear(x[..., 0].unfold(1, weight.shape[2], stride), weight[:, 0], bias)
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
        bias = bias.to(dtype) if bias is not None else None
    apply: Callable[..., Tensor] = StridedConvolution.apply
    y = apply(x.flatten(0, 1), weight, bias, stride)
    return y.view(x.shape[0], x.shape[1] // stride, weight.shape[0])


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
        norm = self.layer_norm
        if isinstance(norm, nn.GroupNorm):
            x = normalise_over_time(x, frames, norm.weight, norm.bias, norm.eps)
        elif isinstance(norm, nn.LayerNorm):
            x = F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return cast(Tensor, self.activation(x))


class ConvStack(nn.Module):
    """The whole feature encoder: waveform [B, S] -> features [B, T, C], padding never reaching a valid frame."""

    by_row = True
    """Whether a CPU may take utterances one by one. Engines that gather a module's weights at each call set it off:
    ranks with other numbers of utterances would wait for each other for ever."""

    def __init__(self, feature_extractor: Any, *, frozen: bool, checkpointed: bool) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(layer) for layer in feature_extractor.conv_layers)
        self.frozen = frozen
        self.checkpointed = checkpointed
        self.receptive_field, self.hop = self.measure()
        if frozen:
            self.requires_grad_(False)

    def measure(self) -> tuple[int, int]:
        """Return how many samples a frame sees, and how many lie between two frames."""
        field, hop = 1, 1
        for layer in self.layers():
            field += (layer.conv.kernel_size[0] - 1) * hop
            hop *= layer.conv.stride[0]
        return field, hop

    def layers(self) -> list[ConvLayer]:
        """Return the layers, first to last."""
        return [cast(ConvLayer, layer) for layer in self.conv_layers]

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, T, C] and the number of valid frames [B] (at least 1).

        `waveform` [B, S] is zero beyond `samples` [B]. A frozen stack builds no graph. On a CPU the
        utterances go through one by one, each at its own length: what one layer writes is then still in the
        cache when the next reads it (a third to a half of the time saved), and padding costs nothing.
        """
        if torch.compiler.is_exporting():
            # One graph for every length: a frame more than there may be, which the mask leaves out.
            return self.run(F.pad(waveform, (0, self.receptive_field)), samples)
        if not self.frozen:
            return self.encode(waveform, samples)
        with torch.no_grad():
            return once(self, lambda: self.encode(waveform, samples))

    def encode(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `forward` does, in the way that is fastest here."""
        if waveform.device.type != "cpu" or len(waveform) == 1 or not self.by_row:
            return self.run(waveform, samples)
        steps = self.steps(waveform.shape[1])
        rows = []
        for row, count in enumerate(samples.tolist()):
            x, _ = self.run(waveform[row : row + 1, : max(count, 1)], samples[row : row + 1])
            rows.append(F.pad(x, (0, 0, 0, steps - x.shape[1])))
        frames = samples
        for layer in self.layers():
            frames = layer.frames(frames)
        return torch.cat(rows), frames

    def steps(self, length: int) -> int:
        """Return the number of frames of `length` samples (at least 1)."""
        return max(length - self.receptive_field, 0) // self.hop + 1

    def run(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, T, C] and the number of valid frames [B] of all rows at once."""
        # The length at which every layer's input is a multiple of its stride; the frames beyond the
        # convolutions' own number are cut off again.
        length = max(waveform.shape[1], self.receptive_field)
        first = self.layers()[0].conv
        even = (length + self.hop - 1) // self.hop * self.hop + first.kernel_size[0] - first.stride[0]
        x = F.pad(waveform, (0, even - waveform.shape[1]))[..., None]
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(first.weight.dtype)
        frames = samples
        for layer in self.layers():
            frames = layer.frames(frames)
            if self.checkpointed and self.training and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(layer, x, frames, use_reentrant=False))
            else:
                x = layer(x, frames)
        return x[:, : self.steps(length)], frames


class PositionalConvolution(nn.Module):
    """The grouped convolution that tells positions [B, T, D] -> [B, T, D], equal to transformers' own.

    It takes over the modules of `embedding`, under the same names. As a 2-d convolution over one row, in
    the memory order that its input has anyway, it takes half the time on a CPU.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.conv: nn.Conv1d = embedding.conv
        self.activation: nn.Module = embedding.activation

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the position embedding of `hidden` [B, T, D], which is zero at padding."""
        steps = hidden.shape[1]
        if hidden.device.type == "cpu":
            image = hidden.transpose(1, 2).unsqueeze(2)
            padding = (0, int(self.conv.padding[0]))
            weight = self.conv.weight.unsqueeze(2)
            y = F.conv2d(image, weight, self.conv.bias, padding=padding, groups=self.conv.groups).squeeze(2)
        else:
            y = self.conv(hidden.transpose(1, 2))
        # An even kernel gives one step more than it was given.
        return cast(Tensor, self.activation(y[..., :steps].transpose(1, 2)))
