"""The loader: this rank's micro-batches, decoded ahead in workers, in the plan's order."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from affect import process
from affect.errors import AffectError, first_line
from affect.task import Batch, Key, Row, Task
from affect.training import hardware, plan

if TYPE_CHECKING:
    from datasets import Dataset

_LOG = logging.getLogger("affect")
_DEATHS = 3
"""Deaths of workers in a row at one place after which it is no accident."""


@dataclass(frozen=True)
class Order:
    """One micro-batch to be made, and the key that its augmentation depends on (None: evaluation)."""

    micro: plan.Micro
    key: Key | None


class Collated(TorchDataset[Batch | AffectError]):
    """A part of the corpus (under a condition) whose item is a whole micro-batch; runs in the loader's workers."""

    def __init__(self, task: Task, part: Dataset, condition: str | None = None):
        self.task, self.part = task, part
        self.under = {} if condition is None else {"condition": condition}
        self._epoch: tuple[int, Dataset] | None = None

    def __getitem__(self, order: Order) -> Batch | AffectError:
        """Return the batch, or the user's error: raised here, a worker would wrap it in a stack trace."""
        try:
            return self.batch(order)
        except AffectError as error:
            return error

    def batch(self, order: Order) -> Batch:
        """Return the batch. Raises the AffectError of an example that can't be decoded."""
        batch = self.task.collate(self._rows(list(order.micro.indices), order.key), order.key)
        return replace(batch, filler=order.micro.filler)

    def _rows(self, indices: list[int], key: Key | None) -> list[Row]:
        """Return rows of the part: of a training part those of the key's epoch."""
        part = self.part
        if key is not None:
            if self._epoch is None or self._epoch[0] != key.epoch:
                self._epoch = (key.epoch, self.task.rows_of_epoch(part, key.epoch))
            part = self._epoch[1]
        columns = part[indices]
        return [{n: column[i] for n, column in columns.items()} | self.under for i in range(len(indices))]


class Loader:
    """Gives the batches of a stream of orders, and times the wait; workers that die are replaced and make the same."""

    def __init__(self, data: Collated, orders: Iterable[Order], *, workers: int, pin: bool):
        # More than there are cores would wait for each other.
        self.data, self.workers, self.pin = data, min(workers, hardware.cores()), pin
        self._orders = _Orders(orders)
        self._batches = self._begin()
        self.waited = 0.0

    def _begin(self) -> Iterator[Batch | AffectError]:
        options: dict[str, Any] = {"prefetch_factor": 4, "worker_init_fn": _follow} if self.workers else {}
        # A whole batch an order, which no collating changes.
        loader: DataLoader[Any] = DataLoader(
            self.data, batch_size=None, sampler=self._orders, num_workers=self.workers, pin_memory=self.pin, **options
        )
        with _quiet():
            return iter(loader)

    def take(self, count: int) -> list[Batch]:
        """Return the next `count` batches; AffectError for an example's fault, or where workers die again and again."""
        start = time.perf_counter()
        batches = []
        for _ in range(count):
            item = self._next()
            if isinstance(item, AffectError):
                raise item
            batches.append(item)
        self.waited += time.perf_counter() - start
        return batches

    def _next(self) -> Batch | AffectError:
        for deaths in range(1, _DEATHS + 1):
            try:
                item = next(self._batches)
            except (RuntimeError, OSError, EOFError) as error:
                if not _died(error):
                    raise
                words = first_line(error)
            else:
                self._orders.taken()
                return item
            if deaths < _DEATHS:
                _LOG.warning("a worker of the loader died (%s); they are started anew and go on where they were", words)
                # Dropped first: its workers end here, not when the new ones are there, too.
                del self._batches
                self._orders.again()
                self._batches = self._begin()
        raise AffectError(
            f"workers of the loader died {_DEATHS} times at one place ({words}), for want of memory perhaps: give "
            "a smaller --train.workers (0 decodes between steps)"
        )


class _Orders:
    """The orders that are still to come; those given out and not taken can be given again."""

    def __init__(self, orders: Iterable[Order]):
        self._rest, self._first, self._given = iter(orders), deque[Order](), deque[Order]()

    def __iter__(self) -> Iterator[Order]:
        while (order := self._first.popleft() if self._first else next(self._rest, None)) is not None:
            self._given.append(order)
            yield order

    def taken(self) -> None:
        """Forget the order that was given out first: its batch is there."""
        self._given.popleft()

    def again(self) -> None:
        """Give those that were given out and not taken once more, before all others."""
        self._first.extendleft(reversed(self._given))
        self._given.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from raising a worker's death wherever the main thread is then: a wait for a batch finds it out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)


def _died(error: Exception) -> bool:
    """Tell whether an exception says that a worker is gone, not that it raised something."""
    if isinstance(error, RuntimeError):
        return str(error).startswith("DataLoader worker (pid")
    # Its tensors could not be fetched from it: they are passed through a socket of its own.
    kinds = (ConnectionError, EOFError, FileNotFoundError)
    return isinstance(error, kinds) and not str(error).startswith("Caught ")


def _follow(_: int) -> None:
    """Let a worker end with its rank, and hear of no stop by itself: its rank does, and ends it."""
    process.die_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
