"""Small finished runs of both tasks, which tests of prediction and of the Hub share: fixtures for their conftest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from affect.options import Options
from affect.workflows import folds
from tests.tasks.multimodal_emotion import small
from tests.train import runs


@pytest.fixture(scope="session")
def top(tmp_path_factory):
    """The folder of the runs of this session."""
    return tmp_path_factory.mktemp("trained") / "runs"


@pytest.fixture(scope="session")
def spoken(small_corpus, top):
    """An experiment of two folds: a tiny encoder and prosody, averaged weights."""
    recipe = runs.recipe(small_corpus, encoder="tiny", epochs=2, budget=60)
    recipe = runs.with_optim(replace(recipe, data=replace(recipe.data, fold=None)), ema=0.5)
    for number in (1, 2):
        one = replace(recipe, data=replace(recipe.data, fold=number))
        folds.run("spoken", one, Options(runs=top, report=False), "a command")
    return top / "spoken"


@pytest.fixture(scope="session")
def fused_corpus(tmp_path_factory):
    """A generated corpus; its features lie in features/<name>."""
    return small.corpus(tmp_path_factory.mktemp("multimodal") / "corpus")


@pytest.fixture(scope="session")
def fused(fused_corpus, top):
    """An experiment of two seeds and two folds of the task of features, which are standardised."""
    recipe = small.recipe(fused_corpus, softmax="masked", missing="token", normalise=True)
    folds.run("fused", recipe, Options(runs=top, seeds=(0, 1), report=False), "a command")
    return top / "fused"
