"""Sums of losses: with fixed weights, or weighed by learned log variances (Kendall et al. 2018).

Legend: N examples of the global batch, K terms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from affect.task import AdditiveLoss, Loss, Outputs, Targets, terms_of


class Added:
    """A sum of additive losses, whose terms have different names; additive, as they are."""

    def __init__(self, losses: Sequence[AdditiveLoss]):
        self.losses = tuple(losses)
        self.weights = {name: weight for loss in losses for name, weight in loss.weights.items()}
        self.needs = tuple(dict.fromkeys(need for loss in losses for need in loss.needs))

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return each term's sum [] over its valid units."""
        return {name: value for loss in self.losses for name, value in loss.sums(outputs, targets).items()}

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return each term's number of valid units []."""
        return {name: count for loss in self.losses for name, count in loss.counts(targets).items()}


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
