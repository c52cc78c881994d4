"""The step: the gradient of the loss of a whole global batch, however it is cut.

A rank has A micro-batches of the step. An additive loss takes one pass: with the counts of all ranks known before
any forward, each micro-batch's share is a plain sum. A gathered loss (CCC) is no sum, so its gradient is taken with
respect to the gathered outputs and sent back through each micro-batch, either with all graphs kept (hold) or by
forwarding again (replay). Legend: N examples of the global batch, W ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from affect.errors import first_line
from affect.task import AdditiveLoss, Batch, GatheredLoss, Loss
from affect.train import watchdog
from affect.train.engine import Engine, is_out_of_memory

Mode = Literal["hold", "replay"]
T = TypeVar("T")


class OutVotedError(Exception):
    """A rank ran out of memory before any gradient was reduced: every rank is told, and may repeat the step."""


@dataclass(frozen=True)
class Result:
    """What a step found: the loss [] of the global batch and its terms [], the same on every rank."""

    loss: Tensor
    terms: dict[str, Tensor]


def accumulate(
    engine: Engine, model: nn.Module, loss: Loss, batches: Sequence[Batch], *, mode: Mode, key: tuple[int, ...]
) -> Result:
    """Add the gradient of the global batch's loss to the model's parameters.

    `batches` are this rank's micro-batches, as many as every other rank has. `key` fixes what is random inside
    (dropout, LayerDrop, SpecAugment): the same key gives the same masks, which is what makes a replay exact.
    Raises OutVotedError on every rank where one ran out of memory in what ranks do alone, on engines that can repeat
    the step then.
    """
    if isinstance(loss, GatheredLoss):
        return _gathered(engine, model, loss, batches, mode, key)
    return _additive(engine, model, loss, batches, key)


def _additive(
    engine: Engine, model: nn.Module, loss: AdditiveLoss, batches: Sequence[Batch], key: tuple[int, ...]
) -> Result:
    names = tuple(loss.weights)
    local = [torch.stack([loss.counts(_real(b.targets, b))[name] for name in names]) for b in batches]
    # Collective 1 of 2: counts of all ranks, before any forward.
    counts = engine.sum(torch.stack(local).sum(0).double()).clamp(min=1)
    sums = torch.zeros_like(counts)

    def share(k: int, batch: Batch) -> Tensor:
        """Return the micro-batch's share of the loss [], its graph with it."""
        outputs = _forward(engine, model, batch, (*key, k))
        mine = loss.sums(_real(outputs, batch), _real(batch.targets, batch))
        sums.add_(torch.stack([mine[n].detach().double() for n in names]))
        return torch.stack([loss.weights[n] * mine[n] / counts[i] for i, n in enumerate(names)]).sum()

    def alone() -> Tensor:
        for k, batch in enumerate(batches[:-1]):
            engine.backward(engine.world * share(k, batch))
        return share(len(batches) - 1, batches[-1])

    with engine.alone(model):
        last = _voted(engine, alone)
    _reduce(engine, model, last)
    # Collective 2 of 2: the value, for the log.
    values = engine.sum(sums) / counts
    terms = {name: values[i] for i, name in enumerate(names)}
    return Result(_total(loss, terms), terms)


def _gathered(
    engine: Engine, model: nn.Module, loss: GatheredLoss, batches: Sequence[Batch], mode: Mode, key: tuple[int, ...]
) -> Result:
    hold = mode == "hold"

    def forward() -> list[dict[str, Tensor]]:
        held: list[dict[str, Tensor]] = []
        for k, batch in enumerate(batches):
            with torch.set_grad_enabled(hold):
                outputs = _forward(engine, model, batch, (*key, k))
            held.append({name: outputs[name] for name in loss.needs})
        return held

    with engine.alone(model):
        held = _voted(engine, forward)
    result, gradients = _gradients(engine, loss, held, batches)
    if hold:
        # One backward: several would make DDP reduce more than once.
        _reduce(engine, model, _surrogate(held, gradients))
        return result

    def share(k: int) -> Tensor:
        outputs = _forward(engine, model, batches[k], (*key, k))
        return _surrogate([outputs], gradients[k : k + 1])

    def alone() -> Tensor:
        for k in range(len(batches) - 1):
            engine.backward(engine.world * share(k))
        return share(len(batches) - 1)

    with engine.alone(model):
        last = _voted(engine, alone)
    _reduce(engine, model, last)
    return result


def _reduce(engine: Engine, model: nn.Module, last: Tensor) -> None:
    """Backpropagate the last share of a step, with which gradients are reduced between ranks."""
    watchdog.mark("backward")
    with engine.reducing(model):
        engine.backward(engine.world * last)


def _voted(engine: Engine, work: Callable[[], T]) -> T:
    """Return what `work` gives, which a rank does alone; raises OutVotedError on all where it ran out of memory on one.

    A collective where there are several ranks and the engine can repeat a step.
    """
    if engine.world == 1 or not engine.votes:
        return work()
    found: T | None = None
    said = ""
    try:
        found = work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # Its words alone: the error itself would keep the tensors of its frames.
        said = f"rank {engine.rank}: {first_line(error)}"
    if float(engine.sum(torch.tensor(float(bool(said)), device=engine.device))) > 0:
        raise OutVotedError(said or "another rank ran out of memory")
    assert found is not None
    return found


def _surrogate(outputs: Sequence[dict[str, Tensor]], gradients: Sequence[dict[str, Tensor]]) -> Tensor:
    """Return the scalar whose gradient with respect to each output is the one given."""
    parts = [
        (output[name] * gradient).sum()
        for output, mine in zip(outputs, gradients, strict=True)
        for name, gradient in mine.items()
    ]
    return torch.stack(parts).sum()


def _gradients(
    engine: Engine, loss: GatheredLoss, held: Sequence[dict[str, Tensor]], batches: Sequence[Batch]
) -> tuple[Result, list[dict[str, Tensor]]]:
    """Return the loss of all ranks' outputs and, for each micro-batch here, its gradient by output.

    A collective: every rank must reach it, with the same outputs and targets by name.
    """
    watchdog.mark("exchange")
    outputs = {n: torch.cat([_real(h, b)[n].detach() for h, b in zip(held, batches, strict=True)]) for n in loss.needs}
    targets = {n: torch.cat([_real(b.targets, b)[n] for b in batches]) for n in batches[0].targets}
    everyone, start = _exchange(
        engine, {**{("o", n): t for n, t in outputs.items()}, **{("t", n): t for n, t in targets.items()}}
    )
    leaves = {n: everyone["o", n].requires_grad_() for n in loss.needs}
    terms = loss.terms(leaves, {n: everyone["t", n] for n in targets})
    total = _total(loss, terms)
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True) if total.requires_grad else ()
    found = dict(zip(leaves, grads, strict=False))
    gradients: list[dict[str, Tensor]] = []
    for mine, batch in zip(held, batches, strict=True):
        rows = 0 if batch.filler else len(batch.ids)
        share = {}
        for name in loss.needs:
            gradient = torch.zeros_like(mine[name])
            whole = found.get(name)
            if rows and whole is not None:
                gradient[:rows] = whole[start : start + rows]
            share[name] = gradient
        start += rows
        gradients.append(share)
    return Result(total.detach(), {name: term.detach() for name, term in terms.items()}), gradients


def _exchange(engine: Engine, tensors: dict[tuple[str, str], Tensor]) -> tuple[dict[tuple[str, str], Tensor], int]:
    """Return the tensors of all ranks [N, ...] and where this rank's rows begin, in one collective.

    Packed as float64, which holds float32 values and class indices without loss.
    """
    wide = torch.float32 if engine.device.type == "mps" else torch.float64
    # A rank of fillers has no rows: -1 would be ambiguous there.
    flat = {key: t.reshape(len(t), math.prod(t.shape[1:])) for key, t in tensors.items()}
    table, start = engine.gather(torch.cat([t.to(wide) for t in flat.values()], dim=1))
    columns = torch.split(table, [t.shape[1] for t in flat.values()], dim=1)
    whole = {
        key: column.reshape(len(table), *tensors[key].shape[1:]).to(tensors[key].dtype)
        for key, column in zip(flat, columns, strict=True)
    }
    return whole, start


def _forward(engine: Engine, model: nn.Module, batch: Batch, key: tuple[int, ...]) -> dict[str, Tensor]:
    watchdog.mark("forward")
    with engine.seeded(*key, engine.rank), engine.autocast():
        outputs: dict[str, Tensor] = model(**batch.inputs)
    # Losses are computed in float32, whatever the precision of what they are computed from.
    return {name: t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for name, t in outputs.items()}


def _real(tensors: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return the rows that belong to the global batch: none of a filler's, with their graph."""
    return {name: t[:0] for name, t in tensors.items()} if batch.filler else tensors


def _total(loss: Loss, terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([loss.weights[name] * value for name, value in terms.items()]).sum()
