"""Several models of one shape as one: their parameters are slices of stacked tensors, their forwards one.

Legend: K models, B rows of a micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from affect.task import Batch, Loss, terms_of

Tensors = dict[str, Tensor]


class Stack:
    """K models whose gradients are taken in one pass (one model: as it is, nothing is copied).

    While they are stacked, the data of their parameters are views: an optimiser of each updates the stack.
    """

    def __init__(self, models: Sequence[nn.Module]):
        self.models = list(models)
        self.base = self.models[0]
        self._parameters: Tensors = {}
        self._buffers: Tensors = {}
        if len(self.models) == 1:
            return
        named = [dict(model.named_parameters()) for model in self.models]
        for name in named[0]:
            together = torch.stack([mine[name].detach() for mine in named])
            for mine, slice_ in zip(named, together, strict=True):
                mine[name].data = slice_
            self._parameters[name] = together.requires_grad_(named[0][name].requires_grad)
        buffers = [dict(model.named_buffers()) for model in self.models]
        self._buffers = {name: torch.stack([mine[name] for mine in buffers]) for name in buffers[0]}
        self._named = named

    def gradient(self, loss: Loss, batches: Sequence[Batch], noises: Sequence[Tensors]) -> list[Tensors]:
        """Leave each model's gradient of its batch's loss in its parameters and return its terms [] by name.

        Batches of fewer rows than the largest are padded with rows without a label, which no loss counts.
        """
        if len(self.models) == 1:
            batch = batches[0]
            self.base.zero_grad(set_to_none=True)
            terms = terms_of(loss, self.base(**batch.inputs, noise=noises[0]), batch.targets)
            _total(loss, terms).backward()  # type: ignore[no-untyped-call]
            return [{name: term.detach() for name, term in terms.items()}]
        rows = max(len(batch.ids) for batch in batches)
        inputs = _stacked([_padded(batch.inputs, rows) for batch in batches])
        # What is a target and an input (a mask) is no label.
        labels = batches[0].targets.keys() - batches[0].inputs.keys()
        targets = _stacked([_padded(batch.targets, rows, labels) for batch in batches])
        noise = _stacked([_padded(mine, rows) for mine in noises])

        def one(parameters: Tensors, buffers: Tensors, x: Tensors, y: Tensors, z: Tensors) -> Tensors:
            outputs = functional_call(self.base, (parameters, buffers), kwargs={**x, "noise": z})
            return terms_of(loss, outputs, y)

        terms = vmap(one)(self._parameters, self._buffers, inputs, targets, noise)
        learned = {name: leaf for name, leaf in self._parameters.items() if leaf.requires_grad}
        # Each model's loss depends on its own slice alone: the gradient of the sum is the gradients side by side.
        gradients = torch.autograd.grad(_total(loss, terms).sum(), list(learned.values()), allow_unused=True)
        for name, gradient in zip(learned, gradients, strict=True):
            # As its parameter lies in memory: torch's fused optimisers read another order as if it were this one.
            whole = None if gradient is None else gradient.contiguous()
            for k, mine in enumerate(self._named):
                mine[name].grad = None if whole is None else whole[k]
        return [{name: term.detach()[k] for name, term in terms.items()} for k in range(len(self.models))]

    def release(self) -> None:
        """Give each model its parameters back, so that it outlives the stack."""
        for mine in self._named if len(self.models) > 1 else ():
            for parameter in mine.values():
                parameter.data = parameter.data.clone()
                parameter.grad = None


def _total(loss: Loss, terms: Mapping[str, Tensor]) -> Tensor:
    """Return the weighed sum of terms [] or [K]."""
    return torch.stack([loss.weights[name] * value for name, value in terms.items()]).sum(0)


def _stacked(parts: Sequence[Tensors]) -> Tensors:
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _padded(tensors: Mapping[str, Tensor], rows: int, labels: Collection[str] = ()) -> Tensors:
    """Return tensors [B, ...] with as many rows as asked for: zeros, or of `labels` missing ones."""
    padded = {}
    for name, tensor in tensors.items():
        missing = math.nan if tensor.is_floating_point() else -100
        added = (0, 0) * (tensor.ndim - 1) + (0, rows - len(tensor))
        padded[name] = F.pad(tensor, added, value=missing if name in labels else 0)
    return padded
