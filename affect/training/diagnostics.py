"""Diagnostics of a step: what a task says of its outputs, added up over micro-batches and ranks, and of gradients.

Legend: P values of the shared parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from affect.task import Batch, Task
from affect.training.distributed import Engine


class Sums:
    """What the task's diagnostics of the micro-batches of a step add up to."""

    def __init__(self, task: Task):
        self.task = task
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        """Take in a micro-batch."""
        for name, found in self.task.diagnostics(outputs, batch).items():
            total, count = found if isinstance(found, tuple) else (found, None)
            self._sums[name] = self._sums.get(name, 0.0) + float(total)
            if count is not None:
                self._counts[name] = self._counts.get(name, 0.0) + float(count)

    def means(self, engine: Engine) -> dict[str, float]:
        """Return the sums over all ranks, divided by the counts of those that have one. A collective."""
        found: dict[str, float] = {}
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for mine, theirs in engine.gather_objects([(self._sums, self._counts)]):
            for held, given in ((sums, mine), (counts, theirs)):
                for name, value in given.items():
                    held[name] = held.get(name, 0.0) + value
        for name in sorted(sums):
            found[name] = sums[name] if name not in counts else sums[name] / counts[name] if counts[name] else 0.0
        return found


def of_gradients(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the norm of each term's gradient of the shared parameters [P], and the cosine of each pair."""
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    found = {f"gradient_norm/{name}": norm for name, norm in norms.items()}
    for first, second in combinations(gradients, 2):
        both = norms[first] * norms[second]
        cosine = float(gradients[first] @ gradients[second]) / both if both > 0 else 0.0
        found[f"gradient_cosine/{first}/{second}"] = cosine
    return found
