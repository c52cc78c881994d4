"""Diagnostics of a step: what a task says of its outputs, added up, and gradients of P shared values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from affect.task import Batch, Task
from affect.training import terms
from affect.training.distributed import Engine


class Sums:
    """What the task's diagnostics of the micro-batches of a step add up to."""

    def __init__(self, task: Task):
        self.task = task
        # Left where they are until all are there: reading each would wait for the device in every micro-batch.
        self._sums: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._counts: defaultdict[str, list[Tensor]] = defaultdict(list)

    @torch.no_grad()
    def add(self, outputs: Mapping[str, Tensor], batch: Batch) -> None:
        """Take in a micro-batch."""
        for name, value in self.task.diagnostics(outputs, batch).items():
            total, *count = value if isinstance(value, tuple) else (value,)
            self._sums[name].append(total)
            for part in count:
                self._counts[name].append(part)

    def means(self, engine: Engine) -> dict[str, float]:
        """Return the sums over all ranks, divided by the counts of those that have one. A collective."""
        sums: defaultdict[str, float] = defaultdict(float)
        counts: defaultdict[str, float] = defaultdict(float)
        for part in engine.gather_objects([self._added()]):
            for held, given in zip((sums, counts), part, strict=True):
                for name, value in given.items():
                    held[name] += value
        for name, count in counts.items():
            sums[name] = sums[name] / count if count else 0.0
        return dict(sorted(sums.items()))

    def _added(self) -> list[dict[str, float]]:
        """Return what sums and counts of the micro-batches add up to on this rank."""
        kinds = (self._sums, self._counts)
        read = iter(_read([number for held in kinds for numbers in held.values() for number in numbers]))
        return [{name: sum((next(read) for _ in numbers), 0.0) for name, numbers in held.items()} for held in kinds]


def _read(numbers: list[Tensor]) -> list[float]:
    """Return numbers [] of a device, in one copy."""
    wide = torch.stack([number.to(terms.wide(number.device)) for number in numbers]) if numbers else torch.empty(0)
    values: list[float] = wide.tolist()
    return values


def of_gradients(gradients: Mapping[str, Tensor], scale: float = 1.0) -> dict[str, float]:
    """Return the norm of each term's gradient of the shared parameters [P], and the cosine of each pair.

    The gradients are those of `scale` times the loss.
    """
    pairs = list(combinations(gradients, 2))
    products = [gradients[first] @ gradients[second] for first, second in pairs]
    read = _read([*(gradient.norm() for gradient in gradients.values()), *products])
    norms = dict(zip(gradients, read, strict=False))
    values = {f"gradient_norm/{name}": norm / scale for name, norm in norms.items()}
    for (first, second), dot in zip(pairs, read[len(norms) :], strict=True):
        both = norms[first] * norms[second]
        values[f"gradient_cosine/{first}/{second}"] = dot / both if both > 0 else 0.0
    return values
