"""AdamW or Adam, the learning rate of each step, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from affect.recipe import Optim


def make(groups: list[dict[str, Any]], optim: Optim) -> torch.optim.Optimizer:
    """Return the optimiser over a task's parameter groups; each group remembers its peak rate as `peak`."""
    for group in groups:
        group["peak"] = group["lr"]
    device = groups[0]["params"][0].device
    kind = torch.optim.AdamW if optim.algorithm == "adamw" else torch.optim.Adam
    return kind(groups, betas=optim.betas, fused=device.type in ("cpu", "cuda"))


def factor(optim: Optim, step: int, steps: int) -> float:
    """Return what the peak rates are multiplied by at `step` (from 0) of `steps`; plateau halves it further.

    Warm-up is linear and ends at 1; the cosine (Loshchilov & Hutter 2017) ends just above 0 at the last step.
    """
    warm = round(optim.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if optim.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return 1.0


def set_rates(optimizer: torch.optim.Optimizer, multiple: float) -> dict[str, float]:
    """Set every group's rate to its peak times `multiple` and return the rates by group name."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * multiple
    return {str(group["name"]): float(group["lr"]) for group in optimizer.param_groups}


class Average:
    """An exponential moving average of a model's weights, in a model of its own, whole on every rank."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.count = 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Take in the weights after a step, by name."""
        self.count += 1
        # Less memory at first: else the average would be the random start for 1 / (1 - decay) steps.
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        means = self.model.state_dict()
        for name, value in tensors:
            mean = means[name]
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1.0 - decay)
            else:
                mean.copy_(value)
