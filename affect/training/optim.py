"""AdamW or Adam, the learning rate of each step, and the moving average of weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from affect.coverage import behind_prefix, holes
from affect.errors import AffectError, first_few
from affect.recipe import Optim

WINDOW = 500
"""Steps whose gradient norms clipping by a percentile looks at."""
_RISE, _FALL = 25.0, 1e4
"""Of a cycle: the peak over the first rate, and the first rate over the last (torch's defaults)."""


def make(groups: list[dict[str, Any]], optim: Optim) -> torch.optim.Optimizer:
    """Return the optimiser over a task's parameter groups; each group remembers its peak rate as `peak`."""
    for group in groups:
        group["peak"] = group["lr"]
    kind = torch.optim.AdamW if optim.algorithm == "adamw" else torch.optim.Adam
    return kind(groups, betas=optim.betas, fused=True)


@torch.no_grad()
def take_step(optimizer: torch.optim.Optimizer) -> None:
    """Take a step of what `make` gave, on a CPU: torch's own without what it looks up anew in each."""
    moves = []
    for group in optimizer.param_groups:
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        moves.append((group, parameters, [optimizer.state[parameter] for parameter in parameters]))
    if not all(state for _, _, states in moves for state in states):
        # The first one makes the moments.
        optimizer.step()
        return
    for group, parameters, states in moves:
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        kernel(
            parameters, [parameter.grad for parameter in parameters], means, squares, [], steps, lr=group["lr"],
            beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False,
            maximize=False,
        )  # fmt: skip


def factor(optim: Optim, step: int, steps: int) -> float:
    """Return what the peak rates are multiplied by at `step` (from 0) of `steps`; plateau halves it further.

    Warm-up is linear and ends at 1; the cosine (Loshchilov & Hutter 2017) ends just above 0 at the last step.
    """
    if optim.schedule == "onecycle":
        return _one_cycle(optim.warmup, step, steps)
    warm = round(optim.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if optim.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
    return 1.0


def _one_cycle(share: float, step: int, steps: int) -> float:
    """Return the rate of a cycle (Smith & Topin 2019) as a part of its peak, with torch's OneCycleLR's numbers.

    Half a cosine from 1/25 up to 1 over a `share` of the steps, then one down to 1/250,000 at the last step. Where the
    rise has one step or none, which torch divides by zero for, or the run has one, that step is the peak.
    """
    start, end = 1 / _RISE, 1 / (_RISE * _FALL)
    top = share * steps - 1
    if step <= top and top > 0:
        return start + (1 - start) * 0.5 * (1 - math.cos(math.pi * step / top))
    top = max(0.0, top)
    rest = steps - 1 - top
    progress = (step - top) / rest if rest > 0 else 0.0
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def limit(norms: Sequence[float], optim: Optim) -> float | None:
    """Return the norm to clip to, a percentile of recent ones (AutoClip; Seetharaman et al. 2020); None of none."""
    if optim.clip_percentile is None or not norms:
        return None
    return float(np.percentile(norms, optim.clip_percentile))


def take_over(model: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Load what fits a model of another run's weights, and return what that was.

    Raises AffectError where nothing fits, a layer in the middle of a stack is missing, or names would fit what is left
    new without a wrapper's prefix.
    """
    own = model.state_dict()
    fits = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    if not fits:
        raise AffectError(
            "train.init_from: none of its weights fits this model by name and shape: "
            f"it has {first_few(sorted(weights))}, the model {first_few(sorted(own))}"
        )
    if lacking := holes(model, weights):
        raise AffectError(f"train.init_from: its weights lack {first_few(lacking)}, and have layers behind")
    if prefixed := behind_prefix(own, weights):
        raise AffectError(
            f"train.init_from: {len(prefixed)} of its weights ({first_few(prefixed)}) are called as the model's own "
            "behind a prefix, and would be left out: take it off"
        )
    model.load_state_dict(fits, strict=False)
    fresh = [name for name in own if name not in fits]
    unused = [name for name in weights if name not in fits]
    return (
        f"starting from other weights: {len(fits)} tensors taken, {len(fresh)} new{_some(fresh)}, "
        f"{len(unused)} of theirs left{_some(unused)}"
    )


def _some(names: Sequence[str]) -> str:
    return f" ({first_few(names)})" if names else ""


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
