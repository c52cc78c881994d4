"""What a micro-batch costs here, measured on a few shapes of the corpus's own lengths.

It is remembered by model and device, so that a second start of the same model measures nothing, and two runs on one
machine are cut alike.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn

from affect import cache
from affect.errors import AffectError
from affect.recipe import Recipe
from affect.task import Batch, Key, Task
from affect.training import hardware, plan
from affect.training.costs import Costs, fit
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.loader import Collated, Order

_LOG = logging.getLogger("affect")
_SECONDS = 2.6
"""Seconds that measuring takes at most, reading included; a shape that would take longer is left out."""
_ROUNDS = 3
"""Times each shape is measured, time allowing: the least counts, for other programs only ever add to it."""
_FEWEST = 4
"""Shapes below which nothing is fitted."""

Floats = NDArray[np.float64]


def costs(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: Floats, budget: float, recipe: Recipe
) -> tuple[Costs, str] | None:
    """Return what a micro-batch of the training part costs, remembered or measured, and which of it, in words.

    None where all rows are of one length, or nothing could be measured. A collective: those of the main rank count.
    """
    if lengths.max() <= lengths.min():
        return None
    sizes = [sum(p.numel() for p in model.parameters() if p.requires_grad is kind) for kind in (True, False)]
    path = _path(task, recipe, _device_name(engine.device), engine.precision)

    def find() -> tuple[Costs, str] | None:
        found = _remembered(path, sizes)
        if found is not None:
            return found, "remembered"
        samples = _measure(engine, task, model, part, _shapes(lengths, budget), lengths)
        if len(samples) < _FEWEST:
            return None
        found, error = fit(samples)
        try:
            cache.write_json(path, {"costs": found.stored(), "sizes": sizes, "error": error, "samples": samples})
        except AffectError as refused:
            _LOG.warning("%s; what a micro-batch costs is measured at each start", refused)
        return found, f"measured on {len(samples)} shapes, {100 * error:.0f} % off"

    return engine.on_main(find)


def remembered(task: Task, recipe: Recipe) -> Costs | None:
    """Return the costs that are known of a recipe's model on this machine's device, measured by an earlier run."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION") or recipe.train.precision or "no"
    return _remembered(_path(task, recipe, _device_name(device), precision))


def _path(task: Task, recipe: Recipe, device: str, precision: str) -> Path:
    """Return the file that holds the costs of a model on a device."""
    model = recipe.to_dict().get("model")
    key = [recipe.task, task.unit, model, device, hardware.threads(), precision, torch.__version__]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return cache.cache_folder() / "costs" / f"{digest}.json"


def _remembered(path: Path, sizes: list[int] | None = None) -> Costs | None:
    """Return the costs in a file, where it is of a model with these trained and frozen weights."""
    known: Any = cache.read_json(path)
    if not isinstance(known, dict) or (sizes is not None and known.get("sizes") != sizes):
        return None
    try:
        return Costs.read(known.get("costs"))
    except ValueError:
        _LOG.warning("%s holds no costs; they are measured again", path)
        return None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {hardware.processor()}"


def _shapes(lengths: Floats, budget: float) -> list[tuple[int, int]]:
    """Return (row of the part, how many of it) of the micro-batches that are measured, the most telling ones first."""
    short, middle, long, longest = (
        int(np.abs(lengths - np.quantile(lengths, q)).argmin()) for q in (0.1, 0.5, 0.97, 1.0)
    )
    chosen = [(short, 1), (middle, 1), (short, 4), (long, 1), (longest, 1), (middle, 4), (long, 2), (short, 12)]
    fits = [(k, min(rows, max(1, int(budget / float(lengths[k]))))) for k, rows in chosen]
    return list(dict.fromkeys(fits))


def _measure(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, shapes: list[tuple[int, int]], lengths: Floats
) -> list[tuple[int, float, float]]:
    """Return (rows, longest, seconds) of forwards and backwards, those that the time allows."""
    ends, data = time.perf_counter() + _SECONDS, Collated(task, part)
    best: dict[tuple[int, int], float] = {}
    training = model.training
    model.train()
    with engine.seeded(0), engine.autocast():
        batches: dict[tuple[int, int], Batch] = {}
        # The first one warms up: memory is taken, libraries are read.
        for turn, shape in enumerate([shapes[0], *shapes * _ROUNDS]):
            if _expected(shape, best, lengths) > ends - time.perf_counter():
                continue
            try:
                if shape not in batches:
                    batches[shape] = _batch(data, shape).to(engine.device)
                took = _time(engine, model, batches[shape])
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                continue
            if turn:
                best[shape] = min(took, best.get(shape, took))
    model.zero_grad(set_to_none=True)
    model.train(training)
    return [(rows, float(lengths[row]), seconds) for (row, rows), seconds in best.items()]


def _expected(shape: tuple[int, int], best: dict[tuple[int, int], float], lengths: Floats) -> float:
    """Return the seconds that a shape will take at most: as it did, or by the longest so far, longer rows squared."""
    if shape in best or not best:
        return best.get(shape, 0.0)
    row, rows = shape
    (near, count), took = max(best.items(), key=lambda item: float(lengths[item[0][0]]) * item[0][1])
    ratio = float(lengths[row]) / float(lengths[near])
    return took * rows / count * ratio * max(1.0, ratio)


def _batch(data: Collated, shape: tuple[int, int]) -> Batch:
    row, rows = shape
    batch = data[Order(plan.Micro((row,) * rows), Key(seed=0, epoch=0))]
    if isinstance(batch, Exception):
        raise batch
    return batch


def _time(engine: Engine, model: nn.Module, batch: Batch) -> float:
    """Return the seconds of a forward and a backward: of one thread its own, whatever else runs here."""
    alone = engine.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    _wait(engine.device)
    begun = clock()
    outputs = model(**batch.inputs)
    total = torch.stack([output.float().sum() for output in outputs.values() if output.requires_grad]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    _wait(engine.device)
    return clock() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
