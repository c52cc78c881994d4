"""Dropout whose mask is cheap to draw on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 1 << 16


def drop(x: Tensor, probability: float, training: bool) -> Tensor:
    """Zero each value of `x` with `probability` and scale the rest to keep the mean, while training.

    On a CPU torch draws one Bernoulli variable a value, which took 15 % of a training step of the small
    WavLM; here one 64-bit number of the same generator serves four values, with the probability rounded to
    1 / 65536 and the scale following it, a third of the time. Elsewhere this is `F.dropout`.
    """
    if not training or probability == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability, True)
    return x * mask(x.numel(), probability).view(x.shape).to(x.dtype)


def mask(count: int, probability: float) -> Tensor:
    """Return `count` factors on the CPU, float32: 0 with `probability`, the others what keeps the mean at 1."""
    dropped = min(max(round(probability * STEPS), 1), STEPS - 1)
    numbers = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    kept = numbers.view(torch.int16)[:count] >= dropped - STEPS // 2
    return kept * (STEPS / (STEPS - dropped))


class Dropout(nn.Module):
    """`drop` as a module."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.p = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` of any shape, dropped out while training."""
        return drop(x, self.p, self.training)


def replace_dropout(module: nn.Module) -> None:
    """Put `Dropout` in the place of every `nn.Dropout` inside `module`."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            replace_dropout(child)
