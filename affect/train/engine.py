"""The engine: the only file that knows Accelerate. It gives a run its processes, precision and collectives."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import resource
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    LoggerType,
    ProjectConfiguration,
)
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from affect.errors import AffectError, nearest
from affect.train import machine

_LOG = logging.getLogger("affect")
T = TypeVar("T")
_ENGINES = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class Engine:
    """One process of a run: what it computes on, whom it computes with, and in which precision."""

    def __init__(self, folder: Path | None = None, trackers: Sequence[str] = ()):
        """Join the processes that the launcher started.

        Raises AffectError when their number is not the one asked for, or the engine is not supported.
        """
        cuda = torch.cuda.is_available()
        asked = int(os.environ.get("WORLD_SIZE", "1"))
        precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if precision == "fp16" and not cuda:
            raise AffectError("precision fp16 needs a GPU and none is here: launch with --mixed_precision no or bf16")
        usable = _trackers(trackers) if folder else []
        self.accelerator = Accelerator(
            # Told so: left alone, Accelerate falls back to one process, or to several unrelated ones.
            cpu=not cuda,
            # The step decides which backward synchronises: no YAML or variable may accumulate behind its back.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
            kwargs_handlers=[
                # No buffer of ours differs between ranks.
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=timedelta(minutes=30)),
            ],
            log_with=usable or None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)) if folder else None,
        )
        self._prepared = False
        self.world: int = self.accelerator.num_processes
        self.rank: int = self.accelerator.process_index
        self.main: bool = self.accelerator.is_main_process
        # Of this machine alone, whose disk the others may not see.
        self.local_rank: int = self.accelerator.local_process_index
        self.local_world: int = machine.local_world()
        self.device: torch.device = self.accelerator.device
        self.precision: str = self.accelerator.mixed_precision
        if self.world != asked:
            raise AffectError(
                f"the launcher asked for {asked} processes but {self.world} joined; see accelerate_configs/"
            )
        if self.accelerator.distributed_type not in _ENGINES:
            raise AffectError(f"the engine {self.name} is not supported: use one of accelerate_configs/")
        if self.device.type == "cpu":
            # The launcher leaves one thread a process, or all of them to each: both are several times too slow.
            torch.set_num_threads(machine.threads())

    @property
    def name(self) -> str:
        """The engine's name in Accelerate: NO (one process), MULTI_CPU, MULTI_GPU."""
        return str(self.accelerator.distributed_type.value)

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return the model and the optimiser as this engine runs them."""
        with warnings.catch_warnings():
            # torch says that broadcast_buffers will be renamed; its successor means something else.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            model, wrapped = self.accelerator.prepare(model, optimizer)
        self._prepared = True
        return model, wrapped

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the model as the task made it."""
        plain: nn.Module = self.accelerator.unwrap_model(model)
        return plain

    @contextlib.contextmanager
    def boundary(self, model: nn.Module, last: bool) -> Iterator[None]:
        """Run forward and backward of a micro-batch; only the last of a step reduces gradients between ranks."""
        self.accelerator.sync_gradients = last
        try:
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                yield
        finally:
            # A micro-batch that failed must not leave it off: Accelerate's zero_grad would then do nothing.
            self.accelerator.sync_gradients = True

    def backward(self, loss: Tensor) -> None:
        """Backpropagate, scaled where the precision wants it."""
        self.accelerator.backward(loss)

    def clip(self, parameters: Sequence[nn.Parameter], most: float | None) -> Tensor:
        """Return the gradient's norm [], clipping it to `most` where given. Reached by every rank."""
        norm: Tensor = self.accelerator.clip_grad_norm_(parameters, float("inf") if most is None else most)
        return norm

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

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of the run's precision, for a model that was not prepared."""
        context: contextlib.AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def memory(self) -> int:
        """Return the most memory used so far, in bytes: of the device, or of this process on a CPU."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def free_memory(self) -> int:
        """Return how many bytes this rank may still take, a margin left to others."""
        if self.device.type == "cuda":
            # What the allocator holds and does not use is as good as free.
            held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return int((torch.cuda.mem_get_info(self.device)[0] + held) * 0.9)
        return int(machine.free_memory() * 0.5) // self.local_world

    def track(self, config: dict[str, Any]) -> None:
        """Start the trackers with a run's settings."""
        if self.accelerator.log_with:
            self.accelerator.init_trackers("affect", config=config)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send values to the trackers."""
        self.accelerator.log(values, step=step)

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

    def everywhere(self, function: Callable[[], object]) -> None:
        """Run `function` on every rank and wait for all. A collective; raises the first rank's AffectError on each."""
        message: str | None = None
        try:
            function()
        except AffectError as error:
            message = str(error)
        wrong = [said for said in self.gather_objects([message]) if said is not None]
        if wrong:
            raise AffectError(wrong[0])

    def wait(self) -> None:
        """Wait for all ranks. A collective."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """End a run: its trackers are closed and its model and optimiser forgotten."""
        for tracker in self.accelerator.trackers:
            # A tracker that a full disk kept from starting has nothing to close.
            with contextlib.suppress(OSError, AttributeError):
                tracker.finish()
        # It also collects garbage, which takes long where many runs share a process.
        if self._prepared:
            self.accelerator.free_memory()

    @staticmethod
    def close() -> bool:
        """Leave the process group and return whether there was one."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return False
        torch.distributed.destroy_process_group()
        return True

    @contextlib.contextmanager
    def seeded(self, *key: int) -> Iterator[None]:
        """Make what is drawn inside a function of `key`, on the CPU, the device and in NumPy.

        transformers' SpecAugment draws from NumPy: a replayed forward that restored torch's state alone would be masked
        differently, and its gradient silently wrong.
        """
        first, second, third = seeds(*key)
        random.seed(first)
        np.random.seed(second)  # the generator that transformers draws from
        torch.manual_seed(third)  # the CPU and every device
        yield


def seeds(*key: int) -> tuple[int, int, int]:
    """Return what Python's, NumPy's and torch's generators are seeded with at a place in a run."""
    # The length keeps (1,) and (1, 0) apart, which SeedSequence alone does not.
    drawn = np.random.SeedSequence((len(key), *key)).generate_state(3)
    return int(drawn[0]), int(drawn[1]), int(drawn[2])


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on a device or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, Exception) and should_reduce_batch_size(error)


def _trackers(names: Sequence[str]) -> list[str]:
    """Return the trackers by name. Raises AffectError for one that is unknown or not installed."""
    known = {str(kind) for kind in LoggerType} - {"all"}
    here = {str(kind) for kind in get_available_trackers()}
    for name in names:
        if name not in known:
            raise AffectError(f"train.trackers: unknown tracker {name!r}; {nearest(name, known)}")
        if name not in here:
            # Accelerate would go on without it and not say so.
            raise AffectError(f"train.trackers: {name} is not installed: pip install {name}, or leave it out")
    return list(names)
