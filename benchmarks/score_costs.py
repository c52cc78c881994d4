"""What talking face's systems cost at full size: a step's seconds, memory, and what is exported.

    python benchmarks/score_costs.py [--steps 12] [--batch 16] [--systems original low_memory optimized]
    python benchmarks/score_costs.py --export [--clips 240] [--epochs 5]

Each in float32 and in bf16, in a process of its own, at its own batch (one clip of `original`) or at the given one.
Generated clips at the report's widths (2048, 768, 1404 and 17 numbers a frame), 50 to 300 frames, one thread, whose
CPU-seconds other work beside it changes less than the clock's. The first two steps, which warm up, are left out of the
medians; memory is the most that the process has held. With `--export` `optimized` is trained for a few epochs in
float32, and each format held against its test clips without limits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from score_epoch import RECIPE, WIDTHS

from affect import tasks
from affect.cli.arguments import experiments_in
from affect.recipe import Recipe
from affect.tasks.talking_face import export
from affect.training import run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Start

SYSTEMS = ("original", "low_memory", "optimized")
PRECISIONS = ("no", "bf16")
FORMATS = ("onnx", "int8", "pruned")
WARM = 2


def recipe(
    name: str, root: Path, *, batch: int | None, clips: int, precision: str, **train: int | str
) -> Recipe:  # fmt: skip
    """Return an experiment at full size on generated clips."""
    made = experiments_in(RECIPE)[name]()
    assert isinstance(made, Recipe)
    data = replace(
        made.data, corpus="generated_scores", root=str(root), clips=clips, frames=(50, 300), generated_widths=WIDTHS
    )
    settings = {"workers": 0, "trackers": (), "patience": None, "diagnostics_every": None, **train}
    own = replace(
        made.train, batch=batch or made.train.batch, precision=None if precision == "no" else precision, **settings
    )
    return replace(made, data=data, train=own)


def trained(made: Recipe, folder: Path, only: Sequence[str]) -> list[float]:
    """Train a run in a folder and return the CPU-seconds of its steps, from update to update."""
    run_dir.claim(folder, made, experiment="bench", overwrite=False)
    task = tasks.make(made).for_fold(0, 1)
    start = Start(experiment="bench", resume="never", only=only)
    run = Run(join(folder, (), made.train.precision), task, folder, start)
    update, ends = run.update, []

    def timed(*values: Any) -> None:
        update(*values)
        ends.append(time.process_time())

    run.update = timed
    trainer.train(run)
    return [after - before for before, after in pairwise(ends)]


def step(name: str, precision: str, options: argparse.Namespace) -> None:
    """Print the row of one system and precision."""
    root, folder = options.root / "clips", options.root / f"{name}-{precision}" / "seed0" / "fold1"
    facts = {"batch": options.batch, "clips": options.clips, "precision": precision}
    used = trained(recipe(name, root, **facts, steps=options.steps), folder, ("valid",))[WARM - 1 :]
    timings = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()][WARM:]
    columns = [used, [line["seconds"] for line in timings]]
    cells = [f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in columns]
    memory = max(line["memory_bytes"] for line in timings) / 1e9
    batch = recipe(name, root, **facts).train.batch
    print(f"| {name} | {batch} | {precision} | {' | '.join(cells)} | {memory:.2f} |")


def exported(options: argparse.Namespace) -> None:
    """Train `optimized` and print what each format is measured to be."""
    facts = {"batch": options.batch, "clips": options.clips, "precision": "no"}
    made = recipe("optimized", options.root / "clips", **facts, epochs=options.epochs, costs="linear")
    folder = options.root / "run" / "seed0" / "fold1"
    trained(made, folder, ("valid", "test"))
    best = folder / "checkpoints" / "best"
    free = {name: math.inf for name in ("max_error", "mean_error", "srcc_drop", "size", "latency")}
    for name in FORMATS:
        path = options.root / ("pruned" if name == "pruned" else f"{name}.onnx")
        done = getattr(export, name)(best, path, 18, **free)
        print("\n".join([f"\n{name}", *done.lines]), flush=True)


def main() -> None:
    """Measure each system in a process of its own, or what is exported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, help="clips a step; each system's own when not given")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--clips", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.clips = options.clips or (240 if options.export else 100)
    torch.set_num_threads(1)
    if options.one:
        step(*options.one, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFECT_CACHE"] = f"{folder}/cache"
        options.root = Path(folder)
        if options.export:
            exported(options)
            return
        print("| system | batch | precision | CPU-s a step | s a step | peak memory, GB |", flush=True)
        print("|---|---|---|---|---|---|", flush=True)
        kept = {key: value for key in ("steps", "batch", "clips") if (value := getattr(options, key)) is not None}
        given = ["--root", folder, *(f"--{key}={value}" for key, value in kept.items())]
        for name in options.systems:
            for precision in PRECISIONS:
                command = [sys.executable, __file__, *given, "--one", name, precision]
                lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
                print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
