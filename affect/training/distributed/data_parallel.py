"""One process, or several that each hold the whole model (DDP): how weights are prepared, stepped and read.

The other engines (zero.py, sharded.py) differ from this one in what they must.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from affect.recipe import Optim

Check = Callable[[float], None]


class Plain:
    """Whole weights, gradients and moments on every rank."""

    name = "single"
    votes = True
    """Whether ranks can repeat a step together after one of them ran out of memory: their forwards share nothing."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.name = "single" if accelerator.num_processes == 1 else "DDP"

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, optim: Optim) -> tuple[nn.Module, Any]:
        """Return the model and the optimiser as this engine runs them."""
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
            _inner(optimizer).step()
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
        yield from self.unwrap(model).state_dict().items()

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the whole state of the model on the CPU, on the main rank. A collective."""
        main = self.accelerator.is_main_process
        return {name: kept(whole) for name, whole in self.tensors(model) if main}

    def load_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take over the whole state, given on every rank. Raises RuntimeError where names or shapes don't fit."""
        self.unwrap(model).load_state_dict(weights)

    def moments(self, model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
        """Return the optimiser's state as <kind>/<parameter>, whole and on the CPU, on the main rank. A collective."""
        found: dict[str, Tensor] = {}
        for name, state in self._states(model, optimizer).items():
            for kind, value in state.items():
                whole = self._whole(value)
                if self.accelerator.is_main_process:
                    found[f"{kind}/{name}"] = kept(whole)
        return found

    def load_moments(self, model: nn.Module, optimizer: Any, moments: dict[str, Tensor]) -> None:
        """Take over the optimiser's state, given on every rank. Raises ValueError where it does not fit."""
        parameters = dict(self.unwrap(model).named_parameters())
        state = _inner(optimizer).state
        by_name = by_parameter(moments)
        check_names(by_name, {name for name, value in parameters.items() if value.requires_grad})
        for name, kinds in by_name.items():
            parameter = parameters[name]
            state[parameter] = {kind: self._share(value, parameter) for kind, value in kinds.items()}

    def _states(self, model: nn.Module, optimizer: Any) -> dict[str, dict[str, Tensor]]:
        state = _inner(optimizer).state
        return {name: state[p] for name, p in self.unwrap(model).named_parameters() if p in state}

    def _whole(self, value: Tensor) -> Tensor:
        return value

    def _share(self, value: Tensor, parameter: Tensor) -> Tensor:
        """Return this rank's share of a whole state, where its parameter is."""
        if value.shape != parameter.shape and value.dim() > 0:
            raise ValueError(f"a state of shape {list(value.shape)} for a parameter of {list(parameter.shape)}")
        # torch's fused optimisers want the number of steps on the device, too.
        return value.to(parameter.device, copy=True)


def call_alike(model: nn.Module) -> None:
    """Let no module call others once a row: an engine that gathers weights at each call needs ranks in step."""
    for module in model.modules():
        if hasattr(module, "by_row"):
            setattr(module, "by_row", False)  # noqa: B010  # which of the modules has it, no type says


def by_parameter(moments: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the states <kind>/<parameter> by parameter and kind."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in moments.items():
        kind, _, name = key.partition("/")
        found.setdefault(name, {})[kind] = value
    return found


def check_names(given: dict[str, Any], trained: set[str]) -> None:
    """Raise ValueError unless the states given are of parameters that are trained; one never stepped has none."""
    strange = sorted(set(given) - trained)
    if strange:
        raise ValueError(f"the optimiser's state has parameters that are not trained: {', '.join(strange[:3])}")


def check_model(state: Iterable[str], weights: Iterable[str]) -> None:
    """Raise ValueError unless the weights given are those of a model's state, by name."""
    strange = sorted(set(state) ^ set(weights))
    if strange:
        raise ValueError(f"the weights are of another model: {', '.join(strange[:3])}")


def _inner(optimizer: Any) -> Any:
    """Return torch's optimiser inside Accelerate's."""
    return getattr(optimizer, "optimizer", optimizer)


def kept(value: Tensor) -> Tensor:
    """Return a copy of a tensor on the CPU, in memory of its own, as safetensors wants it."""
    return value.detach().cpu().contiguous().clone()
