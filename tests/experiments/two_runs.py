"""Experiments of more than one run on the small generated corpus, as a recipe file a test can start."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from affect.cli import experiments_of, launch
from affect.experiments.definitions import Ensemble, Search, Suite
from affect.recipe import Optim, Train
from affect.tasks.emotion.config import Data, Emotion, Model

ROOT = Path(__file__).parents[2]


def base() -> Emotion:
    """Fold 1 by prosody alone; the corpus is where AFFECT_TEST_CORPUS says."""
    root = os.environ.get("AFFECT_TEST_CORPUS", "corpus")
    return Emotion(
        data=Data(corpus="synthetic", root=root, fold=1, dialogues=1, utterances=8, seconds=(0.3, 0.7)),
        model=Model(encoder="none", prosody_dim=8, hidden=8, dropout=0.0),
        optim=Optim(lr=1e-3),
        train=Train(batch=8, epochs=2, workers=0, trackers=(), budget=60),
    )


def wide() -> Emotion:
    """The same with wider heads."""
    return replace(base(), model=replace(base().model, hidden=16))


def search() -> Search:
    """Rate, dropout, batch and loss."""
    ranges = ("optim.lr=1e-4..1e-1 log", "model.dropout=0.1..0.5", "train.batch=8|24", "loss=ccc|mse")
    return Search(of="base", trials=4, ranges=ranges)


def ensemble() -> Ensemble:
    """The mean of both."""
    return Ensemble(members=("base", "wide"))


def suite() -> Suite:
    """Both, side by side."""
    return Suite(members=("base", "wide"))


if __name__ == "__main__":
    launch(experiments_of(globals(), __name__))
