"""Masked terms over examples: a sum over valid labels and a count of them, so that a cut batch is exact.

Legend: N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets, Term

Elementwise = Callable[[Tensor, Tensor], Tensor]


def squared(output: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each element."""
    return (output - target).square()


def binary(output: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross entropy of logits and probabilities, element by element."""
    return F.binary_cross_entropy_with_logits(output, target, reduction="none")


def squared_error(
    target: str, *, weight: float = 1.0, output: str | None = None, name: str | None = None,
    log_variance: int | None = None,
) -> Term:  # fmt: skip
    """Return the mean squared error of an output over the labels that are not NaN, of any shape [N, ...]."""
    return elementwise(squared, name or f"mse_{target}", target, weight=weight, output=output,
                       log_variance=log_variance)  # fmt: skip


def binary_cross_entropy(
    target: str, *, weight: float = 1.0, output: str | None = None, name: str | None = None,
    log_variance: int | None = None,
) -> Term:  # fmt: skip
    """Return the mean binary cross entropy of logits over the labels that are not NaN, of any shape [N, ...]."""
    return elementwise(binary, name or f"bce_{target}", target, weight=weight, output=output,
                       log_variance=log_variance)  # fmt: skip


def elementwise(
    loss: Elementwise, name: str, target: str, *, weight: float = 1.0, output: str | None = None,
    log_variance: int | None = None,
) -> Term:  # fmt: skip
    """Return the mean of an elementwise loss over the labels of `target` that are not NaN; `output` is read for it."""
    read = output or target

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        valid = torch.isfinite(targets[target])
        # The label is replaced before the loss, else a NaN would reach the gradient.
        found = loss(outputs[read].float(), torch.where(valid, targets[target], 0.0))
        return torch.where(valid, found, 0.0).sum()

    return Term(
        name=name, outputs=(read,), targets=(target,), weight=weight, log_variance=log_variance, sum=total,
        count=lambda targets: torch.isfinite(targets[target]).sum(),
    )  # fmt: skip


def cross_entropy(
    target: str, *, weight: float = 1.0, output: str | None = None, name: str | None = None,
    log_variance: int | None = None,
) -> Term:  # fmt: skip
    """Return the mean cross entropy of logits [N, C].

    A label is a class [N] (-100 where missing) or shares of the classes [N, C] (NaN where missing).
    """
    read = output or target

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        logits, label = outputs[read].float(), targets[target]
        if label.ndim == 1:
            return F.cross_entropy(logits, label, reduction="sum", ignore_index=-100)
        # The shares are replaced before the loss, else a NaN would reach the gradient.
        shares = torch.where(_whole(label)[:, None], label, 0.0)
        return F.cross_entropy(logits, shares, reduction="sum")

    def count(targets: Targets) -> Tensor:
        label = targets[target]
        return ((label != -100) if label.ndim == 1 else _whole(label)).sum()

    return Term(
        name=name or f"ce_{target}", outputs=(read,), targets=(target,), weight=weight, log_variance=log_variance,
        sum=total, count=count,
    )  # fmt: skip


def _whole(shares: Tensor) -> Tensor:
    """Return which rows [N] of shares [N, C] are labels."""
    return torch.isfinite(shares).all(-1)
