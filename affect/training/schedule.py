"""The schedule of a run: each step's epoch and cut, and the orders that its loader follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from affect.recipe import Train
from affect.task import Key
from affect.training import plan
from affect.training.costs import Costs
from affect.training.loader import Order

_SHOWN = 256
"""Steps whose cuts figures are made of, at most: of a long epoch all would take seconds."""


class Schedule:
    """What a run does at each step: a pure function of lengths, recipe, seed, world, budget and costs."""

    def __init__(
        self, lengths: NDArray[np.float64] | Callable[[int], NDArray[np.float64]], train: Train, seed: int, world: int,
        budget: float, costs: Costs | None = None,
    ):  # fmt: skip
        """`lengths` are those of the training rows [n], or a function of the epoch that gives them."""
        self.batch, self.seed, self.world, self.budget, self.costs = train.batch, seed, world, budget, costs
        self.lengths = lengths if callable(lengths) else lambda epoch: lengths
        n = len(self.lengths(0))
        self.per_epoch = plan.steps_per_epoch(n, train.batch)
        self.steps = min(train.epochs * self.per_epoch, train.steps or train.epochs * self.per_epoch)
        self._draw = lru_cache(maxsize=2)(lambda epoch: plan.draw(n, train.batch, seed, epoch))
        # Asked for ahead by the loader and again by the loop.
        self.cut = lru_cache(maxsize=256)(self._cut)

    def epoch(self, step: int) -> int:
        """Return the epoch (from 0) of a step (from 0)."""
        return step // self.per_epoch

    @property
    def epochs(self) -> int:
        """The epochs that its steps take, the last of them perhaps in part."""
        return self.epoch(self.steps - 1) + 1

    def ends_epoch(self, step: int) -> bool:
        """Tell whether `step` is the last of its epoch or of the run."""
        return (step + 1) % self.per_epoch == 0 or step + 1 == self.steps

    def _cut(self, step: int) -> plan.Cut:
        epoch, k = divmod(step, self.per_epoch)
        return plan.cut(self.lengths(epoch), self._draw(epoch)[k], self.world, self.budget, self.costs)

    def orders(self, rank: int, start: int) -> Iterator[Order]:
        """Yield the micro-batches of a rank from step `start` to the end of the run."""
        for step in range(start, self.steps):
            key = Key(seed=self.seed, epoch=self.epoch(step))
            for micro in self.cut(step).ranks[rank]:
                yield Order(micro, key)

    def over_budget(self) -> NDArray[np.int64]:
        """Return the rows of the first epoch that are longer than the budget and so travel alone."""
        return np.flatnonzero(self.lengths(0) > self.budget)

    def figures(self, steps: int) -> dict[str, float]:
        """Return the micro-batches, the padding and the ranks' loads of the first steps (256 or an epoch at most).

        The slowest rank is over the mean in seconds where they are known, else in padded length, as the largest share.
        """
        steps = min(steps, self.steps, self.per_epoch, _SHOWN)
        cuts, lengths, costs = [self.cut(step) for step in range(steps)], self.lengths(0), self.costs
        padded = [[plan.cost(lengths, rank) for rank in c.ranks] for c in cuts]
        loads = padded if costs is None else [[plan.seconds(lengths, r, costs) for r in c.ranks] for c in cuts]
        return {
            "micro_batches": float(np.mean([len(c.ranks[0]) for c in cuts])),
            "padding": plan.padding(lengths, cuts),
            "slowest_rank": float(np.mean([max(load) / np.mean(load) for load in loads])) - 1.0,
            "largest_share": max(max(load) for load in padded),
        }
