"""Pearson's linear correlation (PLCC) as a term: a statistic of the whole batch.

Legend: N examples of the global batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from affect.losses.ccc import statistic
from affect.task import Term

_FLAT = 1e-12
"""Predictions whose variance is under this part of the labels' count as constant: their correlation is rounding."""


def plcc(prediction: Tensor, target: Tensor) -> Tensor:
    """Return Pearson's correlation [] of predictions [N] and targets [N]; a NaN target is missing.

    Fewer than two valid targets, or a constant on either side, give 0 with a gradient of 0. Computed in float64 where
    the device has it, else float32, centred either way.
    """
    wide = torch.float32 if prediction.device.type == "mps" else torch.float64
    valid = torch.isfinite(target)
    count = valid.sum().clamp(min=1)
    x, y = (_centred(values.to(wide), valid, count) for values in (prediction, target))
    cov, var_x, var_y = ((one * other).sum() / count for one, other in ((x, y), (x, x), (y, y)))
    defined = (var_y > 0) & (var_x > _FLAT * var_y)
    # Replaced before the root, whose gradient at 0 is infinite.
    spread = torch.where(defined, var_x * var_y, 1.0).sqrt()
    return (torch.where(defined, cov, 0.0) / spread).to(torch.float32)


def plcc_term(target: str, *, weight: float = 1.0, log_variance: int | None = None) -> Term:
    """Return (1 - PLCC) / 2 of the output `target` [N]: 0 to 1; fewer than two labels, or equal ones, tell it nothing.

    The offset and the scale of predictions are left to other terms.
    """
    return statistic("plcc", target, lambda x, y: (1.0 - plcc(x, y)) / 2, weight=weight, log_variance=log_variance)


def _centred(values: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    # torch.where, never a product: 0 * NaN is NaN. Twice, since one mean of large numbers is off by rounding.
    for _ in range(2):
        values = torch.where(valid, values, 0.0)
        values = values - values.sum() / count
    return torch.where(valid, values, 0.0)
