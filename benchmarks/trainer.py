"""What a whole step of the trainer costs, loading and journal with it, beside a checkout of another commit.

    python benchmarks/trainer.py --beside ../before      # both in turn, seven pairs a case
    python benchmarks/trainer.py --case wavlm            # CPU milliseconds of a step of one, in this checkout
    python benchmarks/trainer.py --count                 # how long counting operations takes, and how near it comes

Random weights and a generated corpus. CPU-seconds and not seconds: a busy machine counts less.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import beside
import numpy as np

from affect import tasks
from affect.recipe import Optim, Train
from affect.task import Key, Task
from affect.tasks.emotion.config import Data, Emotion, Model
from affect.training import cost_probe, plan
from affect.training.distributed import join
from affect.training.loader import Collated, Order
from affect.training.run import Run, Start
from affect.training.trainer import Trainer

PAIRS = 7
CASES = {"prosody": ("none", 400), "tiny": ("tiny", 60), "wavlm": ("small", 8)}
"""By name the encoder, and how many steps are taken."""


def task_of(name: str, root: Path, seconds: tuple[float, float]) -> Task:
    """Return a task of a case on a corpus of utterances that last so long."""
    encoder, steps = CASES[name]
    data = Data(corpus="synthetic", root=str(root), fold=1, dialogues=2, utterances=8, seconds=seconds)
    train = Train(
        batch=16, epochs=10**6, steps=steps, evaluate_every=10**6, checkpoint_every=10**6, workers=0, trackers=(),
        budget=30.0, mode="hold",
    )  # fmt: skip
    model = Model(encoder=encoder, train_encoder="all", prosody_dim=8 if encoder == "none" else 0)
    return tasks.make(Emotion(data=data, model=model, optim=Optim(lr=1e-3), train=train)).for_fold(0, 1)


def milliseconds(name: str, folder: Path) -> float:
    """Return the CPU milliseconds of a step: all of a run's, its first ones with them."""
    task = task_of(name, folder / "corpus", (0.5, 2.0))
    run = Run(join(), task, folder / "run", Start(experiment="bench", resume="never", only=("valid",)))
    run.end_epoch = lambda: None  # type: ignore[method-assign]
    with run:
        trainer = Trainer(run)
        # The checkout beside may have no clock.
        with getattr(trainer, "clock", contextlib.nullcontext()):
            begun = time.process_time()
            trainer.steps()
            return 1e3 * (time.process_time() - begun) / run.state.step


def count(name: str, folder: Path) -> str:
    """Return a line on counting at IEMOCAP's lengths: its CPU-seconds, and the largest error of any row."""
    from affect.training import work

    task, engine = task_of(name, folder / "corpus", (1.0, 12.0)), join()
    part, model = task.datasets()["train"], task.build_model()
    arguments: tuple[Any, ...] = (engine, task, model, part, task.recipe)
    work.measure(*arguments)  # reads libraries, and measures the peak
    for path in (cost_probe.cache.cache_folder() / "flops").iterdir():
        path.unlink()
    begun = time.process_time()
    counts = work.measure(*arguments)
    took = time.process_time() - begun
    assert counts is not None
    errors, data = [], Collated(task, part)
    with cost_probe.probing(engine, model):
        for row in range(0, len(part), 4):
            with work.Counter() as counter:
                cost_probe.forward_backward(model, data.batch(Order(plan.Micro((row,)), Key(seed=0, epoch=0))).inputs)
            errors.append(counts.needed(np.array([part[row]["length"]])) / counter.total - 1)
    return f"{name}: {took:.3f} CPU-s, rows within {100 * max(map(abs, errors)):.2f} %, {counts.peak / 1e9:.1f} GFLOP/s"


def main() -> None:
    """Print the milliseconds of one case, a table of all beside another checkout, or lines on counting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--case", choices=tuple(CASES), action="append")
    parser.add_argument("--count", action="store_true")
    options = parser.parse_args()
    if options.beside is not None:
        beside.table(__file__, options.beside, options.case or CASES, PAIRS)
        return
    for name in options.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["AFFECT_CACHE"] = f"{folder}/cache"
            print(count(name, Path(folder)) if options.count else f"{milliseconds(name, Path(folder)):.4f}", flush=True)


if __name__ == "__main__":
    main()
