"""Diagnostics of a step: what a task says of its outputs, added up, and gradients of P shared values."""

from __future__ import annotations

from collections import defaultdict
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
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, float] = defaultdict(float)

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        """Take in a micro-batch."""
        for name, value in self.task.diagnostics(outputs, batch).items():
            total, *count = value if isinstance(value, tuple) else (value,)
            self._sums[name] += float(total)
            for part in count:
                self._counts[name] += float(part)

    def means(self, engine: Engine) -> dict[str, float]:
        """Return the sums over all ranks, divided by the counts of those that have one. A collective."""
        sums: defaultdict[str, float] = defaultdict(float)
        counts: defaultdict[str, float] = defaultdict(float)
        for part in engine.gather_objects([(self._sums, self._counts)]):
            for held, given in zip((sums, counts), part, strict=True):
                for name, value in given.items():
                    held[name] += value
        for name, count in counts.items():
            sums[name] = sums[name] / count if count else 0.0
        return dict(sorted(sums.items()))


def of_gradients(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the norm of each term's gradient of the shared parameters [P], and the cosine of each pair."""
    norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
    found = {f"gradient_norm/{name}": norm for name, norm in norms.items()}
    for first, second in combinations(gradients, 2):
        both = norms[first] * norms[second]
        dot = float(gradients[first] @ gradients[second])
        found[f"gradient_cosine/{first}/{second}"] = dot / both if both > 0 else 0.0
    return found
