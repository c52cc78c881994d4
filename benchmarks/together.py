"""What a training pass over MER2023-sized features costs, and the whole protocol: 100 epochs, five folds, all tests.

    AFFECT_THREADS=1 python benchmarks/together.py [--epochs 5] [--pass-only] [--whole]

The features are generated, in the public sizes (1024, 5120 and 768 numbers; 3,373 utterances to train on, 552 in each
test). Prints, of the report's `baseline`: CPU-seconds of a pass over a fold's 2,698 utterances, by a bare PyTorch
loop with torch's dropout and fused Adam, and in turn with it by affect, with and without its evaluation of the fold
(medians); with --whole also seconds and peak memory of a complete run of five folds. Then what stacking does to small
models.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from affect.data.synthetic_features import GeneratorSettings, generate
from affect.experiments import folds
from affect.options import Options
from affect.recipe import Optim, Train
from affect.task import Stackable, Task
from affect.tasks import make
from affect.tasks.multimodal_emotion.config import Data, Model, MultimodalEmotion
from affect.training import plan, stacked_trainer
from affect.training.distributed import join
from affect.training.run import Run, Start

BATCH = 32
START = Start(experiment="bench", resume="never", stacked=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="passes that each median is of")
    parser.add_argument("--pass-only", action="store_true", help="leave out what stacking does")
    parser.add_argument("--whole", action="store_true", help="train the whole protocol, too (minutes)")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        whole(Path(given.run))
        return
    with tempfile.TemporaryDirectory() as name:
        os.environ["AFFECT_CACHE"] = name + "/cache"
        root = Path(name) / "corpus"
        generate(root, GeneratorSettings(train=3373, test=552, widths=(1024, 5120, 768)))
        task = make(recipe(root, 100)).for_fold(0, 1)
        columns = list(zip(*passes(task, Path(name) / "runs", given.epochs), strict=True))
        print("| a pass over 2,698 utterances | CPU-seconds | of the bare loop's |\n| --- | ---: | ---: |")
        for what, seconds in zip(("bare loop, fused Adam", "affect", "affect, with its fold"), columns, strict=True):
            ratio = median(own / bare for own, bare in zip(seconds, columns[0], strict=True))
            print(f"| {what} | {median(seconds):.3f} | {ratio:.2f} |", flush=True)
        if given.whole:
            subprocess.run([sys.executable, __file__, "--run", str(root)], check=True)
        if not given.pass_only:
            stacks(Path(name))


def recipe(root: Path, epochs: int) -> MultimodalEmotion:
    """Return the report's baseline on a corpus."""
    return MultimodalEmotion(
        data=Data(root=str(root)),
        model=Model(name="attention", dropout=0.35),
        optim=Optim(algorithm="adam", lr=5e-4, weight_decay=1e-5, schedule="constant", warmup=0.0, clip=None),
        train=Train(batch=BATCH, epochs=epochs, checkpoint_every=20, workers=0, trackers=()),
        protocol="toolkit",
    )


class Plain(nn.Module):
    """The same model as one would write it down: torch's dropout, no mask, no noise from outside."""

    def __init__(self, widths: tuple[int, ...], hidden: int = 128, dropout: float = 0.35):
        super().__init__()

        def mlp(width: int) -> nn.Sequential:
            layers = [(nn.Linear(width, hidden), nn.ReLU()), *[(nn.Linear(hidden, hidden), nn.ReLU())] * 2]
            return nn.Sequential(nn.Dropout(dropout), *(layer for pair in layers for layer in pair))

        self.encoders = nn.ModuleList(mlp(width) for width in widths)
        self.scorer, self.score = mlp(3 * hidden), nn.Linear(hidden, 3)
        self.emotion, self.valence = nn.Linear(hidden, 6), nn.Linear(hidden, 1)

    def forward(self, streams: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and valence."""
        hidden = [encoder(x) for encoder, x in zip(self.encoders, streams, strict=True)]
        weights = self.score(self.scorer(torch.cat(hidden, -1)))
        fused = (torch.stack(hidden, -2) * weights[..., None]).sum(-2)
        return self.emotion(fused), self.valence(fused)[:, 0]


def bare_loop(task: Task) -> Callable[[], float]:
    """Return a function that takes a pass of a bare loop over tensors in memory, and returns its CPU-seconds."""
    assert isinstance(task, Stackable)
    rows = np.asarray(task.datasets()["train"]["row"][:])
    batch = task.batch(rows)
    streams = [batch.inputs[key] for key in ("audio", "text", "video")]
    labels, valence = batch.targets["emotion"], batch.targets["valence"]
    torch.manual_seed(0)
    model = Plain(tuple(x.shape[1] for x in streams))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=1e-5, fused=True)

    def one_pass() -> float:
        begun = time.process_time()
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), BATCH):
            chosen = order[start : start + BATCH]
            logits, value = model([x.index_select(0, chosen) for x in streams])
            loss = F.cross_entropy(logits, labels[chosen]) + F.mse_loss(value, valence[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return time.process_time() - begun

    return one_pass


class _EnoughError(Exception):
    """As many passes as were asked for."""


def passes(task: Task, runs: Path, epochs: int) -> list[tuple[float, float, float]]:
    """Return the CPU-seconds of passes: the bare loop's, then affect's without and with the evaluation of the fold.

    They take turns; affect's first pass, in which its steps are traced, is left out.
    """
    bare = bare_loop(task)
    times: list[tuple[float, float, float]] = []
    begun, plain, before = time.process_time(), 0.0, 0.0

    def watch(_: object) -> None:
        nonlocal begun, before
        evaluated = time.process_time() - begun
        if before:
            times.append((before, plain, evaluated))
        if len(times) == epochs:
            raise _EnoughError
        before = bare()
        begun = time.process_time()

    with Run(join(), task, runs / "seed0" / "fold1", START) as run, contextlib.suppress(_EnoughError):
        ended = run.end_epoch

        def end_epoch() -> None:
            nonlocal plain
            plain = time.process_time() - begun
            ended()

        run.end_epoch = end_epoch  # type: ignore[method-assign]
        stacked_trainer.train([run], watch)
    return times


def whole(root: Path) -> None:
    """Run the whole protocol in this process and print its seconds and peak memory."""
    begun, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as runs:
        folds.run("baseline", recipe(root, 100), Options(runs=Path(runs), report=False), "benchmark")
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    # Of this program alone: getrusage's counts what its parent had, too.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
    print(f"\n100 epochs x 5 folds and all evaluation: {seconds:.0f} s, {cpu:.0f} CPU-s; peak memory {peak:.0f} MB")


def stacks(folder: Path) -> None:
    """Print what an epoch of a small model costs a run, in stacks of several sizes."""
    print("\n| runs of a stack | hidden 32: ms a step and run | hidden 128 |\n| ---: | ---: | ---: |")
    generate(folder / "small", GeneratorSettings())
    for size in (1, 5, 10, 30):
        cells = []
        for hidden in (32, 128):
            base = recipe(folder / "small", 3)
            one = make(replace(base, model=replace(base.model, hidden=hidden)))
            runs = []
            for k in range(size):
                seed, fold = divmod(k, 5)
                place = folder / f"r{size}-{hidden}" / f"seed{seed}" / f"fold{fold + 1}"
                runs.append(Run(join(), one.for_fold(seed, fold + 1), place, START))
            steps = plan.steps_per_epoch(len(runs[0].parts["train"]), BATCH) * 3 * size
            begun = time.process_time()
            with contextlib.ExitStack() as opened:
                for run in runs:
                    opened.enter_context(run)
                stacked_trainer.train(runs)
            cells.append(f"{1e3 * (time.process_time() - begun) / steps:.2f}")
        print(f"| {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    main()
