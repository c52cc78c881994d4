"""The schedule of a run: each step's epoch and cut, and the orders that its loader follows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from affect.recipe import Train
from affect.task import Draw
from affect.train import plan
from affect.train.loader import Order


class Schedule:
    """What a run does at each step: a pure function of lengths, recipe, seed, world and budget."""

    def __init__(self, lengths: NDArray[np.float64], train: Train, seed: int, world: int, budget: float):
        self.lengths, self.batch, self.seed, self.world, self.budget = lengths, train.batch, seed, world, budget
        self.per_epoch = plan.steps_per_epoch(len(lengths), train.batch)
        self.steps = min(train.epochs * self.per_epoch, train.steps or train.epochs * self.per_epoch)
        self._draw = lru_cache(maxsize=2)(lambda epoch: plan.draw(len(lengths), train.batch, seed, epoch))
        # Asked for ahead by the loader and again by the loop.
        self.cut = lru_cache(maxsize=256)(self._cut)

    def epoch(self, step: int) -> int:
        """Return the epoch (from 0) of a step (from 0)."""
        return step // self.per_epoch

    def ends_epoch(self, step: int) -> bool:
        """Tell whether `step` is the last of its epoch or of the run."""
        return (step + 1) % self.per_epoch == 0 or step + 1 == self.steps

    def _cut(self, step: int) -> plan.Cut:
        epoch, k = divmod(step, self.per_epoch)
        return plan.cut(self.lengths, self._draw(epoch)[k], self.world, self.budget)

    def orders(self, rank: int, start: int) -> Iterator[Order]:
        """Yield the micro-batches of a rank from step `start` to the end of the run."""
        for step in range(start, self.steps):
            draw = Draw(seed=self.seed, epoch=self.epoch(step))
            for micro in self.cut(step).ranks[rank]:
                yield Order(micro, draw)

    def over_budget(self) -> NDArray[np.int64]:
        """Return the rows that are longer than the budget and so travel alone."""
        return np.flatnonzero(self.lengths > self.budget)

    def figures(self, steps: int) -> dict[str, float]:
        """Return what the first `steps` steps cost: micro-batches a rank, padding, slowest rank over the mean."""
        cuts = [self.cut(step) for step in range(min(steps, self.steps))]
        loads = [[plan.cost(self.lengths, rank) for rank in c.ranks] for c in cuts]
        return {
            "micro_batches": float(np.mean([len(c.ranks[0]) for c in cuts])),
            "padding": plan.padding(self.lengths, cuts),
            "slowest_rank": float(np.mean([max(mine) / np.mean(mine) for mine in loads])) - 1.0,
            "largest_share": max(max(mine) for mine in loads),
        }
