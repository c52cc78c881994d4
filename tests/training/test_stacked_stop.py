"""Runs that train together stop together: each is saved where it is, and goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from affect.errors import StoppedError
from affect.training import checkpoint
from affect.training.run import Run
from tests.tasks.multimodal_emotion import small


@pytest.fixture(scope="module")
def recipe(feature_corpus):
    base = small.recipe(feature_corpus, name="attention_robust")
    return small.with_(base, together=4)


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    return small.train(recipe, tmp_path_factory.mktemp("whole") / "runs")


@pytest.fixture
def handlers():
    """The handlers that a process which ends would take with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stopped(recipe, folder, monkeypatch, where: str, at: int) -> None:
    """Train until `where` (a run's method) is called the `at`-th time; then the process is asked to stop."""
    real, calls = getattr(Run, where), []

    def counted(*args, **named):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(*args, **named)

    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="runs saved where they are") as stop:
        patch.setattr(Run, where, counted)
        small.train(recipe, folder)
    assert stop.value.code == 75


@pytest.mark.parametrize(("where", "at"), [("update", 6), ("predict", 2)])
def test_all_are_saved_and_go_on(recipe, whole, tmp_path, monkeypatch, handlers, where, at):
    folder = tmp_path / "runs"
    stopped(recipe, folder, monkeypatch, where, at)
    for run in small.folders(folder):
        assert len(checkpoint.steps(run / "checkpoints")) == 1
        assert checkpoint.steps(run / "checkpoints")[-1].name == f"step-{len(small.losses(run)):07d}"
    for handler in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(handler, signal.SIG_DFL)
    small.train(recipe, folder)
    assert len(small.folders(whole)) > 1
    for mine, its in zip(small.folders(folder), small.folders(whole), strict=True):
        np.testing.assert_allclose(small.losses(mine), small.losses(its), rtol=1e-5)
        evals = [[(line["step"], line["epoch"]) for line in small.lines(run, "eval")] for run in (mine, its)]
        assert evals[0] == evals[1], "none twice, none left out"
