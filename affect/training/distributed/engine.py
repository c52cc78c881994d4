"""The engine of a run: its processes and what they tell each other, and how its weights are prepared, stepped, read.

The engines that share weights out (zero.py, fsdp.py) differ from this one in what they must.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from affect.errors import AffectError, first_few
from affect.recipe import Optim
from affect.training import hardware, optim
from affect.training.distributed import tracking

T = TypeVar("T")
Check = Callable[[float], None]


class Engine:
    """One process of a run, or of several that each hold whole weights, gradients and moments (DDP).

    Every rank must call its collectives, in the same order.
    """

    votes = True
    """Whether ranks can repeat a step together after one of them ran out of memory: their forwards share nothing."""

    def __init__(self, accelerator: Accelerator):
        """Compute with what the launcher named. Raises AffectError where AFFECT_THREADS is no number of threads."""
        self.accelerator = accelerator
        self.world: int = accelerator.num_processes
        self.rank: int = accelerator.process_index
        self.main: bool = accelerator.is_main_process
        # Of this machine alone, whose disk the others may not see.
        self.local_rank: int = accelerator.local_process_index
        self.local_world: int = hardware.local_world()
        # torchrun counts groups of workers, one a machine; srun tells the same by the ranks of each.
        self.nodes = int(os.environ.get("GROUP_WORLD_SIZE") or -(-self.world // self.local_world))
        self.name = "single" if self.world == 1 else "DDP"
        self.device: torch.device = accelerator.device
        self.accelerated = self.device.type != "cpu"
        """Whether it computes beside the host, in memory of its own that pinned batches are copied to."""
        self.precision: str = accelerator.mixed_precision
        self._prepared = False
        # Its backward gives NaN with a mask at some lengths (pytorch issue 196678, torch 2.11 on, H100 and H200), where
        # torch prefers it; the memory-efficient kernel takes its place.
        torch.backends.cuda.enable_cudnn_sdp(False)
        if not self.accelerated:
            # The launcher leaves one thread a process, or all of them to each: both are several times too slow.
            torch.set_num_threads(hardware.threads())

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, optim: Optim) -> tuple[nn.Module, Any]:
        """Return the model and the optimiser as this engine runs them; its parameters may be others then."""
        self._prepared = True
        with warnings.catch_warnings():
            # torch says that broadcast_buffers will be renamed; its successor means something else.
            warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
            model, wrapped = self.accelerator.prepare(model, optimizer)
        return model, wrapped

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the model as the task made it."""
        # Accelerate's own looks for DeepSpeed on the disk each time, which takes as long as a small model's step.
        plain: nn.Module = model.module if isinstance(model, DistributedDataParallel) else model
        return plain

    @contextlib.contextmanager
    def alone(self, model: nn.Module) -> Iterator[None]:
        """Run forwards and backwards that reduce nothing between ranks."""
        self.accelerator.sync_gradients = False
        try:
            with self.accelerator.no_sync(model):
                yield
        finally:
            # A micro-batch that failed must not leave it off: Accelerate's zero_grad would then do nothing.
            self.accelerator.sync_gradients = True

    @contextlib.contextmanager
    def reducing(self, model: nn.Module) -> Iterator[None]:
        """Run the one backward of a step that reduces gradients, of forwards that were run alone."""
        if isinstance(model, DistributedDataParallel):
            # What a forward does outside of no_sync. Done here, for a forward that was given up would leave it done,
            # and the repeated step would reduce in its first backward.
            model.require_forward_param_sync = True
            model.reducer.prepare_for_backward([])
        yield

    def backward(self, loss: Tensor) -> None:
        """Backpropagate, scaled where the precision wants it."""
        self.accelerator.backward(loss)

    def update(
        self, model: nn.Module, optimizer: Any, parameters: Sequence[nn.Parameter], *, clip: float | None,
        clip_value: float | None, check: Check,
    ) -> tuple[float, bool]:  # fmt: skip
        """Clip and take the step; return the gradient's norm before clipping, and whether the step was skipped.

        `check` sees the norm and may raise before anything is changed.
        """
        norm = self._clipped(parameters, clip)
        if clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, clip_value)
        check(norm)
        if self.accelerator.scaler is None:
            # Accelerate's own step looks through the installed packages for an optimiser's, twice each time.
            if self.name == "single" and not self.accelerated:
                optim.take_step(inner(optimizer))
            else:
                inner(optimizer).step()
            return norm, False
        optimizer.step()
        return norm, bool(optimizer.step_was_skipped)

    def _clipped(self, parameters: Sequence[nn.Parameter], clip: float | None) -> float:
        """Clip the gradient to a norm, and return the one it had."""
        if clip is not None:
            return float(self.accelerator.clip_grad_norm_(parameters, clip))
        # Clipping to infinity would multiply every gradient by 1.
        self.accelerator.unscale_gradients()
        return float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield the model's state, each tensor whole on every rank while it is looked at. A collective."""
        for name, value in self.unwrap(model).state_dict().items():
            yield name, self._whole(value)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state of the model on the CPU, on the main rank (elsewhere nothing). A collective."""
        return {name: kept(whole) for name, whole in self.tensors(model) if self.main}

    def load_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take over the whole state on every rank; RuntimeError or ValueError where it does not fit. A collective."""
        self.unwrap(model).load_state_dict(weights)

    def moments(self, model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
        """Return the optimiser's state as <kind>/<parameter>, whole and on the CPU, on the main rank. A collective."""
        state = inner(optimizer).state
        wholes = (
            (f"{kind}/{name}", self._whole(value))
            for name, parameter in self.unwrap(model).named_parameters()
            for kind, value in state.get(parameter, {}).items()
        )
        return {key: kept(whole) for key, whole in wholes if self.main}

    def load_moments(self, model: nn.Module, optimizer: Any, moments: dict[str, Tensor]) -> None:
        """Take over the optimiser's state of any engine on every rank; ValueError if it does not fit. A collective."""
        parameters = self._trained(model)
        state = inner(optimizer).state
        for name, kinds in by_parameter(moments, parameters).items():
            parameter = parameters[name]
            state[parameter] = {kind: self._share(value, parameter) for kind, value in kinds.items()}

    def _trained(self, model: nn.Module) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.unwrap(model).named_parameters() if p.requires_grad}

    def _whole(self, value: Tensor) -> Tensor:
        return value

    def _share(self, value: Tensor, parameter: Tensor) -> Tensor:
        """Return this rank's share of a whole state, where its parameter is."""
        if value.shape != parameter.shape and value.dim() > 0:
            raise ValueError(f"a state of shape {list(value.shape)} for a parameter of {list(parameter.shape)}")
        # torch's fused optimisers want the number of steps on the device, too.
        return value.to(parameter.device, copy=True)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks. A collective."""
        total: Tensor = values if self.world == 1 else self.accelerator.reduce(values, reduction="sum")
        return total

    def gather(self, table: Tensor) -> tuple[Tensor, int]:
        """Return the rows of all ranks [N, C] in rank order, and where this rank's begin. A collective."""
        if self.world == 1:
            return table, 0
        sizes = self.accelerator.gather(torch.tensor([len(table)], device=table.device)).tolist()
        padded = nn.functional.pad(table, (0, 0, 0, max(sizes) - len(table)))
        rows = self.accelerator.gather(padded).split(max(sizes))
        return torch.cat([r[:n] for r, n in zip(rows, sizes, strict=True)]), sum(sizes[: self.rank])

    def gather_objects(self, items: list[Any]) -> list[Any]:
        """Return the items of all ranks in rank order. A collective."""
        if self.world == 1:
            return items
        everyone: list[list[Any]] = [[] for _ in range(self.world)]
        torch.distributed.all_gather_object(everyone, items)
        return list(itertools.chain.from_iterable(everyone))

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
        """Return what `function` returns here; raises the first rank's AffectError on each. A collective."""
        message: str | None = None
        try:
            value = function()
        except AffectError as error:
            message = str(error)
        wrong = [text for text in self.gather_objects([message]) if text is not None]
        if wrong:
            raise AffectError(wrong[0])
        return value

    def loss_scale(self) -> float:
        """Return what losses are multiplied by before their backward: 1 without fp16."""
        scaler = self.accelerator.scaler
        return float(scaler.get_scale()) if scaler else 1.0

    def scaler_state(self) -> dict[str, float | int] | None:
        """Return the numbers of fp16's loss scaler, where there is one."""
        scaler = self.accelerator.scaler
        return dict(scaler.state_dict()) if scaler else None

    def load_scaler(self, state: dict[str, float | int]) -> None:
        """Take over the loss scaler's numbers; without one there is nothing to scale."""
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of the run's precision; weights and losses stay in float32."""
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        kind = kinds.get(self.precision)
        return torch.autocast(self.device.type, dtype=kind or torch.bfloat16, enabled=kind is not None)

    def memory(self) -> int:
        """Return the most memory used so far, in bytes: of the device, or of this process on a CPU."""
        if self.accelerated:
            most: int = torch.get_device_module(self.device).max_memory_allocated(self.device)
            return most
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def free_memory(self) -> int:
        """Return how many bytes this rank may still take, a margin left to others."""
        if self.accelerated:
            module = torch.get_device_module(self.device)
            # What the allocator holds and does not use is as good as free.
            held = module.memory_reserved(self.device) - module.memory_allocated(self.device)
            return int((module.mem_get_info(self.device)[0] + held) * 0.9)
        return int(hardware.free_memory() * 0.5) // self.local_world

    def track(self, settings: dict[str, Any], folder: Path, done: int) -> None:
        """Start the trackers of the run in `folder`, which has taken `done` steps, with its settings."""
        if self.accelerator.log_with:
            tracking.start(self.accelerator, folder, settings, done)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send values to the trackers."""
        self.accelerator.log(values, step=step)

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
        """Make what is drawn inside from the generators of Python, NumPy, torch and the device a function of `key`.

        transformers' SpecAugment draws from NumPy: a replayed forward that restored torch's state alone would be masked
        differently, and its gradient silently wrong.
        """
        first, second, third = seeds(*key)
        random.seed(first)
        np.random.seed(second)
        # torch.manual_seed asks for every kind of device there may be, which takes as long as a small layer.
        torch.default_generator.manual_seed(third)
        if self.device.type != "cpu":
            torch.manual_seed(third)
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


def call_alike(model: nn.Module) -> None:
    """Let no module call others once a row: an engine that gathers weights at each call needs ranks in step.

    Raises AffectError for a model whose parts are called as often as a row is long.
    """
    for module in model.modules():
        if getattr(module, "called_in_parts", False):
            raise AffectError(
                "this model's weights can't be shared out between ranks, which call its parts as often as their "
                "recordings are long: launch with ddp.yaml, zero1.yaml or zero2.yaml"
            )
        if hasattr(module, "by_row"):
            setattr(module, "by_row", False)  # noqa: B010  # which of the modules has it, no type says


def by_parameter(moments: dict[str, Tensor], trained: Collection[str]) -> dict[str, dict[str, Tensor]]:
    """Return the states <kind>/<parameter> by parameter and kind; ValueError for a strange or a missing one."""
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in moments.items():
        kind, _, name = key.partition("/")
        states.setdefault(name, {})[kind] = value
    strange = sorted(states.keys() - set(trained))
    if strange:
        raise ValueError(f"the optimiser's state has parameters that are not trained: {first_few(strange)}")
    every = set().union(*states.values())
    for name, kinds in states.items():
        if kinds.keys() != every:
            raise ValueError(f"the optimiser's state lacks {min(every - kinds.keys())}/{name}")
    return states


def check_model(state: Iterable[str], weights: Iterable[str]) -> None:
    """Raise ValueError unless the weights given are those of a model's state, by name."""
    strange = sorted(set(state) ^ set(weights))
    if strange:
        raise ValueError(f"the weights are of another model: {first_few(strange)}")


def inner(optimizer: Any) -> Any:
    """Return torch's optimiser inside Accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def kept(value: Tensor) -> Tensor:
    """Return a copy of a tensor on the CPU, in memory of its own, as safetensors wants it."""
    return value.detach().cpu().contiguous().clone()
