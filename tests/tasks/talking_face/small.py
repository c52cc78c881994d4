"""Small runs of the task on a generated corpus: what all tests of it share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from affect import tasks
from affect.recipe import Optim, Train
from affect.tasks.talking_face.config import Augment, Data, Loss, Model, TalkingFace
from affect.tasks.talking_face.corpus import read_corpus
from affect.tasks.talking_face.task import TalkingFaceTask
from affect.training import run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Scores, Start

VARIANTS: dict[str, dict[str, Any]] = {
    "optimized": {},
    "missing": {"model": {"modality_dropout": 0.4, "alignment": 0.1}},
    "augmented": {"augment": {"mask": 0.3, "mixup": 0.4}},
    "uncertainty": {"loss": {"weights": "uncertainty"}},
    "famo": {"loss": {"weights": "famo"}, "model": {"alignment": 0.1}},
    "dwa": {"loss": {"weights": "dwa", "kind": "mae"}},
    "rlw": {"loss": {"weights": "rlw", "plcc": 0.5}},
    "heteroscedastic": {"model": {"heteroscedastic": True}},
    "every_term": {"loss": {"kind": "huber", "plcc": 0.5, "rank": 0.5, "smoothing": "sqrt", "consistency": 0.1}},
    "corruption": {"loss": {"kind": "corruption"}},
}


def corpus(root: Path) -> Path:
    """Make the corpus at `root` and return it."""
    read_corpus(data(root))
    return root


def data(root: Path, **named: Any) -> Data:
    """Return the data section of the corpus: 60 clips of 20 sources."""
    own = {"corpus": "generated_scores", "root": str(root), "clips": 60, "frames": (9, 14)}
    return Data(**{**own, "generated_widths": (12, 9, 10, 8), **named})


def recipe(root: Path, name: str = "optimized", **train: Any) -> TalkingFace:
    """Return the recipe of a few steps of a variant."""
    given = VARIANTS[name]
    model = {"encoder_dim": 16, "heads": 2, "layers": 1, "encoder_layers": 2, "dropout": 0.1, **given.get("model", {})}
    return TalkingFace(
        data=data(root),
        model=Model(**model),
        loss=Loss(**given.get("loss", {})),
        augment=Augment(**given.get("augment", {})),
        optim=Optim(lr=3e-3, schedule="onecycle", warmup=0.3),
        train=Train(**{"batch": 12, "epochs": 2, "workers": 0, "trackers": (), "costs": "linear", **train}),
    )


def task(root: Path, name: str = "optimized", **changes: Any) -> TalkingFaceTask:
    """Return the task of a variant's first fold; `changes` are of its recipe."""
    made = tasks.make(replace(recipe(root, name), **changes)).for_fold(0, 1)
    assert isinstance(made, TalkingFaceTask)
    return made


def npz(root: Path, path: Path) -> str:
    """Write the first test clip's features [T, W] to a file and return the clip's name."""
    made = task(root)
    row = made.datasets()["test"][0]
    frames = {name: made.clips.frames(row["row"], name) for name, _ in made.features}
    np.savez(path, **{name: values for name, values in frames.items() if values is not None})
    return str(row["id"])


def run(recipe: TalkingFace, folder: Path, **start: Any) -> Run:
    """Return a run in `folder`, all of whose evaluations are made and named, so that no baselines are."""
    engine = join(folder, recipe.train.trackers, recipe.train.precision)
    run_dir.claim(folder, recipe, experiment="test", overwrite=False)
    given = {"experiment": "test", "resume": "auto", "only": ("train", "valid", "test"), **start}
    return Run(engine, tasks.make(recipe).for_fold(recipe.seed, 1), folder, Start(**given))


def train(recipe: TalkingFace, folder: Path) -> Scores:
    """Train a run in `folder` to its end and return its scores."""
    return trainer.train(run(recipe, folder))
