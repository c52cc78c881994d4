"""What a micro-batch costs here, measured on a few shapes of the corpus's own lengths.

It is remembered by model and device, so that a second start of the same model measures nothing, and two runs on one
machine are cut alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affect import cache
from affect.errors import AffectError
from affect.recipe import Recipe
from affect.task import Batch, Key, Task
from affect.training import hardware, plan
from affect.training.costs import Costs, fit
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.loader import Collated, Order

if TYPE_CHECKING:
    from datasets import Dataset

_LOG = logging.getLogger("affect")
_SECONDS = 2.6
"""Seconds that measuring takes at most, reading included (of this thread, where it is one); a shape that would take
longer is left out."""
_TURNS = 4
"""Turns of all shapes, time allowing: the least counts, for other programs only ever add to it."""
_LEAST_START = 0.4
"""Of the seconds of a row of mean length: what a start is at least taken to be."""
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
    sizes = sizes_of(model)
    path = cache_path("costs", task, recipe, engine.device, engine.precision)

    def find() -> tuple[Costs, str] | None:
        estimate = _remembered(path, sizes)
        if estimate is not None:
            return estimate, "remembered"
        samples = _measure(engine, task, model, part, lengths, budget)
        if len(samples) < _FEWEST:
            return None
        estimate, error = fit(samples)
        record = {"costs": estimate.stored(), "sizes": sizes, "error": error, "samples": samples}
        keep(path, record, "what a micro-batch costs is measured")
        return estimate, f"measured on {len(samples)} shapes, {100 * error:.0f} % off"

    result = engine.on_main(find)
    return None if result is None else (started(result[0], lengths), result[1])


def started(costs: Costs, lengths: Floats) -> Costs:
    """Return costs whose start is at least a part of what a row of mean length takes.

    Repeats show less of it than a run has, whose every micro-batch is the first one of its length; and too low a start
    cuts too finely, which costs more than a cut that is a little too coarse (docs/experiments.md, "Scale").
    """
    mean = float(lengths.mean())
    return replace(costs, start=max(costs.start, _LEAST_START * (costs.second + costs.square * mean) * mean))


def remembered(task: Task, recipe: Recipe) -> Costs | None:
    """Return the costs that are known of a recipe's model on this machine's device, measured by an earlier run."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION") or recipe.train.precision or "no"
    return _remembered(cache_path("costs", task, recipe, device, precision))


def cache_path(kind: str, task: Task, recipe: Recipe, device: torch.device, precision: str, *more: Any) -> Path:
    """Return the file that holds a kind of facts on a model on a device, which follow `more`, too."""
    return device_path(kind, device, precision, recipe.task, task.unit, recipe.to_dict().get("model"), *more)


def device_path(kind: str, device: torch.device, precision: str, *more: Any) -> Path:
    """Return the file that holds a kind of facts on a device, which follow `more`, too."""
    key = [*more, _device_name(device), hardware.threads(), precision, torch.__version__]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return cache.cache_folder() / kind / f"{digest}.json"


def sizes_of(model: nn.Module) -> list[int]:
    """Return how many weights of a model learn, and how many don't: where these change, facts on it are others."""
    return [sum(p.numel() for p in model.parameters() if p.requires_grad is learns) for learns in (True, False)]


def keep(path: Path, facts: Any, what: str) -> None:
    """Write facts to the cache; where it refuses, the log says `what` is done at each start."""
    try:
        cache.write_json(path, facts)
    except AffectError as refused:
        _LOG.warning("%s; %s at each start", refused, what)


def _remembered(path: Path, sizes: list[int] | None = None) -> Costs | None:
    """Return the costs in a file, where it is of a model with these trained and frozen weights."""
    record: Any = cache.read_json(path)
    if not isinstance(record, dict) or (sizes is not None and record.get("sizes") != sizes):
        return None
    try:
        return Costs.read(record.get("costs"))
    except ValueError:
        _LOG.warning("%s holds no costs; they are measured again", path)
        return None


def _device_name(device: torch.device) -> str:
    if device.type != "cpu":
        name: str = torch.get_device_module(device).get_device_name(device)
        return name
    return f"{device.type} {hardware.processor()}"


def _shapes(lengths: Floats, budget: float, turn: int) -> list[tuple[int, int]]:
    """Return (row of the part, how many of it) of the micro-batches of a turn, the most telling ones first.

    Each turn has rows of other lengths: nearly every micro-batch of a run is the first one of its length, for which
    libraries prepare, and one that is repeated is a third too fast (docs/experiments.md).
    """
    order = np.unique(lengths, return_index=True)[1]
    last = len(order) - 1
    places = [round(q * last) for q in (0.1, 0.5, 0.97, 1.0)]
    short, middle, long, longest = (int(order[k - turn if k >= turn else min(k + turn, last)]) for k in places)
    chosen = [(short, 1), (middle, 1), (short, 4), (long, 1), (longest, 1), (middle, 4), (long, 2), (short, 12)]
    return [(k, min(rows, max(1, int(budget / float(lengths[k]))))) for k, rows in chosen]


def _measure(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, lengths: Floats, budget: float
) -> list[tuple[int, float, float]]:
    """Return (rows, longest, seconds) of forwards and backwards, of each kind of shape the quickest turn's."""
    now = host_clock(engine)
    ends, data = now() + _SECONDS, Collated(task, part)
    best: dict[int, tuple[int, float, float]] = {}
    with probing(engine, model):
        for turn in range(_TURNS):
            # The first turn warms up, with one shape: memory is taken, libraries are read.
            for kind, (row, rows) in enumerate(_shapes(lengths, budget, turn)[: None if turn else 1]):
                length = float(lengths[row])
                if _expected(rows, length, list(best.values())) > ends - now():
                    continue
                try:
                    order = Order(plan.Micro((row,) * rows), Key(seed=0, epoch=0))
                    seconds = _time(engine, model, data.batch(order).to(engine.device))
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    continue
                if turn and (
                    kind not in best or seconds / rows / length < best[kind][2] / best[kind][0] / best[kind][1]
                ):
                    best[kind] = (rows, length, seconds)
    return list(best.values())


def _expected(rows: int, length: float, samples: list[tuple[int, float, float]]) -> float:
    """Return the seconds that a shape will take at most, by the largest so far: longer rows count squared."""
    if not samples:
        return 0.0
    count, near, seconds = max(samples, key=lambda sample: sample[0] * sample[1])
    return seconds * rows / count * length / near * max(1.0, length / near)


def _time(engine: Engine, model: nn.Module, batch: Batch) -> float:
    """Return the seconds of a forward and a backward."""
    now = host_clock(engine)
    wait(engine)
    begun = now()
    forward_backward(model, batch.inputs)
    wait(engine)
    return now() - begun


def host_clock(engine: Engine) -> Callable[[], float]:
    """Return the clock that is read: of one thread its own time, whatever else runs here."""
    alone = not engine.accelerated and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


# What the memory probe does alike.


@contextlib.contextmanager
def probing(engine: Engine, model: nn.Module) -> Iterator[None]:
    """Let a model be tried in training: with the run's precision, and no trace left in gradients or generators."""
    training = model.training
    model.train()
    with engine.seeded(0), engine.autocast():
        yield
    model.zero_grad(set_to_none=True)
    model.train(training)


def forward_backward(model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Run a model forward and backward, of the sum of its outputs."""
    backward_of(model(**inputs))


def backward_of(outputs: Mapping[str, Tensor]) -> None:
    """Backpropagate the sum of a model's outputs."""
    sums = [output.float().sum() for output in outputs.values() if output.requires_grad]
    torch.stack(sums).sum().backward()  # type: ignore[no-untyped-call]


def wait(engine: Engine) -> None:
    """Wait for what is queued on the device."""
    if engine.accelerated:
        torch.get_device_module(engine.device).synchronize(engine.device)
