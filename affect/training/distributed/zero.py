"""DeepSpeed's ZeRO: moments (stage 1), gradients (2) and weights (3) are shared out between the ranks.

What Accelerate leaves to a configuration is set here from the recipe, for there the arguments are ignored in silence:
clipping, accumulation, precision. Weights stay in float32 under bf16 (torch's autocast), as in the other engines.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from affect.recipe import Optim
from affect.training.distributed.engine import Check, Engine, by_parameter, call_alike, check_model, kept

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Zero(Engine):
    """DeepSpeed's engine under the step: it reduces with the backward, and clips and zeroes with the update."""

    votes = False

    def __init__(self, accelerator: Accelerator):
        super().__init__(accelerator)
        self.stage: int = accelerator.state.deepspeed_plugin.zero_stage
        self.name = f"ZeRO-{self.stage}"
        # What it tells on every rank (torch's optimiser is untested, a collective has a new name) is nothing to mend.
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", message="`torch.distributed", category=FutureWarning)
        self._engine: Any = None

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, optim: Optim) -> tuple[nn.Module, Any]:
        """Return DeepSpeed's engine and optimiser."""
        settings = self.accelerator.state.deepspeed_plugin.deepspeed_config
        # As the launch file says it, for the run after this one.
        original = copy.deepcopy(settings)
        settings["gradient_clipping"] = 0.0 if optim.clip is None else optim.clip
        # DeepSpeed asks for them, and nothing follows from them: the step cuts the batch.
        settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"] = 1, 1
        settings["train_batch_size"] = self.world
        # torch's optimiser is kept with offloading: the moments are the same numbers then, and nothing is compiled.
        settings["zero_force_ds_cpu_optimizer"] = False
        for name in ("bf16", "fp16"):
            settings[name] = {"enabled": False}
        if self.precision == "bf16":
            # No module's gradients travel in bf16.
            settings["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
        if self.stage == 3:
            call_alike(model)
        try:
            self._engine, wrapped = super().prepare(model, optimizer, optim)
        finally:
            settings.clear()
            settings.update(original)
        return self._engine, wrapped

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of the run's precision; DeepSpeed has its own switch, and says so where both are on."""
        return super().autocast() if self._engine is None else contextlib.nullcontext()

    def unwrap(self, model: nn.Module) -> nn.Module:
        """Return the model as the task made it."""
        plain: nn.Module = getattr(model, "module", model) if model is self._engine else model
        return plain

    @contextlib.contextmanager
    def alone(self, model: nn.Module) -> Iterator[None]:
        """Run forwards and backwards that are not the last of a step; stages 2 and 3 reduce in each of them."""
        self._engine.set_gradient_accumulation_boundary(False)
        yield

    @contextlib.contextmanager
    def reducing(self, model: nn.Module) -> Iterator[None]:
        """Run the last backward of a step: the reduced gradients are whole after it."""
        self._engine.set_gradient_accumulation_boundary(True)
        yield

    def backward(self, loss: Tensor) -> None:
        """Backpropagate; the update is a step of its own here, so that the norm can be seen to."""
        self._engine.backward(loss)

    def update(
        self, model: nn.Module, optimizer: Any, parameters: Sequence[nn.Parameter], *, clip: float | None,
        clip_value: float | None, check: Check,
    ) -> tuple[float, bool]:  # fmt: skip
        """Take the step, which clips; `check` sees the norm after it: a run that it stops has saved nothing since."""
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        check(norm)
        return norm, False

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield the model's state; stage 3 gathers one parameter at a time."""
        if self.stage < 3 or model is not self._engine:
            yield from super().tensors(model)
        else:
            yield from self._gathered(self.unwrap(model))

    def load_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take over the whole state: the module's, and the copies that the optimiser steps."""
        if model is not self._engine:
            super().load_weights(model, weights)
            return
        plain = self.unwrap(model)
        state = plain.state_dict(keep_vars=True)
        check_model(state, weights)
        for name, value in state.items():
            if weights[name].shape != _shape(value):
                raise ValueError(f"the weights {name} are {list(weights[name].shape)}, not {list(_shape(value))}")
        for name, value in self._gathered(plain, writer=0):
            value.copy_(weights[name].to(value.device))
        if self.stage < 3:
            self._inner.refresh_fp32_params()
            return
        from deepspeed.utils import safe_set_local_fp32_param

        for name, parameter in plain.named_parameters(remove_duplicate=False):
            if parameter.requires_grad:
                safe_set_local_fp32_param(parameter, self._part(parameter, weights[name]))

    def _gathered(self, plain: nn.Module, writer: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield the state, each tensor whole while it is looked at; what rank `writer` changes is then everyone's."""
        from deepspeed import zero

        parameters = dict(plain.named_parameters(remove_duplicate=False)) if self.stage == 3 else {}
        for name, value in plain.state_dict(keep_vars=True).items():
            held = [parameters[name]] if name in parameters else []
            with zero.GatheredParameters(held, modifier_rank=writer, enabled=bool(held)):
                yield name, value.detach()

    def _part(self, parameter: nn.Parameter, value: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor, padded as stage 3 pads it (its own setter forgets to)."""
        size = int(parameter.ds_tensor.ds_numel)  # type: ignore[attr-defined]
        rank = self.rank
        flat = value.to(self.device, torch.float32).flatten()
        padded = torch.nn.functional.pad(flat, (0, size * self.world - flat.numel()))
        return padded[rank * size : (rank + 1) * size]

    def moments(self, model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
        """Return the optimiser's state as <kind>/<parameter>, whole and on the CPU, on the main rank. A collective."""
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = [state["step"] for state in self._inner.optimizer.state.values() if "step" in state]
        if not steps:
            return {}
        self._link()
        parameters = self._trained(model)
        wholes = (
            (kind, name, safe_get_full_optimizer_state(parameter, kind))
            for name, parameter in parameters.items()
            for kind in _MOMENTS
        )
        moments = {f"{kind}/{n}": kept(whole.reshape(_shape(parameters[n]))) for kind, n, whole in wholes if self.main}
        return moments | {f"step/{name}": kept(steps[0]) for name in parameters if self.main}

    def load_moments(self, model: nn.Module, optimizer: Any, moments: dict[str, Tensor]) -> None:
        """Take over the optimiser's state, given on every rank. Raises ValueError where it does not fit."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if not moments:
            return
        parameters = self._trained(model)
        given = by_parameter(moments, parameters)
        inner = self._inner
        # A fresh optimiser has no state before its first step.
        for flat in inner.fp32_partitioned_groups_flat if self.stage == 3 else inner.single_partition_of_fp32_groups:
            step = next(iter(given.values()))["step"].to(flat.device, torch.float32, copy=True)
            inner.optimizer.state[flat] = {"step": step, **{kind: torch.zeros_like(flat) for kind in _MOMENTS}}
        self._link()
        for name, kinds in given.items():
            parameter = parameters[name]
            for kind in _MOMENTS:
                value = kinds[kind]
                if value.shape != _shape(parameter):
                    raise ValueError(f"{kind}/{name} is {list(value.shape)}, not {list(_shape(parameter))}")
                if self.stage == 3:
                    safe_set_local_optimizer_state(parameter, self._part(parameter, value), kind)
                else:
                    safe_set_full_optimizer_state(parameter, value.to(self.device), kind)

    def _link(self) -> None:
        """Let stages 1 and 2 find the moments of every group: they look once, when the first has been stepped."""
        if self.stage < 3:
            self._inner._hp_optimizer_states_linked = False
            self._inner._lazy_init_hp_params_optimizer_state()

    @property
    def _inner(self) -> Any:
        """DeepSpeed's optimiser, which steps torch's."""
        return self._engine.optimizer


def _shape(parameter: Tensor) -> torch.Size:
    """Return the whole shape of a parameter, which stage 3 keeps beside an empty one."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))
