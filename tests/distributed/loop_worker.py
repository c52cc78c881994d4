"""One rank: short runs of the real task at two budgets, and what collectives return here."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from affect import tasks
from affect.cli import guarded
from affect.errors import AffectError
from affect.train import folder as folders
from affect.train.engine import Engine
from affect.train.evaluate import predict
from affect.train.loop import Run
from tests.tasks.valence_arousal.test_variants import variant
from tests.train import runs

VARIANTS = ("dialogue", "everything", "augmented")


def train(root: Path, folder: Path, budget: float, mode: str) -> dict[str, object]:
    recipe = runs.recipe(root, encoder="tiny", epochs=7, steps=20, budget=budget, mode=mode)
    engine = Engine(folder)
    engine.on_main(lambda: folders.claim(folder, recipe, experiment="test", overwrite=False))
    task = tasks.make(recipe).at(recipe.seed, 1)
    run = Run(engine, task, recipe, folder, experiment="test", resume="auto")
    scores = run.train()
    rows = predict(engine, task, run.model, run.parts["test"], budget=budget, workers=0)
    weights = torch.cat([p.detach().flatten().double() for p in run.model.parameters()])
    engine.end()
    return {"scores": scores, "rows": rows, "weights": [float(weights.sum()), float(weights.norm())]}


def train_variant(root: Path, folder: Path, name: str) -> dict[str, object]:
    """Train a model with other parts: segments of dialogues, cached states, x-vectors."""
    recipe = variant(root, name, epochs=2, steps=6, budget=2.0, mode="replay")
    still = {"dropout": 0.0, "encoder_dropout": 0.0, "text_dropout": 0.0 if recipe.model.text != "none" else None}
    recipe = replace(recipe, model=replace(recipe.model, **still))
    engine = Engine(folder)
    engine.on_main(lambda: folders.claim(folder, recipe, experiment="test", overwrite=False))
    scores = Run(
        engine, tasks.make(recipe).at(recipe.seed, 1), recipe, folder, experiment="test", resume="auto"
    ).train()
    engine.end()
    return {"scores": scores}


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
    found = {f"{b}-{m}": train(root, folder / f"{b}-{m}", b, m) for b, m in ((100.0, "hold"), (0.9, "replay"))}
    engine = Engine()
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


guarded(main)
