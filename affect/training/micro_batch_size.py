"""The memory probe: how long a micro-batch may be, and whether a step's graphs can all be held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from affect.errors import AffectError
from affect.recipe import Recipe
from affect.task import Batch, Key, Task, Term
from affect.training import plan
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.loader import Collated, Order
from affect.training.schedule import Schedule

_CPU_BYTES = 256 * 2**20
"""What a micro-batch's graph may take on a CPU: larger ones are no faster there (docs/experiments.md)."""
_DRAWS = 8
"""Draws of the augmentation of which the largest is measured."""


@dataclass(frozen=True)
class Choice:
    """The budget and the mode (hold, replay, or one pass where all terms are additive), and why, in words."""

    budget: float
    mode: str
    words: str


def choose(
    engine: Engine, task: Task, model: nn.Module, terms: Sequence[Term], part: Dataset, recipe: Recipe
) -> Choice:
    """Return the budget and the mode that the recipe names, or that the memory here allows.

    Runs the longest example forward (on a GPU also backward) before there is an optimiser's state, which is counted in.
    A collective: all ranks take the smallest budget, since the plan is a function of it. Raises AffectError when
    even the longest example alone does not fit.
    """
    train = recipe.train
    lengths = np.asarray(part["length"][:], dtype=np.float64)
    mode = "one pass" if all(term.additive for term in terms) else train.mode
    if train.budget != "auto" and mode != "auto":
        return Choice(float(train.budget), mode, f"budget {train.budget:.4g} as named, {mode}")
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
    if mode == "auto":
        schedule = Schedule(lengths, train, recipe.seed, engine.world, budget)
        share = schedule.figures(schedule.per_epoch)["largest_share"]
        mode = "hold" if engine.smallest(float(per_unit * share * 1.2 < free)) == 1.0 else "replay"
    words = (
        f"memory: {per_unit / 2**20:.1f} MB of graph per {task.unit}, {free / 2**30:.1f} GB free: "
        f"budget {budget:.4g}, {mode}"
    )
    return Choice(budget, mode, words)


def _bytes_per_unit(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: np.ndarray, longest: int
) -> float:
    training = model.training
    model.train()
    with engine.seeded(0), engine.autocast():
        if engine.device.type == "cuda":
            once, twice = (_peak(engine, model, _inputs(engine, task, part, longest, n)) for n in (1, 2))
            # The difference leaves out what does not grow with the batch: gradients, casts of the weights.
            taken = twice - once
        else:
            taken = _saved(model, _inputs(engine, task, part, longest, 1))
    model.zero_grad(set_to_none=True)
    model.train(training)
    return max(1.0, taken) / float(lengths[longest])


def _inputs(engine: Engine, task: Task, part: Dataset, longest: int, rows: int) -> dict[str, Tensor]:
    data, micro = Collated(task, part), plan.Micro((longest,) * rows)
    batches: list[Batch] = []
    for epoch in range(_DRAWS):
        batch = data[Order(micro, Key(seed=0, epoch=epoch))]
        if isinstance(batch, Exception):
            raise batch
        batches.append(batch)
    # Augmentation may make an example longer or shorter: what counts is the longest that it may become.
    largest = max(batches, key=lambda batch: sum(tensor.numel() for tensor in batch.inputs.values()))
    return largest.to(engine.device).inputs


def _peak(engine: Engine, model: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Return the most bytes that a forward and backward take beyond what is there."""
    model.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats(engine.device)
    before = torch.cuda.memory_allocated(engine.device)
    sums = [output.float().sum() for output in model(**inputs).values() if output.requires_grad]
    torch.stack(sums).sum().backward()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(engine.device)
    return float(torch.cuda.max_memory_allocated(engine.device) - before)


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
