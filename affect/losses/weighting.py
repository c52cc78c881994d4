"""Sums of losses: with fixed weights, or weighed by learned log variances (Kendall et al. 2018).

Legend: N examples of the global batch, K terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from affect.task import GatheredLoss, Loss, Outputs, Targets


def terms_of(loss: Loss, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Return a loss's terms [] for one whole batch on one machine; a term without a valid unit is 0."""
    if isinstance(loss, GatheredLoss):
        return loss.terms(outputs, targets)
    counts = loss.counts(targets)
    return {name: total / counts[name].clamp(min=1) for name, total in loss.sums(outputs, targets).items()}


def total_of(loss: Loss, outputs: Outputs, targets: Targets) -> Tensor:
    """Return a loss [] for one whole batch on one machine: the reference that every cut must equal."""
    terms = terms_of(loss, outputs, targets)
    return torch.stack([loss.weights[name] * value for name, value in terms.items()]).sum()


class Sum:
    """A sum of losses named apart, gathered as a whole; `names` prefix the terms where two would collide."""

    def __init__(self, losses: dict[str, Loss]):
        self.losses = losses
        self.weights = {f"{key}_{t}": w for key, loss in losses.items() for t, w in loss.weights.items()}
        self.needs = tuple(dict.fromkeys(need for loss in losses.values() for need in needs_of(loss)))

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the terms [] of every loss."""
        return {
            f"{key}_{name}": value
            for key, loss in self.losses.items()
            for name, value in terms_of(loss, outputs, targets).items()
        }


class Uncertainty:
    """exp(-s) * term + s for each term, s a learned log variance; gathered.

    The model owns s and gives it as the output `log_variance` [N, K], a copy an example, in the order of `order`
    (default: the loss's terms); the copies are averaged, so the gradient reaches the parameter once.
    """

    def __init__(self, loss: Loss, order: Sequence[str] | None = None):
        self.loss = loss
        self.order = tuple(order or loss.weights)
        self.weights = dict.fromkeys(self.order, 1.0)
        self.needs = (*needs_of(loss), "log_variance")

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return each weighed term [], its own weight applied before the learned one."""
        s = outputs["log_variance"].float().mean(0)
        values = terms_of(self.loss, outputs, targets)
        weighed = {}
        for k, name in enumerate(self.order):
            value = self.loss.weights[name] * values[name]
            # A term without a valid label is exactly 0: its log variance must not drift either.
            weighed[name] = torch.where(value.detach() != 0, torch.exp(-s[k]) * value + s[k], 0.0)
        return weighed


def needs_of(loss: Loss) -> tuple[str, ...]:
    """Return the names of the outputs that a loss reads."""
    return tuple(loss.needs)
