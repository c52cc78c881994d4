"""The concordance correlation coefficient as a term (Lin 1989): a statistic of the whole batch.

Legend: N examples of the global batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from affect.task import Term


def ccc(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the CCC [] of predictions [N] and targets [N]; a NaN target is missing.

    Fewer than two valid targets, or constant ones with constant predictions, give 0 with a gradient of 0.
    Computed in float64 where the device has it, else float32, centred by the targets' mean either way.
    """
    wide = torch.float32 if prediction.device.type == "mps" else torch.float64
    valid = torch.isfinite(target)
    n = valid.sum()
    # torch.where, never a product: 0 * NaN is NaN.
    y = torch.where(valid, target, 0.0).to(wide)
    shift = y.sum() / n.clamp(min=1)
    y = torch.where(valid, y - shift, 0.0)
    x = torch.where(valid, prediction.to(wide) - shift, 0.0)
    count = n.clamp(min=1).to(wide)
    mean_x, mean_y = x.sum() / count, y.sum() / count
    dx = torch.where(valid, x - mean_x, 0.0)
    dy = torch.where(valid, y - mean_y, 0.0)
    covariance = (dx * dy).sum() / count
    spread = (dx.square().sum() + dy.square().sum()) / count + (mean_x - mean_y).square()
    defined = (n > 1) & (spread > 0)
    value = torch.where(defined, 2.0 * covariance, 0.0) / torch.where(defined, spread, 1.0)
    return value.to(torch.float32)


def ccc_term(target: str, *, weight: float = 1.0, log_variance: int | None = None, output: str | None = None) -> Term:
    """Return 1 - CCC of the output `output`, or that of the target's name; see `statistic`."""
    facts: dict[str, Any] = {"weight": weight, "log_variance": log_variance, "output": output}
    return statistic("ccc", target, lambda x, y: 1.0 - ccc(x, y), **facts)


def statistic(
    kind: str, target: str, value: Callable[[Tensor, Tensor], Tensor], *, weight: float, log_variance: int | None,
    output: str | None = None,
) -> Term:  # fmt: skip
    """Return `value` of an output [N] (of the target's name, or `output`) and its labels [N].

    Fewer than two labels, or equal ones, tell it nothing.
    """
    read = output or target
    return Term(
        name=f"{kind}_{target}", outputs=(read,), targets=(target,), weight=weight, log_variance=log_variance,
        value=lambda outputs, targets: value(outputs[read], targets[target]),
        defined=lambda targets: varied(targets[target]),
    )  # fmt: skip


def varied(target: Tensor) -> Tensor:
    """Tell [] whether targets [N] (NaN: missing) hold two values that differ."""
    valid = torch.isfinite(target)
    low = torch.where(valid, target, torch.inf).amin()
    high = torch.where(valid, target, -torch.inf).amax()
    return high > low
