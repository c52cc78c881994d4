"""Masked terms over examples: a sum over valid labels and a count of them, so that a cut batch is exact.

Legend: N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import and_
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets, Term

MODALITIES = ("audio", "text", "video")
"""The columns of the target `present` [N, M], where a task names no others."""


def present(targets: Targets, *modalities: str, columns: Sequence[str] = MODALITIES) -> Tensor:
    """Return which examples [N] have all of some modalities, by the target `present` [N, M] and its `columns`."""
    return reduce(and_, [targets["present"][:, columns.index(name)] > 0 for name in modalities])


def several(targets: Targets, modalities: Sequence[str]) -> Tensor:
    """Return whether two examples or more have one of some modalities."""
    return torch.stack([present(targets, name).sum() > 1 for name in modalities]).any()


def squared_error(target: str, **facts: Any) -> Term:
    """Return the mean squared error over the labels that are not NaN, of any shape [N, ...].

    `facts` are those of `cross_entropy`: `weight`, `output`, `name`, `log_variance`; and `weigh`, which gives the
    weight [N, ...] of each label's error (`label_distribution`): the mean is still over the number of labels.
    """
    return elementwise(lambda output, label: (output - label).square(), "mse", target, **facts)


def absolute_error(target: str, **facts: Any) -> Term:
    """Return the mean absolute error over the labels that are not NaN; `facts` as `squared_error`'s."""
    return elementwise(lambda output, label: (output - label).abs(), "mae", target, **facts)


def huber(target: str, *, delta: float = 1.0, **facts: Any) -> Term:
    """Return the mean Huber loss over the labels that are not NaN: half the square up to `delta`, in their unit.

    Beyond, it is delta * (|error| - delta / 2); `facts` as `squared_error`'s.
    """
    return elementwise(partial(F.huber_loss, reduction="none", delta=delta), "huber", target, **facts)


def binary_cross_entropy(target: str, **facts: Any) -> Term:
    """Return the mean binary cross entropy of logits over the labels that are not NaN; `facts` as `squared_error`'s."""
    return elementwise(partial(F.binary_cross_entropy_with_logits, reduction="none"), "bce", target, **facts)


def cross_entropy(
    target: str, *, weight: float = 1.0, output: str | None = None, name: str | None = None,
    log_variance: int | None = None,
) -> Term:  # fmt: skip
    """Return the mean cross entropy of logits [N, C]: the output `output`, or that of the target's name.

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


def elementwise(
    loss: Callable[[Tensor, Tensor], Tensor], prefix: str, target: str, *, output: str | None = None,
    name: str | None = None, weigh: Callable[[Tensor], Tensor] | None = None, **facts: Any,
) -> Term:  # fmt: skip
    """Return the mean of an elementwise loss over the labels of `target` that are not NaN; `output` is read for it."""
    read = output or target

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        valid = torch.isfinite(targets[target])
        # The label is replaced before the loss, else a NaN would reach the gradient.
        label = torch.where(valid, targets[target], 0.0)
        losses = loss(outputs[read].float(), label)
        if weigh is not None:
            losses = losses * weigh(label)
        return torch.where(valid, losses, 0.0).sum()

    return Term(
        name=name or f"{prefix}_{target}", outputs=(read,), targets=(target,), sum=total,
        count=lambda targets: torch.isfinite(targets[target]).sum(), **facts,
    )  # fmt: skip


def _whole(shares: Tensor) -> Tensor:
    """Return which rows [N] of shares [N, C] are labels."""
    return torch.isfinite(shares).all(-1)
