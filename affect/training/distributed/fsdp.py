"""FSDP2: weights, gradients and moments are DTensors, shared out layer by layer (torch's fully_shard)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from affect.recipe import Optim
from affect.training.distributed.engine import Engine, call_alike, check_model


class Sharded(Engine):
    """torch's fully_shard under the step; computing is torch's autocast, as in the other engines."""

    votes = False

    def __init__(self, accelerator: Accelerator):
        super().__init__(accelerator)
        self.name = "FSDP2"
        # Outputs are views of what the heads give, and nobody writes into them.
        warnings.filterwarnings("ignore", message=".*returned a view tensor", category=UserWarning)

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer, optim: Optim) -> tuple[nn.Module, Any]:
        """Return the model, sharded by its repeated layers unless the launch file names classes, and the optimiser."""
        call_alike(model)
        plugin = self.accelerator.state.fsdp_plugin
        # Its own policy would cast waveforms to bf16, which keeps 8 bits of them.
        plugin.mixed_precision_policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        # As the launch file says it, for the run after this one, whose model may have other layers.
        kept = plugin.transformer_cls_names_to_wrap
        plugin.transformer_cls_names_to_wrap = kept or layers_of(model)
        try:
            return super().prepare(model, optimizer, optim)
        finally:
            plugin.transformer_cls_names_to_wrap = kept

    def _clipped(self, parameters: Sequence[nn.Parameter], clip: float | None) -> float:
        """Clip the gradient to a norm, and return the one that all shards have together."""
        return float(self.accelerator.clip_grad_norm_(parameters, float("inf") if clip is None else clip))

    def load_weights(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Take over the whole state, of which each rank keeps its share."""
        plain = self.unwrap(model)
        state = plain.state_dict()
        check_model(state, weights)
        plain.load_state_dict({name: self._share(weights[name], value) for name, value in state.items()})

    def _whole(self, value: Tensor) -> Tensor:
        return value.full_tensor() if isinstance(value, DTensor) else value

    def _share(self, value: Tensor, parameter: Tensor) -> Tensor:
        whole = super()._share(value, parameter)
        if not isinstance(parameter, DTensor) or value.dim() == 0:
            return whole
        shard: Tensor = distribute_tensor(whole, parameter.device_mesh, parameter.placements)
        return shard


def layers_of(model: nn.Module) -> list[str]:
    """Return the names of the classes whose modules a model repeats: an encoder's layers."""
    names: dict[str, None] = {}
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            kinds = [type(child) for child in module if any(True for _ in child.parameters())]
            names |= {k.__name__: None for k in kinds if kinds.count(k) > 1 and not k.__module__.startswith("torch.")}
    return list(names)
