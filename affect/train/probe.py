"""The memory probe: how long a micro-batch may be, and whether a step's graphs can all be held."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from affect.recipe import Train
from affect.task import AdditiveLoss, Loss, Task
from affect.train import plan
from affect.train.engine import Engine
from affect.train.loader import Collated, Order
from affect.train.schedule import Schedule

_LOG = logging.getLogger("affect")
_CPU_BYTES = 256 * 2**20
"""What a micro-batch's graph may take on a CPU: larger ones are no faster there (docs/experiments.md)."""


def choose(
    engine: Engine, task: Task, model: nn.Module, loss: Loss, part: Dataset, train: Train, seed: int
) -> tuple[float, str]:
    """Return the budget and the mode that the recipe names, or that the memory here allows.

    Runs the longest example forward and backward once, the optimiser's state counted as not yet made. A collective:
    all ranks take the smallest budget, since the plan is a function of it.
    """
    lengths = np.asarray(part["length"], dtype=np.float64)
    gathered = not isinstance(loss, AdditiveLoss)
    if train.budget != "auto" and (train.mode != "auto" or not gathered):
        return float(train.budget), "replay" if train.mode == "auto" else train.mode
    longest = int(lengths.argmax())
    per_unit = _bytes_per_unit(engine, task, model, part, lengths, longest)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    # Gradients and AdamW's two moments come with the first step.
    free = max(0.0, engine.free_memory() - 3.0 * trained)
    if train.budget == "auto":
        room = min(free, _CPU_BYTES) if engine.device.type == "cpu" else free * 0.9
        budget = max(float(lengths[longest]), room / per_unit)
        budget = engine.smallest(min(budget, float(lengths[longest] * train.batch)))
    else:
        budget = float(train.budget)
    mode = train.mode
    if mode == "auto":
        share = Schedule(lengths, train, seed, engine.world, budget).figures(64)["largest_share"]
        fits = engine.smallest(float(per_unit * share * 1.2 < free)) == 1.0
        mode = "hold" if gathered and fits else "replay"
    _LOG.info(
        "memory: %.1f MB of graph a unit of length, %.1f GB free: budget %.4g, %s",
        per_unit / 2**20, free / 2**30, budget, mode,
    )  # fmt: skip
    return budget, mode


def _bytes_per_unit(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: np.ndarray, longest: int
) -> float:
    order = Order(plan.Micro((longest,)), None)
    batch = Collated(task, part, lengths)[order]
    if isinstance(batch, Exception):
        raise batch
    batch = batch.to(engine.device)
    training = model.training
    model.train()
    with engine.seeded(0), engine.autocast():
        taken = _peak(engine, model, batch.inputs) if engine.device.type == "cuda" else _saved(model, batch.inputs)
    model.zero_grad(set_to_none=True)
    model.train(training)
    return max(1.0, taken) / float(lengths[longest])


def _peak(engine: Engine, model: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Return the bytes that a forward and backward take beyond what is there, gradients left out."""
    torch.cuda.reset_peak_memory_stats(engine.device)
    before = torch.cuda.memory_allocated(engine.device)
    engine.backward(_scalar(list(model(**inputs).values())))
    torch.cuda.synchronize(engine.device)
    gradients = sum(p.grad.numel() * p.grad.element_size() for p in model.parameters() if p.grad is not None)
    return float(torch.cuda.max_memory_allocated(engine.device) - before - gradients)


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
        outputs = model(**inputs)
    del outputs
    return float(sum(kept.values()))


def _scalar(outputs: Sequence[Tensor]) -> Tensor:
    return torch.stack([t.float().sum() for t in outputs if t.requires_grad]).sum()
