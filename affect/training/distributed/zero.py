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
from affect.training.distributed.data_parallel import (
    Check,
    Plain,
    by_parameter,
    call_alike,
    check_model,
    check_names,
    kept,
)


class Zero(Plain):
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
        said = self.accelerator.state.deepspeed_plugin.deepspeed_config
        # As the launch file says it, for the run after this one.
        original = copy.deepcopy(said)
        said["gradient_clipping"] = 0.0 if optim.clip is None else optim.clip
        # DeepSpeed asks for them, and nothing follows from them: the step cuts the batch.
        said["train_micro_batch_size_per_gpu"], said["gradient_accumulation_steps"] = 1, 1
        said["train_batch_size"] = self.accelerator.num_processes
        # torch's optimiser is kept with offloading: the moments are the same numbers then, and nothing is compiled.
        said["zero_force_ds_cpu_optimizer"] = False
        # Asked before it is switched off: Accelerate reads the precision from this very configuration.
        half = self.accelerator.mixed_precision == "bf16"
        for name in ("bf16", "fp16"):
            said[name] = {"enabled": False}
        if half:
            # No module's gradients travel in bf16.
            said["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
        if self.stage == 3:
            call_alike(model)
        try:
            self._engine, wrapped = self.accelerator.prepare(model, optimizer)
        finally:
            said.clear()
            said.update(original)
        return self._engine, wrapped

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
        """Take the step, which clips; return the gradient's norm before clipping, and that it was not skipped.

        `check` sees the norm after the step: a run that it stops has saved nothing since.
        """
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        check(norm)
        return norm, False

    def tensors(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield the model's state; stage 3 gathers one parameter at a time."""
        if self.stage < 3 or model is not self._engine:
            yield from super().tensors(model)
            return
        from deepspeed import zero

        plain = self.unwrap(model)
        parameters = dict(plain.named_parameters(remove_duplicate=False))
        for name, value in plain.state_dict(keep_vars=True).items():
            with zero.GatheredParameters([parameters[name]] if name in parameters else [], enabled=name in parameters):
                yield name, value.detach()

    def load_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take over the whole state: the module's, and the copies that the optimiser steps."""
        if model is not self._engine:
            super().load_weights(model, weights)
            return
        from deepspeed import zero

        plain = self.unwrap(model)
        parameters = dict(plain.named_parameters(remove_duplicate=False))
        _check_weights(plain, weights, parameters)
        for name, value in plain.state_dict(keep_vars=True).items():
            held = [parameters[name]] if name in parameters and self.stage == 3 else []
            with torch.no_grad(), zero.GatheredParameters(held, modifier_rank=0, enabled=bool(held)):
                value.copy_(weights[name].to(value.device))
        if self.stage == 3:
            self._refresh(parameters, weights)
        else:
            self._inner.refresh_fp32_params()

    def _refresh(self, parameters: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_local_fp32_param

        for name, parameter in parameters.items():
            if parameter.requires_grad:
                safe_set_local_fp32_param(parameter, self._part(parameter, weights[name]))

    def _part(self, parameter: nn.Parameter, value: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor, padded as stage 3 pads it (its own setter forgets to)."""
        size = int(parameter.ds_tensor.ds_numel)  # type: ignore[attr-defined]
        rank = self.accelerator.process_index
        flat = value.to(self.accelerator.device, torch.float32).flatten()
        padded = torch.nn.functional.pad(flat, (0, size * self.accelerator.num_processes - flat.numel()))
        return padded[rank * size : (rank + 1) * size]

    def moments(self, model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
        """Return the optimiser's state as <kind>/<parameter>, whole and on the CPU, on the main rank. A collective."""
        from deepspeed.utils import safe_get_full_optimizer_state

        found: dict[str, Tensor] = {}
        steps = [state["step"] for state in self._inner.optimizer.state.values() if "step" in state]
        if not steps:
            return found
        self._link()
        for name, parameter in self.unwrap(model).named_parameters():
            if not parameter.requires_grad:
                continue
            for kind in ("exp_avg", "exp_avg_sq"):
                whole = safe_get_full_optimizer_state(parameter, kind)
                if self.accelerator.is_main_process:
                    found[f"{kind}/{name}"] = kept(whole.reshape(_shape(parameter)))
            found[f"step/{name}"] = kept(steps[0])
        return found if self.accelerator.is_main_process else {}

    def load_moments(self, model: nn.Module, optimizer: Any, moments: dict[str, Tensor]) -> None:
        """Take over the optimiser's state, given on every rank. Raises ValueError where it does not fit."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if not moments:
            return
        parameters = {n: p for n, p in self.unwrap(model).named_parameters() if p.requires_grad}
        given = by_parameter(moments)
        check_names(given, set(parameters))
        inner = self._inner
        # A fresh optimiser has no state before its first step.
        flats = inner.fp32_partitioned_groups_flat if self.stage == 3 else inner.single_partition_of_fp32_groups
        for flat in flats:
            inner.optimizer.state[flat] = {
                "step": next(iter(given.values()))["step"].to(flat.device, torch.float32, copy=True),
                "exp_avg": torch.zeros_like(flat),
                "exp_avg_sq": torch.zeros_like(flat),
            }
        self._link()
        for name, kinds in given.items():
            parameter = parameters[name]
            for kind in ("exp_avg", "exp_avg_sq"):
                value = kinds[kind]
                if value.shape != _shape(parameter):
                    raise ValueError(f"{kind}/{name} is {list(value.shape)}, not {list(_shape(parameter))}")
                if self.stage == 3:
                    safe_set_local_optimizer_state(parameter, self._part(parameter, value), kind)
                else:
                    safe_set_full_optimizer_state(parameter, value.to(self.accelerator.device), kind)

    def _link(self) -> None:
        """Let stages 1 and 2 find the moments of every group: they look once, when the first has been stepped."""
        if self.stage < 3:
            self._inner._hp_optimizer_states_linked = False
            self._inner._lazy_init_hp_params_optimizer_state()

    @property
    def _inner(self) -> Any:
        """DeepSpeed's optimiser, which steps torch's."""
        return self._engine.optimizer


def _shape(parameter: nn.Parameter) -> torch.Size:
    """Return the whole shape of a parameter, which stage 3 keeps beside an empty one."""
    return torch.Size(getattr(parameter, "ds_shape", parameter.shape))


def _check_weights(plain: nn.Module, weights: dict[str, Tensor], parameters: dict[str, nn.Parameter]) -> None:
    state = plain.state_dict(keep_vars=True)
    check_model(state, weights)
    for name, value in state.items():
        shape = _shape(parameters[name]) if name in parameters else value.shape
        if weights[name].shape != shape:
            raise ValueError(f"the weights {name} are {list(weights[name].shape)}, not {list(shape)}")
