"""The loader: this rank's micro-batches, decoded ahead in workers, in the plan's order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from affect.errors import AffectError
from affect.task import Batch, Draw, Task
from affect.train import plan


@dataclass(frozen=True)
class Order:
    """One micro-batch to be made, and the draw that its augmentation depends on (None: evaluation)."""

    micro: plan.Micro
    draw: Draw | None


class Collated(TorchDataset[Batch | AffectError]):
    """A part of the corpus (under a condition) whose item is a whole micro-batch; runs in the loader's workers."""

    def __init__(self, task: Task, part: Dataset, lengths: NDArray[np.float64], condition: str | None = None):
        self.task, self.part, self.lengths = task, part, lengths
        self.under = {} if condition is None else {"condition": condition}

    def __getitem__(self, order: Order) -> Batch | AffectError:
        """Return the batch, or the user's error: raised here, a worker would wrap it in a stack trace."""
        indices = list(order.micro.indices)
        try:
            columns = self.part[indices]
            rows = [{n: column[i] for n, column in columns.items()} | self.under for i in range(len(indices))]
            batch = self.task.collate(rows, order.draw)
        except AffectError as error:
            return error
        lengths = self.lengths[indices]
        filler = order.micro.filler
        length = 0.0 if filler else float(lengths.sum())
        return replace(batch, length=length, padded=float(lengths.max() * len(indices)), filler=filler)


class Loader:
    """Iterates over batches for a stream of orders, and counts the seconds spent waiting for them."""

    def __init__(self, data: Collated, orders: Iterable[Order], *, workers: int, pin: bool):
        options: dict[str, Any] = {"prefetch_factor": 4} if workers else {}
        loader: DataLoader[Any] = DataLoader(
            data,
            batch_size=None,
            sampler=orders,
            num_workers=workers,
            collate_fn=_same,
            pin_memory=pin,
            **options,
        )
        self._batches: Iterator[Batch | AffectError] = iter(loader)
        self.waited = 0.0

    def take(self, count: int) -> list[Batch]:
        """Return the next `count` batches. Raises the AffectError of an example that can't be decoded."""
        start = time.perf_counter()
        batches = []
        for _ in range(count):
            item = next(self._batches)
            if isinstance(item, AffectError):
                raise item
            batches.append(item)
        self.waited += time.perf_counter() - start
        return batches


def _same(item: Any) -> Any:
    return item
