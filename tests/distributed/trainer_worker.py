"""One rank: short runs of the real task and the toy task at several budgets, and what collectives return here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import torch

from affect import tasks
from affect.errors import AffectError
from affect.training import run_dir, trainer
from affect.training.distributed import Engine, join
from affect.training.prediction import predict
from affect.training.run import Run, Start
from tests.tasks.emotion.test_variants import variant
from tests.training import runs, toy_task
from tests.training.test_diagnostics import Watched

VARIANTS = ("dialogue", "everything", "augmented")
STEPS = 12
TOY = {"terms": ("ccc_valence", "mse_arousal", "contrastive"), "learned": ("ccc_valence",), "every": 3}
"""Batch and additive terms, fixed and learned weights; batches that tell a term nothing."""


def train(root: Path, folder: Path, budget: float | Literal["auto"], mode: str) -> dict[str, object]:
    recipe = runs.recipe(root, encoder="tiny", dropout=0.2, epochs=7, steps=STEPS, budget=budget, mode=mode)
    engine = join(folder)
    engine.on_main(lambda: run_dir.claim(folder, recipe, experiment="test", overwrite=False))
    task = tasks.make(recipe).for_fold(recipe.seed, 1)
    run = Run(engine, task, folder, Start(experiment="test", only=runs.EVALUATIONS))
    scores = trainer.train(run)
    rows = predict(engine, task, run.model, run.parts["test"], budget=run.state.budget, workers=0)
    weights = torch.cat([p.detach().flatten().double() for p in run.model.parameters()])
    engine.end()
    sums = [float(weights.sum()), float(weights.norm())]
    return {"scores": scores, "rows": rows, "weights": sums, "costs": run.state.costs}


def train_variant(root: Path, folder: Path, name: str) -> dict[str, object]:
    """Train a model with other parts: segments of dialogues, cached states, x-vectors."""
    recipe = variant(root, name, epochs=1, steps=3, budget=2.0, mode="replay")
    engine = join(folder)
    engine.on_main(lambda: run_dir.claim(folder, recipe, experiment="test", overwrite=False))
    task = tasks.make(recipe).for_fold(recipe.seed, 1)
    scores = trainer.train(Run(engine, task, folder, Start(experiment="test", only=runs.EVALUATIONS)))
    engine.end()
    return {"scores": scores}


def train_toy(folder: Path) -> None:
    """Train the toy task, whose diagnostics are sums over the ranks."""
    train = {"budget": 3.0, "mode": "replay", "diagnostics_every": 1, "average_best": 2}
    toy_task.train(Watched(toy_task.recipe(train=train, **TOY)), folder)


def refused(engine: Engine) -> str:
    def fail() -> None:
        raise AffectError("the disk is full")

    try:
        engine.on_main(fail)
    except AffectError as error:
        return str(error)
    return "nothing was raised"


def gathered(engine: Engine, sizes: tuple[int, int]) -> tuple[list[list[float]], int]:
    """Gather a table of sizes[rank] rows [size, 2], each saying where it is from."""
    mine = torch.tensor([[engine.rank, k] for k in range(sizes[engine.rank])], dtype=torch.float64).reshape(-1, 2)
    rows, start = engine.gather(mine)
    return rows.tolist(), start


def main() -> None:
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    variants = {name: train_variant(root, folder / name, name) for name in VARIANTS}
    cuts = ((100.0, "hold"), (0.9, "replay"), ("auto", "hold"))
    found = {f"{b}-{m}": train(root, folder / f"{b}-{m}", b, m) for b, m in cuts}
    train_toy(folder / "toy")
    engine = join()
    said = {
        "rank": engine.rank,
        "world": engine.world,
        "engine": engine.name,
        "runs": found,
        "variants": variants,
        "refused": refused(engine),
        "on_main": engine.on_main(lambda: {"rank": engine.rank}),
        "gathered": {str(sizes): gathered(engine, sizes) for sizes in ((3, 1), (0, 2), (2, 0), (1, 1))},
        "objects": engine.gather_objects([engine.rank] * (engine.rank + 1)),
        "smallest": engine.smallest(5.0 - engine.rank),
        "sum": engine.sum(torch.tensor([1.0, engine.rank])).tolist(),
    }
    print(json.dumps(said), flush=True)
