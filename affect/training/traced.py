"""The loss and gradient of a batch as one list of operations: what modules and autograd look up is looked up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule, Node

from affect.task import Batch, Term
from affect.training import terms as term_values

Tensors = Mapping[str, Tensor]
_ATEN = torch.ops.aten
_SAME = {
    _ATEN.mm.default: torch.mm, _ATEN.addmm.default: torch.addmm, _ATEN.t.default: torch.t,
    _ATEN.relu.default: torch.relu, _ATEN.mul.Tensor: torch.mul, _ATEN.add.Tensor: torch.add,
    _ATEN.div.Tensor: torch.div, _ATEN.sum.dim_IntList: torch.sum, _ATEN.sum.default: torch.sum,
    _ATEN.where.self: torch.where, _ATEN.gt.Scalar: torch.gt, _ATEN.view.default: Tensor.view,
}  # fmt: skip
"""Operations, and what calls the same ones in half the time."""


class Traced:
    """A model's step, traced for the shapes and types of one batch: the same operations, and so the same numbers."""

    def __init__(self, model: nn.Module, terms: Sequence[Term], batch: Batch, noise: Tensors):
        """Trace it. The model may branch on no value of its inputs (`affect.task.StackableModel`)."""
        # Imported where it is used: it takes a second.
        from torch.fx.experimental.proxy_tensor import make_fx

        names = [term.name for term in terms]
        given = (dict(model.named_parameters()), dict(model.named_buffers()), batch.inputs, batch.targets, noise)
        learns = {name for name, parameter in given[0].items() if parameter.requires_grad}

        def step(*flat: Tensor) -> list[Tensor | None]:
            rest = iter(flat)
            parameters, buffers, inputs, targets, masks = ({name: next(rest) for name in part} for part in given)
            leaves = {name: p.detach().requires_grad_(name in learns) for name, p in parameters.items()}
            outputs = functional_call(model, {**leaves, **buffers}, kwargs={**inputs, "noise": masks})
            loss = term_values.whole(terms, outputs, targets)
            learned = [leaf for leaf in leaves.values() if leaf.requires_grad]
            gradients = torch.autograd.grad(loss.total, learned, allow_unused=True)
            return [loss.total, *(loss.values[n] for n in names), *(loss.defined[n] for n in names), *gradients]

        own = [*(parameter.detach() for parameter in given[0].values()), *given[1].values()]
        self._names = names
        gradients = [p.grad for p in given[0].values() if p.requires_grad and p.grad is not None]
        self._step, self._own = _shortened(make_fx(step)(*own, *_flat(batch, noise)), own, gradients)

    def __call__(self, batch: Batch, noise: Tensors) -> term_values.Loss:
        """Write the gradient of a batch's loss over the one that the model's parameters have, and return the loss."""
        with torch.no_grad():
            total, *rest = self._step(*self._own, *_flat(batch, noise))
        values, defined = rest[: len(self._names)], rest[len(self._names) :]
        return term_values.Loss(total, *(dict(zip(self._names, part, strict=True)) for part in (values, defined)))


def shape_of(batch: Batch, noise: Tensors) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    """Return what a trace is for: the shapes and types of all that a step is given."""
    return tuple((tensor.shape, tensor.dtype) for tensor in _flat(batch, noise))


def _flat(batch: Batch, noise: Tensors) -> list[Tensor]:
    return [*batch.inputs.values(), *batch.targets.values(), *noise.values()]


def _shortened(
    traced: GraphModule, own: Sequence[Tensor], gradients: Sequence[Tensor]
) -> tuple[GraphModule, list[Tensor]]:
    """Leave out what is only for autograd, what undoes itself and what is the same in every step.

    The last of its outputs are written to `gradients`. Returns what is left, and the tensors that it takes first:
    `own`, of the model, and what was made of them.
    """
    graph = traced.graph
    given = [node for node in graph.nodes if node.op == "placeholder"]
    fixed = dict(zip(given, own, strict=False))
    for node in list(graph.nodes):
        first = node.args[0] if node.args else None
        if node.target is _ATEN.detach.default:
            node.replace_all_uses_with(first)
        elif node.target is _ATEN.t.default and isinstance(first, Node) and first.target is torch.t:
            node.replace_all_uses_with(first.args[0])
        elif node.target is _ATEN.scalar_tensor.default or (node.target is _ATEN.t.default and first in fixed):
            with graph.inserting_before(given[len(own)]):
                held = graph.placeholder(f"fixed_{node.name}")
            arguments = [fixed[argument] if isinstance(argument, Node) else argument for argument in node.args]
            fixed[held] = node.target(*arguments, **node.kwargs)
            node.replace_all_uses_with(held)
        elif node.target in _SAME:
            node.target = _SAME[node.target]
    (output,) = (node for node in graph.nodes if node.op == "output")
    outputs = output.args[0]
    for node, gradient in zip(outputs[-len(gradients) :], gradients, strict=True):
        with graph.inserting_before(given[len(own)]):
            held = graph.placeholder(f"gradient_{node.name}")
        fixed[held] = gradient
        if node.target is torch.mm:
            node.kwargs = {"out": held}
        else:
            with graph.inserting_before(output):
                graph.call_method("copy_", (held, node))
    output.args = (outputs[: -len(gradients)],)
    graph.eliminate_dead_code(lambda node: node.is_impure() or "out" in node.kwargs or node.target == "copy_")
    traced.recompile()
    return traced, list(fixed.values())
