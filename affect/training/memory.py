"""Memory: how long a micro-batch may be, and what is done when it runs out. What it costs is measured beside.

Half the budget is tried then, by all ranks together, or left for the next session: it decides no result.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from affect.errors import AffectError, LostError, first_line
from affect.recipe import Recipe, Train
from affect.task import Key, Task, Term
from affect.training import cost_probe, plan, run_dir
from affect.training.costs import Costs
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.loader import Collated, Order
from affect.training.run_state import State
from affect.training.schedule import Schedule
from affect.training.step import OutVotedError

if TYPE_CHECKING:
    from datasets import Dataset

_LOG = logging.getLogger("affect")
_CPU_BYTES = 256 * 2**20
"""What a micro-batch's graph may take on a CPU: larger ones are no faster there (docs/experiments.md)."""
_DRAWS = 8
"""Draws of the augmentation of which the largest is measured."""
LIMIT = "budget.json"
"""In the folder of the checkpoints: the budget that a session which ran out of memory leaves to the next."""


def choose(
    engine: Engine, task: Task, model: nn.Module, terms: Sequence[Term], part: Dataset, recipe: Recipe
) -> tuple[State, str]:
    """Return a state with budget, mode and costs as the recipe names them, or as they are measured here; and why.

    Runs the longest example forward (on a GPU also backward) before there is an optimiser's state, which is counted in.
    A collective: all ranks take the smallest budget and the main rank's costs, since the plan is a function of both.
    Raises AffectError when even the longest example alone does not fit.
    """
    train = recipe.train
    lengths = np.asarray(part["length"][:], dtype=np.float64)
    asked: str | float = "one pass" if all(term.additive for term in terms) else train.mode
    if train.budget != "auto" and isinstance(asked, str) and asked != "auto":
        named = train.costs if isinstance(train.costs, tuple) else None
        words = f"budget {train.budget:.4g} as named, {asked}"
        words += "; balanced by padded length: costs are measured where the budget or the mode is" * (
            engine.world > 1 and train.costs == "auto"
        )
        return State(budget=float(train.budget), mode=asked, costs=named), words
    longest = int(lengths.argmax())
    try:
        per_unit = _bytes_per_unit(engine, task, model, part, lengths, longest)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(
            f"out of memory with the longest example alone ({part[longest]['id']}, {lengths[longest]:.4g} {task.unit})"
        ) from error
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    # Come with the first step: gradients, AdamW's two moments, DDP's buckets, and the averaged weights.
    copies = 3 + (engine.world > 1) + (recipe.optim.ema is not None)
    free = max(0.0, engine.free_memory() - float(copies * trained))
    if train.budget == "auto":
        room = min(free, _CPU_BYTES) if engine.device.type == "cpu" else free * 0.9
        budget = max(float(lengths[longest]), room / per_unit)
        budget = engine.smallest(min(budget, float(lengths[longest] * train.batch)))
    else:
        budget = float(train.budget)
    costs, told = _costs(engine, task, model, part, lengths, budget, recipe)
    mode, capacity = str(asked), 0.0
    if asked == "auto" or isinstance(asked, float):
        schedule = Schedule(lengths, train, recipe.seed, engine.world, budget, costs)
        whole = schedule.figures(schedule.per_epoch)["largest_share"]
        capacity = asked * whole if isinstance(asked, float) else engine.smallest(free / (1.2 * per_unit))
        mode = "hold" if capacity > whole else "mixed" if capacity >= budget or isinstance(asked, float) else "replay"
    kept = f"{mode}, {capacity:.4g} {task.unit} of graphs kept" if mode == "mixed" else mode
    words = (
        f"memory: {per_unit / 2**20:.1f} MB of graph per {task.unit}, {free / 2**30:.1f} GB free: "
        f"budget {budget:.4g}, {kept}{told}"
    )
    return State(budget=budget, mode=mode, capacity=capacity, costs=None if costs is None else costs.stored()), words


def _costs(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: np.ndarray, budget: float, recipe: Recipe
) -> tuple[Costs | None, str]:
    """Return the costs that the recipe names, or that are measured here, and what is said of them."""
    named = recipe.train.costs
    if isinstance(named, tuple):
        return Costs(*named), "; costs as named"
    measured = None if named == "linear" else cost_probe.costs(engine, task, model, part, lengths, budget, recipe)
    return (None, "") if measured is None else (measured[0], f"; costs {measured[1]}")


def _bytes_per_unit(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: np.ndarray, longest: int
) -> float:
    with cost_probe.probing(engine, model):
        if engine.accelerated:
            once, twice = (_peak(engine, model, _inputs(engine, task, part, longest, n)) for n in (1, 2))
            # The difference leaves out what does not grow with the batch: gradients, casts of the weights.
            taken = twice - once
        else:
            taken = _saved(model, _inputs(engine, task, part, longest, 1))
    return max(1.0, taken) / float(lengths[longest])


def _inputs(engine: Engine, task: Task, part: Dataset, longest: int, rows: int) -> dict[str, Tensor]:
    data, micro = Collated(task, part), plan.Micro((longest,) * rows)
    batches = [data.batch(Order(micro, Key(seed=0, epoch=epoch))) for epoch in range(_DRAWS)]
    # Augmentation may make an example longer or shorter: what counts is the longest that it may become.
    largest = max(batches, key=lambda batch: sum(tensor.numel() for tensor in batch.inputs.values()))
    return largest.to(engine.device).inputs


def _peak(engine: Engine, model: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Return the most bytes that a forward and backward take beyond what is there."""
    model.zero_grad(set_to_none=True)
    module = torch.get_device_module(engine.device)
    module.reset_peak_memory_stats(engine.device)
    before = module.memory_allocated(engine.device)
    cost_probe.forward_backward(model, inputs)
    cost_probe.wait(engine)
    return float(module.max_memory_allocated(engine.device) - before)


def _saved(model: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Return the bytes that autograd keeps for the backward, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**inputs)
    return float(sum(kept.values()))


def is_short(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, here or, by a vote, on any rank."""
    return isinstance(error, OutVotedError) or is_out_of_memory(error)


@contextlib.contextmanager
def explained(folder: Path, advice: str) -> Iterator[None]:
    """Raise AffectError, which says where it was and what to give, where memory runs out inside."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(f"{folder}: out of memory ({first_line(error)}); {advice}") from error


def halve(engine: Engine, state: State, shortest: float, checkpoints: Path, error: BaseException) -> None:
    """Halve the budget in force, replayed, so that the step can be repeated: same batch, same loss, other cut.

    Raises AffectError where not even single examples fit, and LostError, the halved budget left in `checkpoints`, where
    the other ranks can't repeat the step with this one.
    """
    before, halved = state.budget, state.budget / 2
    if halved < shortest:
        raise AffectError(f"out of memory even for single examples: {first_line(error)}") from error
    mode = _without_graphs(state.mode)
    if engine.world > 1 and not isinstance(error, OutVotedError):
        # The others may be inside a collective already.
        run_dir.write_json(checkpoints / LIMIT, {"budget": halved, "mode": mode, "failed": before})
        raise LostError(
            f"rank {engine.rank} ran out of memory; give the command again: it goes on from the last checkpoint with a "
            f"budget of {halved:.4g} at most instead of {before:.4g}, and the loss it optimises is the same"
        ) from error
    if engine.accelerated:
        torch.get_device_module(engine.device).empty_cache()
    state.budget, state.mode = halved, mode
    _LOG.warning(
        "step %d: out of memory; repeating it with a budget of %.4g instead of %.4g (%s), which changes no loss",
        state.step + 1, halved, before, mode,
    )  # fmt: skip


def settle(engine: Engine, named: Train, state: State, measured: State, checkpoints: Path) -> list[str]:
    """Let budget, mode and costs of a resumed run be those named, or what memory there is here; return what is said.

    A limit that an earlier session left holds, too. A budget that is `named` is believed, unless it is no smaller than
    the one with which that session ran out of memory: the same command given again must not end in the same way. A
    collective. Raises AffectError where the limit can't be read.
    """
    if named.budget != "auto" or state.budget > measured.budget:
        # Named anew, or a card with less memory than the one before.
        state.budget, state.mode, state.capacity = measured.budget, measured.mode, measured.capacity
    if named.mode != "auto":
        state.mode, state.capacity = measured.mode, measured.capacity
    if named.costs != "auto":
        # Else those that the run began with: what is measured here may differ, and the plan with it.
        state.costs = measured.costs
    limit, failed = engine.on_main(lambda: _limit(checkpoints / LIMIT))
    if limit >= state.budget or (named.budget != "auto" and state.budget < failed):
        return []
    state.budget, state.mode = limit, _without_graphs(state.mode)
    words = f"an earlier session ran out of memory: budget {limit:.4g} at most, {state.mode} ({checkpoints / LIMIT})"
    return [words]


def _without_graphs(mode: str) -> str:
    """Return the mode of a step that keeps no graphs, where it kept some."""
    return "one pass" if mode == "one pass" else "replay"


def _limit(path: Path) -> tuple[float, float]:
    """Return the largest budget that is left, and the one that memory ran out with."""
    if not path.exists():
        return math.inf, math.inf
    try:
        left = json.loads(path.read_text(encoding="utf-8"))
        return float(left["budget"]), float(left.get("failed", math.inf))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AffectError(f"{path} does not hold a budget: remove it") from error
