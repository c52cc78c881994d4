"""Small finished runs of both tasks, made once a session: what tests of prediction, of the Hub and of cards share.

What trains is imported where a run is made: most sessions make none.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

__all__ = ["fused", "fused_corpus", "spoken", "trained"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of the runs of this session."""
    return tmp_path_factory.mktemp("trained") / "runs"


@pytest.fixture(scope="session")
def spoken(small_corpus, trained):
    """An experiment of two folds: a tiny encoder and prosody, averaged weights."""
    from affect.experiments import folds
    from affect.options import Options
    from tests.training import runs

    recipe = runs.recipe(small_corpus, encoder="tiny", epochs=2, budget=60)
    recipe = runs.with_optim(replace(recipe, data=replace(recipe.data, fold=None)), ema=0.5)
    for number in (1, 2):
        one = replace(recipe, data=replace(recipe.data, fold=number))
        folds.run("spoken", one, Options(runs=trained, report=False), "a command")
    return trained / "spoken"


@pytest.fixture(scope="session")
def fused_corpus(tmp_path_factory):
    """A generated corpus; its features lie in features/<name>."""
    from tests.tasks.multimodal_emotion import small

    return small.corpus(tmp_path_factory.mktemp("multimodal") / "corpus")


@pytest.fixture(scope="session")
def fused(fused_corpus, trained):
    """An experiment of two seeds and two folds of the task of features, which are standardised."""
    from affect.experiments import folds
    from affect.options import Options
    from tests.tasks.multimodal_emotion import small

    recipe = small.recipe(fused_corpus, softmax="masked", missing="token", normalise=True)
    folds.run("fused", recipe, Options(runs=trained, seeds=(0, 1), report=False), "a command")
    return trained / "fused"
