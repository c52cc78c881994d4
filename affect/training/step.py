"""The step: the gradient of the loss of a whole global batch, however it is cut.

A rank has A micro-batches of the step. Additive terms take one pass: with the counts of all ranks known before any
forward, each micro-batch's share is a plain sum. A batch term (CCC) is no sum, so its gradient is taken with respect to
the gathered outputs and sent back through each micro-batch: through its graph where that was kept (hold), else by
forwarding again (replay; what frozen parts gave is kept). The additive terms' shares go into the same backward.
Legend: N examples of the global batch, W ranks, K additive terms, P values of the shared parameters.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from affect import keyed
from affect.errors import first_line
from affect.frozen import Kept, keeping
from affect.task import LOG_VARIANCE, Batch, Term
from affect.training import clock, watchdog
from affect.training import terms as term_values
from affect.training.distributed import Engine, is_out_of_memory

Mode = Literal["hold", "replay"] | int
"""How many of a rank's first micro-batches keep their graphs between a step's two forwards: all, none, or a number."""
T = TypeVar("T")
See = Callable[[dict[str, Tensor], Batch], None]
"""Sees the outputs of each micro-batch that is no filler."""


class OutVotedError(Exception):
    """A rank ran out of memory before any gradient was reduced: every rank is told, and may repeat the step."""


@dataclass(frozen=True)
class Result:
    """What a step found on every rank: the loss [], its terms' values [], and those that took no part (undefined).

    All of it is in the host's memory.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    undefined: tuple[str, ...] = ()

    @classmethod
    def read(cls, loss: Tensor, terms: Mapping[str, Tensor], defined: Mapping[str, Tensor]) -> Result:
        """Return what is on a device, each [], in one copy: the host waits once, whatever the number of terms."""
        on_device = [loss, *terms.values(), *(defined[name] for name in terms)]
        # Stacked they have the widest of their types.
        read = torch.stack([value.detach() for value in on_device]).cpu()
        took_part = read[1 + len(terms) :].tolist()
        total, *wide = read[: 1 + len(terms)].unbind()
        values = [value.to(term.dtype) for value, term in zip(wide, terms.values(), strict=True)]
        undefined = tuple(name for name, part in zip(terms, took_part, strict=True) if not part)
        return cls(total.to(loss.dtype), dict(zip(terms, values, strict=True)), undefined)


def accumulate(
    engine: Engine, model: nn.Module, terms: Sequence[Term], batches: Sequence[Batch], *, mode: Mode,
    key: tuple[int, int], factors: Mapping[str, float] | None = None, see: See | None = None,
) -> Result:  # fmt: skip
    """Add the gradient of the global batch's loss to the model's parameters.

    `batches` are this rank's micro-batches, as many as every other rank has. `key` (the seed and the step) and the
    examples' ids decide what is random inside (dropout, LayerDrop, SpecAugment), and nothing else does: neither the
    cut nor a replay. `factors` multiply the terms' own weights.
    Raises OutVotedError on every rank where one ran out of memory in what ranks do alone, on engines that can repeat
    the step then.
    """
    return _Step(engine, model, terms, batches, mode, key, factors or {}, see).run()


def taking_part(engine: Engine, terms: Sequence[Term], batches: Sequence[Batch]) -> list[str]:
    """Return the terms by name that the global batch's targets, of all ranks, tell something. A collective.

    Of one process `batches` are best asked before they are on the device, which would have to be waited for.
    """
    if engine.world > 1:
        batches = [replace(batch, inputs={}).to(engine.device) for batch in batches]
    additive, of_batch = [t for t in terms if t.additive], [t for t in terms if not t.additive]
    defined: dict[str, bool] = {}
    if additive:
        counts = _counts(engine, additive, batches)[:-1].tolist()
        defined |= {term.name: count > 0 for term, count in zip(additive, counts, strict=True)}
    if of_batch:
        names = dict.fromkeys(name for term in of_batch for name in term.targets)
        own = {("target", n): torch.cat([_real(b.targets, b)[n] for b in batches]) for n in names}
        everyone = {name: held for (_, name), held in (_exchange(engine, own)[0] if own else own).items()}
        defined |= {term.name: term.defined is None or bool(term.defined(everyone)) for term in of_batch}
    return [term.name for term in terms if defined[term.name]]


def by_term(
    engine: Engine, model: nn.Module, terms: Sequence[Term], batches: Sequence[Batch], *, mode: Mode,
    key: tuple[int, int], factors: Mapping[str, float] | None = None, parameters: Sequence[nn.Parameter],
) -> dict[str, Tensor]:  # fmt: skip
    """Return each term's weighed gradient of `parameters`, flat [P], by name; of one process. No gradient is left."""
    gradients = {}
    for term in terms:
        model.zero_grad(set_to_none=True)
        accumulate(engine, model, [term], batches, mode=mode, key=key, factors=factors)
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        gradients[term.name] = torch.cat(flat).float()
    model.zero_grad(set_to_none=True)
    return gradients


class _Step:
    def __init__(
        self, engine: Engine, model: nn.Module, terms: Sequence[Term], batches: Sequence[Batch], mode: Mode,
        key: tuple[int, int], factors: Mapping[str, float], see: See | None,
    ):  # fmt: skip
        self.engine, self.model, self.batches, self.key, self.see = engine, model, batches, key, see
        self.held = len(batches) if mode == "hold" else 0 if mode == "replay" else min(mode, len(batches))
        self.frozen: list[Kept] = [{} for _ in batches]
        self.order = [term.name for term in terms]
        whole = {**dict.fromkeys(self.order, 1.0), **factors}
        self.additive = _Additive(engine, [term for term in terms if term.additive], batches, whole)
        self.of_batch = _OfBatch(engine, [term for term in terms if not term.additive], whole)

    def run(self) -> Result:
        if not self.of_batch.terms:
            self._each(0)
            return self._result()
        with self.engine.alone(self.model):
            graphs, read = _voted(self.engine, self._forward_all)
        gradients = self.of_batch.gradients(read, self.batches)
        held = [self._share(outputs, self.batches[k], gradients[k]) for k, outputs in enumerate(graphs)]
        # One backward of all of them: several would make DDP reduce more than once.
        total = torch.stack(held).sum() if held else None
        del graphs, held
        if total is not None and self.held == len(self.batches):
            self._reduce(total)
        else:
            self._each(self.held, gradients, total)
        return self._result()

    def _forward_all(self) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
        """Return the outputs of the micro-batches that keep their graphs, and what batch terms read of all."""
        graphs = [self._forward(k) for k in range(self.held)]
        with torch.no_grad():
            # Nothing else of the outputs is kept until the next forward.
            rest = [self.of_batch.read(self._forward(k)) for k in range(self.held, len(self.batches))]
        return graphs, [self.of_batch.read(outputs) for outputs in graphs] + rest

    def _each(
        self, first: int, gradients: Sequence[dict[str, Tensor]] | None = None, held: Tensor | None = None
    ) -> None:
        """Forward and backpropagate micro-batches from `first` on one at a time, the last one with what is reduced.

        Before them, so that its memory is free, what is `held` of those that kept their graphs.
        """

        def share(k: int) -> Tensor:
            outputs = self._forward(k)
            self.frozen[k].clear()
            return self._share(outputs, self.batches[k], {} if gradients is None else gradients[k])

        def alone() -> Tensor:
            if held is not None:
                self._backward(held)
            for k in range(first, len(self.batches) - 1):
                self._backward(share(k))
            return share(len(self.batches) - 1)

        with self.engine.alone(self.model):
            last = _voted(self.engine, alone)
        self._reduce(last)

    def _forward(self, k: int) -> dict[str, Tensor]:
        watchdog.mark("forward")
        batch, place = self.batches[k], (*self.key, k, self.engine.rank)
        twice = k >= self.held and bool(self.of_batch.terms)
        kept = keeping(self.frozen[k]) if twice else contextlib.nullcontext()
        keys = keyed.examples(*self.key, batch.ids, self.engine.device)
        # Seeded for a task's own model that draws from the generators: that follows the cut, and a replay repeats it.
        with self.engine.seeded(*place), keys, self.engine.autocast(), kept:
            outputs: dict[str, Tensor] = self.model(**batch.inputs)
        # Losses are computed in float32, whatever the precision of what they are computed from.
        return {name: t.float() if t.dtype in (torch.bfloat16, torch.float16) else t for name, t in outputs.items()}

    def _share(self, outputs: dict[str, Tensor], batch: Batch, gradients: Mapping[str, Tensor]) -> Tensor:
        """Return what a micro-batch adds to the loss [], or to the scalar that has the loss's gradient."""
        if self.see is not None and not batch.filler:
            self.see({name: output.detach() for name, output in outputs.items()}, batch)
        parts = [(outputs[name] * gradient).sum() for name, gradient in gradients.items()]
        parts += self.additive.share(outputs, batch)
        return torch.stack(parts).sum()

    def _reduce(self, last: Tensor) -> None:
        """Backpropagate the last share of a step, with which gradients are reduced between ranks."""
        watchdog.mark("backward")
        with self.engine.reducing(self.model):
            self._backward(last)

    def _backward(self, share: Tensor) -> None:
        # A rank that hangs is named by the last of its collectives: of the others the clock alone is told.
        clock.mark("backward")
        self.engine.backward(self.engine.world * share)

    def _result(self) -> Result:
        clock.mark("exchange")
        loss, values, defined = self.additive.finish()
        if self.of_batch.loss is not None:
            loss = loss + self.of_batch.loss.total
            values |= self.of_batch.loss.values
            defined |= self.of_batch.loss.defined
        return Result.read(loss, {name: values[name] for name in self.order}, defined)


class _Additive:
    """The additive terms of a step: their counts over all ranks, shares of micro-batches, and values."""

    def __init__(self, engine: Engine, terms: Sequence[Term], batches: Sequence[Batch], factors: Mapping[str, float]):
        """Add up the valid units of all ranks, before any forward. A collective where there are such terms."""
        self.engine, self.terms, self.factors = engine, terms, factors
        if not terms:
            return
        totals = _counts(engine, terms, batches)
        self._counts, self._rows = totals[:-1], totals[-1]
        # The terms' sums and, at the end, the log variances' shares of the loss.
        self._sums = torch.zeros(len(terms) + 1, dtype=totals.dtype, device=totals.device)

    def share(self, outputs: dict[str, Tensor], batch: Batch) -> list[Tensor]:
        """Return a micro-batch's shares of the terms [], their graphs with them."""
        real, targets = _real(outputs, batch), _real(batch.targets, batch)
        shares = []
        for k, term in enumerate(self.terms):
            assert term.sum is not None
            total = term.sum(real, targets)
            count = self._counts[k].clamp(min=1)
            share = term.weight * self.factors[term.name] * total / count.to(total.dtype)
            self._sums[k] += total.detach()
            if term.log_variance is not None:
                s = real[LOG_VARIANCE][:, term.log_variance].float()
                # Of a filler no row is left: its level is 0, and so is its sum.
                weighed = torch.exp(-s.sum() / max(1, len(s))) * share
                drift = torch.where(self._counts[k] > 0, s.sum() / self._rows.to(s.dtype), 0.0)
                self._sums[-1] += (weighed - share + drift).detach()
                share = weighed + drift
            shares.append(share)
        return shares

    def finish(self) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms' weighed total [], their values [] and which took part []. A collective, as counts are."""
        if not self.terms:
            return torch.zeros((), device=self.engine.device), {}, {}
        sums = self.engine.sum(self._sums)
        values = sums[:-1] / self._counts.clamp(min=1)
        total = sums[-1]
        for k, term in enumerate(self.terms):
            total = total + term.weight * self.factors[term.name] * values[k]
        names, defined = [term.name for term in self.terms], (self._counts > 0).unbind()
        return total.float(), dict(zip(names, values.unbind(), strict=True)), dict(zip(names, defined, strict=True))


class _OfBatch:
    """The batch terms of a step: what they read is gathered, and their gradient by it handed out again."""

    def __init__(self, engine: Engine, terms: Sequence[Term], factors: Mapping[str, float]):
        self.engine, self.terms, self.factors = engine, terms, factors
        learned = (LOG_VARIANCE,) if any(term.log_variance is not None for term in terms) else ()
        self.outputs = tuple(dict.fromkeys([*(name for term in terms for name in term.outputs), *learned]))
        self.targets = tuple(dict.fromkeys(name for term in terms for name in term.targets))
        self.loss: term_values.Loss | None = None

    def read(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs that the terms read."""
        return {name: outputs[name] for name in self.outputs}

    def gradients(self, held: Sequence[dict[str, Tensor]], batches: Sequence[Batch]) -> list[dict[str, Tensor]]:
        """Return for each micro-batch here the gradient of the terms of all ranks by its outputs.

        A collective: every rank must reach it, with the same outputs and targets by name.
        """
        watchdog.mark("exchange")
        own = {
            ("output", name): torch.cat([_real(h, b)[name].detach() for h, b in zip(held, batches, strict=True)])
            for name in self.outputs
        }
        own |= {("target", n): torch.cat([_real(b.targets, b)[n] for b in batches]) for n in self.targets}
        everyone, start = _exchange(self.engine, own)
        leaves = {name: everyone["output", name].requires_grad_() for name in self.outputs}
        targets = {name: everyone["target", name] for name in self.targets}
        loss = self.loss = term_values.whole(self.terms, leaves, targets, self.factors)
        grads = torch.autograd.grad(loss.total, list(leaves.values()), allow_unused=True)
        whole = dict(zip(leaves, grads, strict=True))
        shares: list[dict[str, Tensor]] = []
        for outputs, batch in zip(held, batches, strict=True):
            rows = 0 if batch.filler else len(batch.ids)
            share = {name: torch.zeros_like(output) for name, output in outputs.items()}
            for name, gradient in whole.items():
                if rows and gradient is not None:
                    share[name][:rows] = gradient[start : start + rows]
            start += rows
            shares.append(share)
        return shares


def _counts(engine: Engine, terms: Sequence[Term], batches: Sequence[Batch]) -> Tensor:
    """Return the valid units of each additive term and the rows [K + 1] of all ranks. A collective."""
    clock.mark("exchange")
    local = []
    for batch in batches:
        targets = _real(batch.targets, batch)
        counts = [term.count(targets) for term in terms if term.count is not None]
        # Made there: a copy of a number of the host would wait for what is queued.
        rows = torch.full((), 0 if batch.filler else len(batch.ids), device=counts[0].device)
        local.append(torch.stack([*counts, rows]))
    return engine.sum(torch.stack(local).sum(0).to(term_values.wide(engine.device)))


def _voted(engine: Engine, work: Callable[[], T]) -> T:
    """Return what `work` gives on this rank; OutVotedError on all where it ran out of memory on one. A collective."""
    if engine.world == 1 or not engine.votes:
        return work()
    outcome: T | None = None
    words = ""
    try:
        outcome = work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # Its words alone: the error itself would keep the tensors of its frames.
        words = f"rank {engine.rank}: {first_line(error)}"
    clock.mark("exchange")
    if float(engine.sum(torch.tensor(float(bool(words)), device=engine.device))) > 0:
        raise OutVotedError(words or "another rank ran out of memory")
    assert outcome is not None
    return outcome


def _exchange(engine: Engine, tensors: dict[tuple[str, str], Tensor]) -> tuple[dict[tuple[str, str], Tensor], int]:
    """Return the tensors of all ranks [N, ...] and where this rank's rows begin, in one collective.

    Packed as float64, which holds float32 values and class indices without loss. Raises ValueError where a tensor has
    other rows than the first.
    """
    rows = {key: len(t) for key, t in tensors.items()}
    odd = next((key for key, count in rows.items() if count != next(iter(rows.values()))), None)
    if odd is not None:
        raise ValueError(f"the {odd[0]} {odd[1]} has {rows[odd]} rows, others that terms read {max(rows.values())}")
    # A rank of fillers has no rows: -1 would be ambiguous there.
    flat = {key: t.reshape(len(t), math.prod(t.shape[1:])) for key, t in tensors.items()}
    table, start = engine.gather(torch.cat([t.to(term_values.wide(engine.device)) for t in flat.values()], dim=1))
    columns = torch.split(table, [t.shape[1] for t in flat.values()], dim=1)
    whole = {
        key: column.reshape(len(table), *tensors[key].shape[1:]).to(tensors[key].dtype)
        for key, column in zip(flat, columns, strict=True)
    }
    return whole, start


def _real(tensors: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return the rows that belong to the global batch: none of a filler's, with their graph."""
    return {name: t[:0] for name, t in tensors.items()} if batch.filler else tensors
