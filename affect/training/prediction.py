"""Evaluation: predictions of a part by id, gathered from every rank, and their scores."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from affect.task import Row, Task
from affect.training import plan, signals, watchdog
from affect.training.distributed import Engine
from affect.training.loader import Collated, Loader, Order


def predict(
    engine: Engine, task: Task, model: nn.Module, part: Dataset, *, budget: float, workers: int,
    condition: str | None = None,
) -> list[Row]:  # fmt: skip
    """Return one row an example, in the order of the part (and of a row's `members`), on every rank. A collective.

    Where a condition is named, the rows are as they would be under it. The whole part is one plan: sorted by length
    it has little padding, and an example's output does not depend on its micro-batch. Raises StoppedError on every rank
    between two batches where one was asked to stop.
    """
    lengths = np.asarray(part["length"][:], dtype=np.float64)
    micros = plan.cut(lengths, np.arange(len(part)), engine.world, budget).ranks[engine.rank]
    # Fillers are only forwarded; the rows are told apart by id.
    orders = [Order(micro, None) for micro in micros]
    loader = Loader(Collated(task, part, condition), orders, workers=workers, pin=engine.accelerated)
    rows: list[Row] = []
    training = model.training
    if training:
        model.eval()
    try:
        with torch.no_grad():
            for _ in orders:
                # As many batches on every rank: they stop at the same one.
                signals.check(engine, "in the middle of predictions, which are made again")
                watchdog.mark("evaluating")
                batch = loader.take(1)[0].to(engine.device)
                predicted = task.predict(model, batch)
                if not batch.filler:
                    rows += predicted
    finally:
        if training:
            model.train()
    # Every rank must reach this.
    by_id = {row["id"]: row for row in engine.gather_objects(rows)}
    # All at once: a column that is iterated over comes row by row.
    names = itertools.chain.from_iterable(part["members"][:]) if "members" in part.column_names else part["id"][:]
    return [by_id[name] for name in names]
