"""One rank of benchmarks/scale.py: what its steps take, how long it waits for the other, what micro-batches cost."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import speed
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from affect import tasks
from affect.task import Key
from affect.training import plan, trainer
from affect.training.distributed import join
from affect.training.loader import Collated, Order
from affect.training.run import Run, Start

SHAPES = ((1, 2), (1, 8), (1, 16), (1, 34), (4, 4), (8, 4), (13, 4), (4, 12), (2, 20), (20, 3))
"""Rows and about how many seconds of the micro-batches that costs are fitted to."""


class Clock:
    """Adds up the time that this process spends in collectives."""

    def __init__(self, run: Run):
        """Time torch.distributed's calls and, at the end of a backward, the wait for DDP's buckets."""
        self.waited, self._last = 0.0, 0.0
        for name in ("all_reduce", "all_gather", "all_gather_into_tensor", "all_gather_object", "barrier", "broadcast"):
            setattr(torch.distributed, name, self._timed(getattr(torch.distributed, name)))
        if not isinstance(run.model, torch.nn.parallel.DistributedDataParallel):
            return
        backward = run.engine.backward

        # DDP refuses annotations that are text.
        def hook(group, bucket):  # type: ignore[no-untyped-def]
            future = allreduce_hook(group, bucket)
            self._last = time.perf_counter()
            return future

        def timed(loss: Any) -> None:
            self._last = 0.0
            backward(loss)
            if self._last:
                # Nothing is left to compute once the last bucket is on its way.
                self.waited += time.perf_counter() - self._last

        run.model.register_comm_hook(None, hook)
        run.engine.backward = timed

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.waited += time.perf_counter() - begun

        return call


def worker(root: Path, budget: float, mode: str, by: str) -> None:
    """Train as one of the ranks: an epoch to warm up, then two that count; rank 0 says what was found."""
    warnings.filterwarnings("ignore")
    base = speed.recipe(root, "transformer", mode)
    costs: Any = "linear" if by == "linear" else tuple(map(float, by.split(",")))
    recipe = replace(base, train=replace(base.train, epochs=3, budget=budget, costs=costs))
    with tempfile.TemporaryDirectory() as folder:
        engine = join(Path(folder))
        run = Run(engine, tasks.make(recipe).for_fold(0, 1), Path(folder), Start(experiment="bench", resume="never"))
        clock = Clock(run)
        marks: list[tuple[float, float, float]] = []
        run.end_epoch = lambda: marks.append((time.perf_counter(), clock.waited, time.process_time()))  # type: ignore[method-assign]
        run.finish = dict  # type: ignore[method-assign]
        trainer.train(run)
        lengths = run.lengths(0)
        seconds, waited, busy = (after - before for before, after in zip(marks[0], marks[-1], strict=True))
        record = {
            "world": engine.world,
            "step": seconds / (2 * run.schedule.per_epoch),
            "waiting": float(np.mean(engine.gather_objects([waited / seconds]))),
            # Of a rank that waits for another, the CPU has nothing to do.
            "busy": max(engine.gather_objects([busy])) / (2 * run.schedule.per_epoch),
            "rows": len(lengths) / run.schedule.per_epoch,
            "audio": float(lengths.sum()) / run.schedule.per_epoch,
            # [steps that count, ranks, micro-batches, (rows, longest)]
            "shapes": [
                [[(len(m.indices), float(lengths[list(m.indices)].max())) for m in micros] for micros in cut.ranks]
                for cut in map(run.schedule.cut, range(run.schedule.per_epoch, run.schedule.steps))
            ],
            **(costs_of(run) if engine.world == 1 else {}),
        }
        if engine.main:
            print(json.dumps(record), flush=True)
        engine.close()


def costs_of(run: Run) -> dict[str, Any]:
    """Return timed micro-batches (rows, longest, seconds), the seconds of an update, and the gradients' megabytes."""
    data, lengths, samples = Collated(run.task, run.parts["train"]), run.lengths(0), []
    for rows, seconds in SHAPES:
        chosen = np.argsort(np.abs(lengths - seconds), kind="stable")[:rows]
        batch = data[Order(plan.Micro(tuple(chosen.tolist())), Key(seed=0, epoch=0))]
        for _ in range(2):
            begun = time.process_time()
            torch.stack([output.sum() for output in run.model(**batch.inputs).values()]).sum().backward()
            samples.append((rows, float(lengths[chosen].max()), time.process_time() - begun))
    begun = time.process_time()
    torch.nn.utils.clip_grad_norm_(run.parameters, 1.0)
    run.optimizer.step()
    update = time.process_time() - begun
    return {"samples": samples, "update": update, "megabytes": sum(p.numel() for p in run.parameters) * 4e-6}


if __name__ == "__main__":
    worker(Path(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:])
