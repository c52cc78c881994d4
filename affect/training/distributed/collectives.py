"""The ranks of a run: who they are, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from affect.errors import AffectError
from affect.training import hardware

T = TypeVar("T")


class Ranks:
    """A process among those of a run, and their collectives, which every rank must call in the same order."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.world: int = accelerator.num_processes
        self.rank: int = accelerator.process_index
        self.main: bool = accelerator.is_main_process
        # Of this machine alone, whose disk the others may not see.
        self.local_rank: int = accelerator.local_process_index
        self.local_world: int = hardware.local_world()
        # torchrun counts groups of workers, one a machine; srun tells the same by the ranks of each.
        self.nodes = int(os.environ.get("GROUP_WORLD_SIZE") or -(-self.world // self.local_world))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks. A collective: every rank must call it."""
        if self.world == 1:
            return values
        total: Tensor = self.accelerator.reduce(values, reduction="sum")
        return total

    def gather(self, table: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all ranks [N, C] in rank order, and where this rank's begin. A collective."""
        if self.world == 1:
            return table, 0
        sizes = self.accelerator.gather(torch.tensor([len(table)], device=table.device)).tolist()
        padded = table.new_zeros((max(sizes), table.shape[1]))
        padded[: len(table)] = table
        rows = self.accelerator.gather(padded).split(max(sizes))
        return torch.cat([r[:n] for r, n in zip(rows, sizes, strict=True)]), sum(sizes[: self.rank])

    def gather_objects(self, items: list[Any]) -> list[Any]:
        """Return the items of all ranks in rank order. A collective."""
        if self.world == 1:
            return items
        everyone: list[list[Any]] = [[] for _ in range(self.world)]
        torch.distributed.all_gather_object(everyone, items)
        return [item for mine in everyone for item in mine]

    def smallest(self, value: float) -> float:
        """Return the smallest value of all ranks. A collective."""
        return float(min(self.gather_objects([value])))

    def on_main(self, function: Callable[[], T]) -> T:
        """Return on every rank what `function` returns on the main one. A collective.

        Raises its AffectError on every rank: one that waited for a rank that has stopped would wait for ever.
        """
        outcome: list[Any] = []
        if self.main:
            try:
                outcome.append((function(), None))
            except AffectError as error:
                outcome.append((None, str(error)))
        value, message = self.gather_objects(outcome)[0]
        if message is not None:
            raise AffectError(message)
        result: T = value
        return result

    def everywhere(self, function: Callable[[], T]) -> T:
        """Return what `function` returns here, once all ranks have run it. A collective.

        Raises the first rank's AffectError on each.
        """
        message: str | None = None
        try:
            value = function()
        except AffectError as error:
            message = str(error)
        wrong = [text for text in self.gather_objects([message]) if text is not None]
        if wrong:
            raise AffectError(wrong[0])
        return value

    def wait(self) -> None:
        """Wait for all ranks. A collective."""
        self.accelerator.wait_for_everyone()
