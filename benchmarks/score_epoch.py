"""An epoch of talking face's `optimized` beside the same model fed by a plain DataLoader with random batches.

    python benchmarks/score_epoch.py [--clips 1000] [--rounds 3] [--steps 62] [--precision no]

Generated clips at the report's widths (2048, 768, 1404 and 17 numbers a frame), 50 to 300 frames, batch 16, one thread.
Both take as many steps of an epoch in turn in one process, from loading to the update, in CPU-seconds of that process;
what is evaluated is left out.
The plain loop pads each random batch to its longest clip, the exact step cuts it into micro-batches of like length.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from affect import tasks
from affect.cli.arguments import experiments_in
from affect.recipe import Recipe
from affect.task import Batch, Key
from affect.tasks.talking_face.config import FRAMES
from affect.training import plan
from affect.training.distributed import join
from affect.training.loader import Collated, Order
from affect.training.run import Run, Start
from affect.training.terms import whole
from affect.training.trainer import Trainer

RECIPE = Path(__file__).parents[1] / "recipes" / "talking_face.py"
WIDTHS = (2048, 768, 1404, 17)


class _EnoughError(Exception):
    """As many rounds as were asked for."""


def recipe(root: Path, clips: int, precision: str | None) -> Recipe:
    """Return `optimized` on generated clips that are all trained on but those that choose and test."""
    made = experiments_in(RECIPE)["optimized"]()
    assert isinstance(made, Recipe)
    settings: dict[str, Any] = {"corpus": "generated_scores", "clips": clips, "frames": (50, 300)}
    settings["generated_widths"] = WIDTHS
    data = replace(made.data, root=str(root), **settings)
    train = replace(made.train, epochs=10**6, workers=0, trackers=(), precision=precision)
    return replace(made, data=data, train=train)


def plain_steps(run: Run, steps: int) -> Iterator[tuple[float, float]]:
    """Yield, again and again, the seconds of the plain loop's next steps and their share of padding."""
    data = Collated(run.task, run.parts["train"])
    batch = run.recipe.train.batch
    model = run.task.build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=run.recipe.optim.weight_decay)

    def collate(rows: list[int]) -> Batch:
        return data.batch(Order(plan.Micro(tuple(rows)), Key(seed=0, epoch=0)))

    loader = DataLoader(range(len(run.parts["train"])), batch, shuffle=True, drop_last=True, collate_fn=collate)
    feed = (each for _ in iter(int, 1) for each in loader)
    while True:
        begun, lengths = time.process_time(), []
        for _ in range(steps):
            inputs = next(feed)
            with run.engine.autocast():
                outputs = model(**inputs.inputs)
            loss = whole(run.terms, {name: value.float() for name, value in outputs.items()}, inputs.targets)
            optimizer.zero_grad()
            loss.total.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            frames = [value for name, value in inputs.inputs.items() if name.endswith(FRAMES)]
            lengths.append(torch.stack(frames).amax(0).numpy())
        taken = time.process_time() - begun
        valid = np.array(lengths)
        yield taken, 1 - valid.sum() / (valid.max(axis=1) * valid.shape[1]).sum()


def rounds(run: Run, count: int, steps: int) -> list[tuple[float, float, float]]:
    """Return the seconds of our steps and of the plain loop's, in turn, and the plain loop's padding."""
    plain, results = plain_steps(run, steps), []
    update, begun, warm = run.update, 0.0, False

    def counted(*values: Any) -> None:
        nonlocal begun, warm
        update(*values)
        if run.state.step % steps:
            return
        ours = time.process_time() - begun
        theirs, padding = next(plain)
        if warm:
            results.append((ours, theirs, padding))
            print(f"ours {ours:.1f} s, plain {theirs:.1f} s, ratio {ours / theirs:.3f}", flush=True)
        warm = True
        if len(results) == count:
            raise _EnoughError
        begun = time.process_time()

    run.update, run.end_epoch = counted, lambda: None
    with run:
        trainer = Trainer(run)
        begun = time.process_time()
        try:
            with trainer.clock:
                trainer.steps()
        except _EnoughError:
            pass
    return results


def measured(clips: int, count: int, steps: int, precision: str | None) -> list[tuple[float, float, float]]:
    """Return what `rounds` does of generated clips."""
    with tempfile.TemporaryDirectory() as folder:
        made = recipe(Path(folder) / "clips", clips, precision)
        task = tasks.make(made).for_fold(0, 1)
        start = Start(experiment="bench", resume="never", only=("valid",))
        return rounds(Run(join(), task, Path(folder) / "run", start), count, steps)


def main() -> None:
    """Print each round's seconds and ratio, their median and the plain loop's padding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=62)
    parser.add_argument("--precision", choices=("no", "bf16"), default="bf16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    precision = options.precision if options.precision != "no" else None
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AFFECT_CACHE"] = cache
        results = measured(options.clips, options.rounds, options.steps, precision)
    ratio = statistics.median(ours / theirs for ours, theirs, _ in results)
    padding = statistics.median(share for *_, share in results)
    print(f"median ratio {ratio:.3f}; the plain loop's padding {100 * padding:.0f} % of its frames")


if __name__ == "__main__":
    main()
