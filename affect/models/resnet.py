"""A ResNet over time and frequency without batch statistics (He et al. 2016), for speakers' features.

Legend: B batch, C channels, T steps, F bins, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.models.group_norm import normalise_over_time
from affect.models.layer_stack import mask_frames


class Norm(nn.Module):
    """Normalises channels, step and bin by themselves (by="frame"), or each one over a block's valid steps and bins."""

    def __init__(self, channels: int, by: str) -> None:
        super().__init__()
        self.by = by
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Return [B, C, T, F] of `x` [B, C, T, F], of which the first `steps` [B] count."""
        last = x.permute(0, 2, 3, 1)
        if self.by == "frame":
            return F.layer_norm(last, self.weight.shape, self.weight, self.bias).permute(0, 3, 1, 2)
        rows = last.flatten(1, 2)
        normed = normalise_over_time(rows, steps * x.shape[3], self.weight, self.bias, 1e-5)
        return normed.view(last.shape).permute(0, 3, 1, 2)


class Convolution(nn.Module):
    """A convolution and its norm; steps beyond those that count are silent, before and after."""

    def __init__(self, before: int, channels: int, kernel: int, stride: int, norm: str) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = Norm(channels, norm)

    def forward(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, O, T', F'] of `x` [B, C, T, F] and the steps that count [B], of `steps` [B]."""
        steps = torch.div(steps + self.stride - 1, self.stride, rounding_mode="floor")
        y = self.norm(self.conv(x), steps)
        return y.masked_fill(~mask_frames(steps, y.shape[2])[:, None, :, None], 0), steps


class BasicBlock(nn.Module):
    """Two convolutions beside their input."""

    def __init__(self, before: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.first = Convolution(before, channels, 3, stride, norm)
        self.second = Convolution(channels, channels, 3, 1, norm)
        changes = stride > 1 or before != channels
        self.beside = Convolution(before, channels, 1, stride, norm) if changes else None

    def forward(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `Convolution` does."""
        y, after = self.first(x, steps)
        y, _ = self.second(F.relu(y), after)
        kept = x if self.beside is None else self.beside(x, steps)[0]
        return F.relu(y + kept), after


class ResNet(nn.Module):
    """Four stages, the last three of which halve time and frequency; then mean and deviation of segments of 16 steps.

    Segments begin every 8 steps: each is of a step of the last stage and the one behind it.
    """

    def __init__(self, bins: int, channels: Sequence[int], blocks: Sequence[int], width: int, norm: str) -> None:
        super().__init__()
        self.first = Convolution(1, channels[0], 3, 1, norm)
        stages: list[nn.Module] = []
        before = channels[0]
        for k, (size, count) in enumerate(zip(channels, blocks, strict=True)):
            for block in range(count):
                stages.append(BasicBlock(before, size, 2 if k and not block else 1, norm))
                before = size
        self.stages = nn.ModuleList(stages)
        for _ in channels[1:]:
            bins = (bins + 1) // 2
        self.output = nn.Linear(2 * before * bins, width)

    def forward(self, mel: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames [B, T / 8, D] of `mel` [B, T, F] and how many count [B], of `steps` [B]."""
        x, steps = self.first(mel[:, None].contiguous(memory_format=torch.channels_last), steps)
        x = F.relu(x)
        for stage in self.stages:
            x, steps = stage(x, steps)
        mean, deviation = segments(x.permute(0, 2, 3, 1).flatten(2).float(), steps)
        return cast(Tensor, self.output(torch.cat([mean, deviation], dim=-1).to(x.dtype))), steps


def segments(frames: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation [B, T, C] of each of `frames` [B, T, C] and the one behind it, if both count.

    The first `steps` [B] count; the last of them is a segment by itself.
    """
    behind = F.pad(frames[:, 1:], (0, 0, 0, 1))
    both = mask_frames(steps - 1, frames.shape[1])[..., None]
    half = torch.where(both, (frames - behind) / 2, 0.0)
    # The floor keeps the square root's gradient finite where both are alike.
    return frames - half, (half.square() + 1e-5).sqrt()
