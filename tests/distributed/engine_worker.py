"""One rank on an engine: runs of six steps of a tiny WavLM, as a JSON list on the command line names them.

A run: its folder, the optimiser, the mode and the budget; `from` is a checkpoint of another run to go on from.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from affect import tasks
from affect.recipe import Optim
from affect.tasks.emotion.config import Augment, Emotion
from affect.training import optim, run_dir, trainer
from affect.training.distributed import Engine, agree, join
from affect.training.run import Run, Start
from tests.training import runs

ADAMW = optim.make
STEPS = 6


def settings(root: Path, asked: dict[str, Any]) -> Emotion:
    """Return a recipe with all that is random, clipping, a rate for the encoder, parameters in the loss, an average."""
    train = {"epochs": 2, "steps": STEPS, "budget": asked["budget"], "mode": asked["mode"], "keep": 9}
    made = runs.recipe(root, encoder="tiny", dropout=0.2, **train)
    sgd = asked["optimiser"] == "sgd"
    rates = Optim(lr=3e-2, encoder_lr=1e-2, clip=0.5) if sgd else Optim(lr=3e-3, encoder_lr=1e-3, clip=0.5, ema=0.9)
    model = replace(made.model, uncertainty=True, layerdrop=0.2, spec_augment=True)
    return replace(made, optim=rates, model=model, augment=Augment(mixup=0.4))


def plain_sgd(groups: list[dict[str, Any]], _: Optim) -> torch.optim.Optimizer:
    """AdamW would hide a gradient of half the size."""
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.SGD(groups)


def kept(run: Run) -> int:
    """Return how many trained weights this rank keeps between two steps."""
    here = (p.to_local() if isinstance(p, DTensor) else p for p in run.parameters)
    return sum(p.numel() for p in here)


def begun(recipe: Emotion, asked: dict[str, Any]) -> tuple[Engine, Run]:
    """Return the engine and the run of fold 1 that is asked for, its folder claimed and its checkpoint in place."""
    folder = Path(asked["folder"])
    engine = join(folder)
    agree(engine.accelerator, recipe)

    def begin() -> None:
        run_dir.claim(folder, recipe, experiment="test", overwrite=False)
        if "from" in asked:
            for path in (Path(asked["from"]), Path(asked["from"]).parent / "best"):
                shutil.copytree(path, folder / "checkpoints" / path.name)

    engine.on_main(begin)
    task = tasks.make(recipe).for_fold(recipe.seed, 1)
    return engine, Run(engine, task, folder, Start(experiment="test", only=("valid",)))


def run(root: Path, asked: dict[str, Any]) -> tuple[Engine, dict[str, Any]]:
    """Run what is asked for and return the engine, the scores, and how much of the model this rank keeps."""
    optim.make = plain_sgd if asked["optimiser"] == "sgd" else ADAMW
    try:
        engine, made = begun(settings(root, asked), asked)
        share = kept(made)
        found = {"scores": trainer.train(made), "kept": share}
        engine.end()
        return engine, found
    finally:
        optim.make = ADAMW


def main() -> None:
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # The one way into FSDP without a GPU: Accelerate would fall back to DDP.
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    found = {}
    for asked in json.loads(sys.argv[2]):
        engine, found[Path(asked["folder"]).name] = run(Path(sys.argv[1]), asked)
    print(json.dumps({"rank": engine.rank, "world": engine.world, "engine": engine.name, "runs": found}), flush=True)
