"""The negative log-likelihood of a Gaussian whose spread the model predicts: how sure it is of each example.

Source: Nix and Weigend 1994; `beta` as Seitzer et al. 2022, On the pitfalls of heteroscedastic uncertainty estimation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from affect.task import SPREAD, Outputs, Targets, Term


def gaussian(target: str, *, beta: float = 0.0, weight: float = 1.0, log_variance: int | None = None) -> Term:
    """Return the mean NLL of the labels `target` [N] (NaN: missing), by the outputs `target` and `<target>_spread` [N].

    The spread is a positive standard deviation in the labels' unit. With `beta` over 0 an example weighs by its spread
    to the power of 2 beta, without a gradient, so that what is hard is not given up (.5 is usual). It may be negative,
    which weightings by ratios or logarithms of values (DWA, FAMO) do not take.
    """
    read = (target, target + SPREAD)

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        valid = torch.isfinite(targets[target])
        # Replaced before the loss, else a NaN would reach the gradient.
        label = torch.where(valid, targets[target], 0.0)
        mean, spread = (outputs[name].float() for name in read)
        losses = spread.log() + ((mean - label) / spread).square() / 2 + math.log(2 * math.pi) / 2
        return torch.where(valid, losses * spread.detach().pow(2 * beta), 0.0).sum()

    return Term(
        name=f"nll_{target}", outputs=read, targets=(target,), weight=weight, log_variance=log_variance, sum=total,
        count=lambda targets: torch.isfinite(targets[target]).sum(),
    )  # fmt: skip
