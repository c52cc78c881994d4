"""Short runs of the real task on the small generated corpus."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affect import tasks
from affect.recipe import Optim, Train
from affect.tasks.emotion.config import Data, Emotion, Model
from affect.training import run_dir, step, trainer
from affect.training.distributed import join
from affect.training.run import Run, Scores, Start

EVALUATIONS = ("train", "valid", "test")


def recipe(root: Path, *, encoder: str = "none", dropout: float = 0.0, **train: Any) -> Emotion:
    """Return a recipe of a few steps on fold 1: 24 training utterances in batches of 8."""
    return Emotion(
        data=Data(corpus="synthetic", root=str(root), fold=1, dialogues=1, utterances=8, seconds=(0.3, 0.7)),
        model=Model(
            encoder=encoder, train_encoder="all", prosody_dim=8, hidden=8, dropout=dropout, encoder_dropout=dropout
        ),
        optim=Optim(lr=1e-3),
        train=Train(**{"batch": 8, "epochs": 2, "workers": 0, "trackers": (), **train}),
    )


def with_optim(base: Emotion, **optim: Any) -> Emotion:
    return replace(base, optim=replace(base.optim, **optim))


def make(recipe: Emotion, folder: Path, resume: str = "auto", **start: Any) -> Run:
    """Return a run in `folder`, claimed as the command line would.

    All of its evaluations are made and named, so that no baselines are: they take longer than such a run.
    """
    engine = join(folder, recipe.train.trackers, recipe.train.precision)
    run_dir.claim(folder, recipe, experiment="test", overwrite=False)
    given = {"experiment": "test", "resume": resume, "only": EVALUATIONS, **start}
    return Run(engine, tasks.make(recipe).for_fold(recipe.seed, 1), folder, Start(**given))


def train(recipe: Emotion, folder: Path, resume: str = "auto", **start: Any) -> Scores:
    """Train a run in `folder` to its end and return its scores."""
    return trainer.train(make(recipe, folder, resume, **start))


@contextlib.contextmanager
def interrupted(at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let what is trained inside be interrupted when its step `at` (from 1) is begun."""
    real, seen = step.accumulate, []

    def cut(*arguments: Any, **named: Any) -> Any:
        seen.append(1)
        if len(seen) == at:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.step, "accumulate", cut)
        yield


def interrupt(run: Run, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train `run` until its step `at` (from 1) is begun."""
    with interrupted(at, monkeypatch):
        trainer.train(run)


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["event"] == event]


def numbers(folder: Path, name: str) -> np.ndarray:
    """Return what the steps of a run say under a name."""
    return np.array([line[name] for line in lines(folder, "step")])


def losses(folder: Path) -> list[float]:
    return numbers(folder, "loss").tolist()
