"""The concordance correlation coefficient as a loss (Lin 1989): a statistic of the whole batch, hence gathered.

Legend: N examples of the global batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from affect.task import Outputs, Targets


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


class CCC:
    """1 - CCC of each target, weighted; gathered."""

    def __init__(self, weights: Mapping[str, float]):
        self.weights = dict(weights)
        self.needs = tuple(weights)

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return 1 - CCC [] a target; a target without two valid labels gives 0."""
        return {name: _loss(outputs[name], targets[name]) for name in self.weights}


def _loss(prediction: Tensor, target: Tensor) -> Tensor:
    enough = torch.isfinite(target).sum() > 1
    return torch.where(enough, 1.0 - ccc(prediction, target), 0.0)
