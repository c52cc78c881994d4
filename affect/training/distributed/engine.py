"""The engine of a run: its processes, its precision, and which of the backends steps its weights."""

from __future__ import annotations

import contextlib
import random
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import DistributedType
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from affect.errors import AffectError
from affect.recipe import Optim, Recipe
from affect.training import hardware
from affect.training.distributed import launch_settings
from affect.training.distributed.collectives import Ranks
from affect.training.distributed.data_parallel import Check, Plain


class Engine(Ranks):
    """One process of a run: what it computes on, whom it computes with, and in which precision."""

    def __init__(self, folder: Path | None = None, trackers: Sequence[str] = (), precision: str | None = None):
        """Join the processes that the launcher started; `precision` counts where the launcher names none.

        Raises AffectError when their number or their engine is not what was asked for.
        """
        super().__init__(launch_settings.accelerator(folder, trackers, precision))
        self._prepared = False
        self.device: torch.device = self.accelerator.device
        self.precision: str = self.accelerator.mixed_precision
        self.backend = self._backend()
        if self.device.type == "cpu":
            # The launcher leaves one thread a process, or all of them to each: both are several times too slow.
            torch.set_num_threads(hardware.threads())

    def _backend(self) -> Plain:
        kind = self.accelerator.distributed_type
        if kind == DistributedType.DEEPSPEED:
            from affect.training.distributed.zero import Zero

            return Zero(self.accelerator)
        if kind == DistributedType.FSDP:
            from affect.training.distributed.fsdp import Sharded

            return Sharded(self.accelerator)
        if kind in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
            return Plain(self.accelerator)
        raise AffectError(f"the engine {kind.value} is not supported: use one of accelerate_configs/")

    @property
    def name(self) -> str:
        """The engine's name: single, DDP, ZeRO-1 to ZeRO-3 or FSDP2."""
        return self.backend.name

    @property
    def votes(self) -> bool:
        """Whether ranks can repeat a step together after one of them ran out of memory."""
        return self.backend.votes

    def agree(self, recipe: Recipe) -> None:
        """Raise AffectError, naming both, where the launch file says something else than the recipe."""
        launch_settings.agree(self.accelerator, recipe)

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, optim: Optim) -> tuple[nn.Module, Any]:
        """Return the model and the optimiser as this engine runs them; its parameters may be others then."""
        self._prepared = True
        return self.backend.prepare(model, optimizer, optim)

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the model as the task made it (its weights may be elsewhere: see `weights`)."""
        return self.backend.unwrap(model)

    def alone(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Run forwards and backwards that reduce nothing between ranks (ZeRO-2 and 3 reduce, and keep adding up)."""
        return self.backend.alone(model)

    def reducing(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Run the one backward of a step that reduces gradients, of forwards that were run alone."""
        return self.backend.reducing(model)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate, scaled where the precision wants it."""
        self.backend.backward(loss)

    def update(
        self, model: nn.Module, optimizer: Any, parameters: Sequence[nn.Parameter], *, clip: float | None,
        clip_value: float | None, check: Check,
    ) -> tuple[float, bool]:  # fmt: skip
        """Clip to a norm and to values, take the step; return the norm before that, and whether it was skipped.

        `check` sees the norm and may raise: the run ends then. A collective.
        """
        return self.backend.update(model, optimizer, parameters, clip=clip, clip_value=clip_value, check=check)

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield a model's state, each tensor whole on every rank while it is looked at. A collective."""
        return self.backend.tensors(model)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state of a model on the CPU, on the main rank (elsewhere nothing). A collective."""
        return self.backend.weights(model)

    def load_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take over a model's whole state, given on every rank. A collective.

        Raises RuntimeError or ValueError where names or shapes don't fit.
        """
        self.backend.load_weights(model, weights)

    @contextlib.contextmanager
    def whole(self, model: nn.Module) -> Iterator[nn.Module]:
        """Give the model as the task made it, whose `state_dict()` is whole on the main rank. A collective."""
        plain, weights = self.unwrap(model), self.weights(model)

        def fill(module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
            state.update({prefix + name: value for name, value in weights.items()})

        hook = plain.register_state_dict_post_hook(fill)  # type: ignore[no-untyped-call]
        try:
            yield plain
        finally:
            hook.remove()

    def moments(self, model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
        """Return the optimiser's state as <kind>/<parameter>, whole, on the main rank. A collective."""
        return self.backend.moments(model, optimizer)

    def load_moments(self, model: nn.Module, optimizer: Any, moments: dict[str, Tensor]) -> None:
        """Take over the optimiser's state of any engine and world, given on every rank. A collective.

        Raises ValueError where it does not fit.
        """
        self.backend.load_moments(model, optimizer, moments)

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
        # DeepSpeed has its own switch for the model that it was given, and says so where this one is on, too.
        enabled = self.precision in kinds and not (self._prepared and self.name.startswith("ZeRO"))
        return torch.autocast(self.device.type, dtype=kinds.get(self.precision, torch.bfloat16), enabled=enabled)

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
        return int(hardware.free_memory() * 0.5) // self.local_world

    def track(self, config: dict[str, Any]) -> None:
        """Start the trackers with a run's settings."""
        if self.accelerator.log_with:
            self.accelerator.init_trackers("affect", config=config)

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
