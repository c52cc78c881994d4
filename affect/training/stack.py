"""Several (K) models of one shape as one: parameters are slices of stacked tensors, the forward is one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from affect.task import Batch, Term
from affect.training import clock
from affect.training import terms as term_values
from affect.training.step import Result
from affect.training.traced import Traced, shape_of

Tensors = dict[str, Tensor]


class Stack:
    """K models whose gradients are taken in one pass (one model: as it is, nothing is copied).

    While they are stacked, the data of their parameters are views: an optimiser of each updates the stack.
    """

    def __init__(self, models: Sequence[nn.Module]):
        self.models = list(models)
        self.traces = False
        self._traced: dict[Any, Traced] = {}
        self.base = self.models[0]
        self._parameters: Tensors = {}
        self._buffers: Tensors = {}
        if len(self.models) == 1:
            # Kept: to look through the modules takes as long as a layer.
            self._leaves = list(self.base.parameters())
            return
        named = [dict(model.named_parameters()) for model in self.models]
        for name in named[0]:
            together = torch.stack([parameters[name].detach() for parameters in named])
            for parameters, slice_ in zip(named, together, strict=True):
                parameters[name].data = slice_
            self._parameters[name] = together.requires_grad_(named[0][name].requires_grad)
        buffers = [dict(model.named_buffers()) for model in self.models]
        self._buffers = {name: torch.stack([own[name] for own in buffers]) for name in buffers[0]}
        self._named = named

    def gradient(
        self, terms: Sequence[Term], batches: Sequence[Batch], noises: Sequence[Tensors],
        factors: Sequence[Mapping[str, float]],
    ) -> list[Result]:  # fmt: skip
        """Leave each model's gradient of its batch's loss in its parameters and return what each step found.

        Batches of fewer rows than the largest are padded with rows without a label, which no term counts. `factors`
        multiply the terms' own weights, model by model; none leaves them.
        """
        clock.mark("forward")
        if len(self.models) == 1:
            loss = self._alone(terms, batches[0], noises[0], factors[0])
            return [Result.read(loss.total, loss.values, loss.defined)]
        rows = max(len(batch.ids) for batch in batches)
        inputs = _stacked([_padded(batch.inputs, rows) for batch in batches])
        # What is a target and an input (a mask) is no label.
        labels = batches[0].targets.keys() - batches[0].inputs.keys()
        targets = _stacked([_padded(batch.targets, rows, labels) for batch in batches])
        noise = _stacked([_padded(masks, rows) for masks in noises])
        device = next(iter(inputs.values())).device
        plain = torch.ones(len(batches), device=device)
        # Copied to a device, which its host waits for, only where a task weighs its terms.
        weights = {
            t.name: torch.tensor([f.get(t.name, 1.0) for f in factors], device=device) if any(factors) else plain
            for t in terms
        }

        def one(
            parameters: Tensors, buffers: Tensors, x: Tensors, y: Tensors, z: Tensors, w: Tensors
        ) -> tuple[Tensor, Tensors, Tensors]:
            outputs = functional_call(self.base, (parameters, buffers), kwargs={**x, "noise": z})
            loss = term_values.whole(terms, outputs, y, w)
            return loss.total, loss.values, loss.defined

        totals, values, defined = vmap(one)(self._parameters, self._buffers, inputs, targets, noise, weights)
        learned = {name: leaf for name, leaf in self._parameters.items() if leaf.requires_grad}
        clock.mark("backward")
        # Each model's loss depends on its own slice alone: the gradient of the sum is the gradients side by side.
        gradients = torch.autograd.grad(totals.sum(), list(learned.values()), allow_unused=True)
        for name, gradient in zip(learned, gradients, strict=True):
            # As its parameter lies in memory: torch's fused optimisers read another order as if it were this one.
            whole = None if gradient is None else gradient.contiguous()
            for k, parameters in enumerate(self._named):
                parameters[name].grad = None if whole is None else whole[k]
        return _results(totals, values, defined)

    def _alone(
        self, terms: Sequence[Term], batch: Batch, noise: Tensors, factors: Mapping[str, float]
    ) -> term_values.Loss:
        """Leave the gradient of the only model in its parameters and return its loss."""
        if self.traces and not factors:
            shape = shape_of(batch, noise)
            if shape not in self._traced:
                self._traced[shape] = Traced(self.base, terms, batch, noise)
            return self._traced[shape](batch, noise)
        for parameter in self._leaves:
            # A trace writes to the gradients that there are.
            if not self.traces:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()
        loss = term_values.whole(terms, self.base(**batch.inputs, noise=noise), batch.targets, factors or None)
        clock.mark("backward")
        loss.total.backward()  # type: ignore[no-untyped-call]
        return loss

    def release(self) -> None:
        """Give each model its parameters back, so that it outlives the stack."""
        for parameters in self._named if len(self.models) > 1 else ():
            for parameter in parameters.values():
                parameter.data = parameter.data.clone()
                parameter.grad = None


def _results(totals: Tensor, values: Tensors, defined: Tensors) -> list[Result]:
    """Return what each of K models' steps found, of losses, values and what was defined, each [K], in one copy."""
    on_device = [totals, *values.values(), *(defined[name].to(totals.dtype) for name in values)]
    table = torch.stack([row.detach() for row in on_device]).cpu()
    took_part = table[1 + len(values) :].tolist()
    results = []
    for k, column in enumerate(table[: 1 + len(values)].unbind(1)):
        total, *rest = column.unbind()
        undefined = tuple(name for name, flags in zip(values, took_part, strict=True) if not flags[k])
        results.append(Result(total, dict(zip(values, rest, strict=True)), undefined))
    return results


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
