"""Small runs of the task on a few generated voices: what all tests of it share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from affect import tasks
from affect.data.simulation import Simulation
from affect.recipe import Optim, Train
from affect.tasks.diarization.config import TINY, Data, Diarization, Loss, Model, Online
from affect.tasks.diarization.corpus import read
from affect.tasks.diarization.task import DiarizationTask
from affect.training import run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Scores, Start

_SIZE: dict[str, Any] = {name: value for name, value in TINY.items() if name not in ("channels", "blocks")}
_REPORT: dict[str, Any] = {"padding": "pseudo", "embedding_divisor": 16.0, "activity_query": "mean", "frame": 640}
_TABLE: dict[str, Any] = {"arcface": True, "contrastive": 0.0, "learned": True, "empty": 0.0, "pseudo_weight": 1.0}
_FOCAL: dict[str, Any] = {"activity": "focal", "log_s_arcface": 4.6052, "margin": 0.1, "scale": 16.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {"model": {"channels": TINY["channels"]}},
    "two": {"model": {"channels": TINY["channels"], "pseudo": 2, "padding": "non"}, "loss": {"arrival": 0.5}},
    "before": {
        "model": {"name": "before", "extractor": "resnet", "channels": TINY["channels"], "blocks": TINY["blocks"],
                  **_REPORT},
        "loss": _TABLE,
    },
    "improved": {
        "model": {"name": "improved", "channels": TINY["channels"], **_REPORT, "padding": "non"},
        "loss": {**_TABLE, **_FOCAL},
    },
    "wavlm": {"model": {"extractor": "tiny", "train_encoder": "all"}, "optim": {"encoder_lr": 1e-4}},
}  # fmt: skip
"""Changes of sections by name: ours with one pseudo-speaker and with two, the report's models, an encoder in front."""


def corpus(root: Path) -> Path:
    """Make the voices at `root` and return it."""
    read(data(root))
    return root


def data(root: Path, **named: Any) -> Data:
    """Return the data section of the voices: 5 to train with, 4 unseen ones. Over a block it is a stream."""
    own: dict[str, Any] = {
        "voices": "generated", "generated": (5, 4), "voice_seconds": 5.0, "block": 1.92, "examples": 8, "valid": 2,
        "valid_seconds": 1.5, "test": 2, "test_speakers": (2,), "test_seconds": (1.5, 4.0),
    }  # fmt: skip
    return Data(**{**own, "root": str(root), **named})


def recipe(root: Path, name: str = "ours", **train: Any) -> Diarization:
    """Return the recipe of a few steps of a variant."""
    given = VARIANTS[name]
    return Diarization(
        data=data(root),
        simulation=Simulation(speakers=(2, 3), turn=(0.3, 1.0), gap=0.5, reverberation=0.0),
        model=Model(**{**_SIZE, "dropout": 0.2, **given["model"]}),
        loss=Loss(**given.get("loss", {})),
        # Training examples are no streams either.
        online=Online(window=3.84 if name in ("ours", "two", "wavlm") else 1.92),
        optim=Optim(**{"lr": 1e-3, **given.get("optim", {})}),
        train=Train(**{"batch": 4, "epochs": 2, "workers": 0, "trackers": (), "costs": "linear", **train}),
    )


def task(root: Path, name: str = "ours", **changes: Any) -> DiarizationTask:
    """Return the task of a variant; `changes` are of its recipe."""
    made = tasks.make(replace(recipe(root, name), **changes)).for_fold(0, 1)
    assert isinstance(made, DiarizationTask)
    return made


def run(recipe: Diarization, folder: Path, **start: Any) -> Run:
    """Return a run in `folder` that evaluates validation alone, and so needs no baselines."""
    engine = join(folder, recipe.train.trackers, recipe.train.precision)
    run_dir.claim(folder, recipe, experiment="test", overwrite=False)
    given = {"experiment": "test", "resume": "auto", "only": ("valid",), **start}
    return Run(engine, tasks.make(recipe).for_fold(recipe.seed, 1), folder, Start(**given))


def train(recipe: Diarization, folder: Path, **start: Any) -> Scores:
    """Train a run in `folder` to its end and return its scores."""
    return trainer.train(run(recipe, folder, **start))
