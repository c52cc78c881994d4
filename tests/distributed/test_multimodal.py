"""The multimodal task on two real processes: the losses, predictions and conditions are those of one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launch import launch
from tests.tasks.multimodal_emotion import small

HERE = Path(__file__).parent
RUNS = {
    "robust": {"name": "attention_robust"},
    "ours": {"softmax": "masked", "missing": "token", "normalise": True},
    "contrastive": {"contrastive": 0.2},
    "mmim": {"name": "mmim"},
}
"""An additive loss and gathered ones; nothing random, which is drawn by rank."""

pytestmark = pytest.mark.distributed


def recipe(root, name):
    """Return the recipe of fold 1 of a run, 6 steps."""
    return small.with_(small.recipe(root, epochs=2, **RUNS[name]), data__fold=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small.corpus(tmp_path_factory.mktemp("corpus") / "c")


@pytest.fixture(scope="module")
def one(root, tmp_path_factory):
    """Folders of runs in this process, each as one of a stack."""
    top = tmp_path_factory.mktemp("one")
    return {name: small.train(recipe(root, name), top / name, seeds=(0,), only=None) for name in RUNS}


@pytest.fixture(scope="module")
def two(root, tmp_path_factory, one):
    """Folders of the runs of two processes, which cut each batch in micro-batches of five, and what each rank said."""
    top = tmp_path_factory.mktemp("two")
    said = launch(str(HERE / "multimodal_worker.py"), str(root), str(top))
    return {name: top / name for name in RUNS}, said


def folders(one, two, name):
    (mine,), (its,) = small.folders(two[0][name]), small.folders(one[name])
    return mine, its


def test_there_are_two(two):
    assert [(rank["rank"], rank["world"], rank["engine"]) for rank in two[1]] == [
        (0, 2, "DDP"), (1, 2, "DDP"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_the_losses_are_those_of_one_process(one, two, name):
    mine, its = folders(one, two, name)
    assert json.loads((mine / "environment.json").read_text())["world"] == 2
    assert len(small.losses(mine)) == 6
    np.testing.assert_allclose(small.losses(mine), small.losses(its), rtol=1e-5)
    for a, b in zip(small.lines(mine, "step"), small.lines(its, "step"), strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-4)
        assert b["grad_norm"] is None or a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


@pytest.mark.parametrize("name", RUNS)
def test_the_folder_is_that_of_one_process(one, two, name):
    mine, its = folders(one, two, name)
    for part in ("valid", "test1", "test2", "test3"):
        a, b = (small.read(folder / f"predictions-{part}.jsonl") for folder in (mine, its))
        assert [row["id"] for row in a] == [row["id"] for row in b]
        np.testing.assert_allclose([row["logits"] for row in a], [row["logits"] for row in b], rtol=1e-3, atol=1e-4)
        assert (mine / f"baseline-majority-{part}.jsonl").read_bytes() == (
            its / f"baseline-majority-{part}.jsonl").read_bytes()  # fmt: skip
    (end,), (wanted,) = small.lines(mine, "end"), small.lines(its, "end")
    assert (end["best_step"], end["best_epoch"]) == (wanted["best_step"], wanted["best_epoch"])
    with np.load(mine / "conditions.npz") as a, np.load(its / "conditions.npz") as b:
        assert list(a) == list(b)
        for key in b:
            if b[key].dtype.kind == "f":
                np.testing.assert_allclose(a[key], b[key], rtol=1e-3, atol=1e-4)
            else:
                assert np.array_equal(a[key], b[key]), key
