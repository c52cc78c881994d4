"""What searches and ensembles share: a recipe file of two small experiments, run by its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from affect.baselines import features
from tests import launching
from tests.launching import ROOT

RECIPE = Path(__file__).with_name("two_runs.py")


@pytest.fixture
def where(tmp_path, monkeypatch, small_corpus):
    monkeypatch.chdir(tmp_path)
    # Of the baselines the mean alone: the others take longer than the runs here.
    monkeypatch.setattr(features, "NAMES", ("constant",))
    monkeypatch.setenv("AFFECT_TEST_CORPUS", str(small_corpus))
    # For what is started as a process of its own.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path


@pytest.fixture
def launch(capsys, where):
    return lambda *arguments: launching.launch(capsys, *arguments, recipe=RECIPE)
