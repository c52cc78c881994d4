"""The double of the Hub, the real client pointed at it, and small finished runs of both tasks."""

from __future__ import annotations

import types
from dataclasses import replace

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from affect.options import Options
from affect.workflows import folds
from tests.hub.double import TOKEN, Hub
from tests.tasks.multimodal_emotion import small
from tests.train import runs


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The double, with the client of this process pointed at it, logged in, and impatient."""
    with Hub() as server:
        # The client reads its environment at import, which was done offline.
        before = constants.ENDPOINT
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(before, server.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(_http, "time", types.SimpleNamespace(sleep=lambda seconds: None))
        yield server


@pytest.fixture(scope="session")
def top(tmp_path_factory):
    """The folder of the runs of this session."""
    return tmp_path_factory.mktemp("hub") / "runs"


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
def fused(tmp_path_factory, top):
    """An experiment of two folds of the multimodal task."""
    corpus = small.corpus(tmp_path_factory.mktemp("multimodal") / "corpus")
    folds.run("fused", small.recipe(corpus), Options(runs=top, seeds=(0,), report=False), "a command")
    return top / "fused"
