"""Masked losses over examples: a sum over valid labels and a count of them, so that a cut batch is exact.

Legend: N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets

Elementwise = Callable[[Tensor, Tensor], Tensor]


def squared(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each element."""
    return (output - target).square()


def binary(output: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross entropy of logits and probabilities, element by element."""
    return F.binary_cross_entropy_with_logits(output, target, reduction="none")


class Masked:
    """An elementwise loss (`squared`, `binary`) over the labels that are not NaN, a term a target; additive."""

    def __init__(self, elementwise: Elementwise, weights: Mapping[str, float]):
        self.elementwise = elementwise
        self.weights = dict(weights)
        self.needs = tuple(weights)

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the summed loss [] a target."""
        sums = {}
        for name in self.weights:
            target = targets[name]
            valid = torch.isfinite(target)
            # The label is replaced before the loss, else a NaN would reach the gradient.
            loss = self.elementwise(outputs[name].float(), torch.where(valid, target, 0.0))
            sums[name] = torch.where(valid, loss, 0.0).sum()
        return sums

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return the number of valid labels [] a target."""
        return {name: torch.isfinite(targets[name]).sum() for name in self.weights}


class CrossEntropy:
    """Cross entropy of logits [N, C], a term a target; additive.

    A target is a class [N] (-100 where missing) or shares of the classes [N, C] (NaN where missing).
    """

    def __init__(self, weights: Mapping[str, float]):
        self.weights = dict(weights)
        self.needs = tuple(weights)

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the summed loss [] a target."""
        sums = {}
        for name in self.weights:
            logits, target = outputs[name].float(), targets[name]
            if target.ndim == 1:
                sums[name] = F.cross_entropy(logits, target, reduction="sum", ignore_index=-100)
            else:
                valid = _whole(target)
                # The shares are replaced before the loss, else a NaN would reach the gradient.
                shares = torch.where(valid[:, None], target, 0.0)
                sums[name] = F.cross_entropy(logits, shares, reduction="sum")
        return sums

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return the number of valid labels [] a target."""
        return {
            name: ((targets[name] != -100) if targets[name].ndim == 1 else _whole(targets[name])).sum()
            for name in self.weights
        }


def _whole(shares: Tensor) -> Tensor:
    """Return which rows [N] of shares [N, C] are labels."""
    return torch.isfinite(shares).all(-1)
