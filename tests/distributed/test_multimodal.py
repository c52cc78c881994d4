"""The multimodal task on two real processes, by the trainer and stacked: one metrics.jsonl, and one folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from affect.data.conditions import NAMES
from affect.experiments import folds
from affect.options import Options
from affect.training import run_dir
from affect.training.distributed import join
from tests.distributed.launch import launch
from tests.tasks.multimodal_emotion import small

RUNS = {
    "robust": {"name": "attention_robust", "modality_dropout": 0.3},
    "ours": {"softmax": "masked", "missing": "token", "normalise": True, "modality_dropout": 0.5, "views": 0.3,
             "patterns": ("ATV=.5", "AT=.3", "V=.2")},
    "contrastive": {"contrastive": 0.2},
    "misa": {"name": "misa"},
}  # fmt: skip
"""An additive loss and gathered ones; each with dropout."""

pytestmark = pytest.mark.distributed


def recipe(root, name):
    """Return the recipe of fold 1 of a run, 6 steps."""
    return small.with_(small.recipe(root, epochs=2, dropout=0.35, **RUNS[name]), data__fold=1)


def train_on_this_rank():
    """Be one of several ranks: train all, in micro-batches of five, by what a command line starts."""
    for name in RUNS:
        options = Options(runs=Path(sys.argv[2]), seeds=(0,), report=False)
        folds.run(name, small.with_(recipe(sys.argv[1], name), train__budget=5.0), options, "a command")
    engine = join()
    print(json.dumps({"rank": engine.rank, "world": engine.world, "engine": engine.name}), flush=True)


@pytest.fixture(scope="module")
def root(feature_corpus):
    return feature_corpus


@pytest.fixture(scope="module")
def one(root, tmp_path_factory):
    """Folders of runs in this process, each as one of a stack."""
    top = tmp_path_factory.mktemp("one")
    return {name: small.train(recipe(root, name), top / name, seeds=(0,), only=None) for name in RUNS}


@pytest.fixture(scope="module")
def alone(root, tmp_path_factory):
    """Folders of runs in this process, each by the trainer."""
    top = tmp_path_factory.mktemp("alone")
    return {name: small.train(recipe(root, name), top / name, seeds=(0,), stacked=False) for name in RUNS}


@pytest.fixture(scope="module")
def two(root, tmp_path_factory, one):
    """Folders of the runs of two processes, which cut each batch in micro-batches of five, and what each rank said."""
    top = tmp_path_factory.mktemp("two")
    said = launch(train_on_this_rank, str(root), str(top))
    return {name: top / name for name in RUNS}, said


def folders(one, two, name):
    (mine,), (its,) = small.folders(two[0][name]), small.folders(one[name])
    return mine, its


def test_there_are_two(two):
    assert [(rank["rank"], rank["world"], rank["engine"]) for rank in two[1]] == [
        (0, 2, "DDP"), (1, 2, "DDP"),
    ]  # fmt: skip


def close(found, wanted, path=""):
    """Hold that two JSON values have the same keys in the same order, the same words, and numbers to 1e-5."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), path
        for key in wanted:
            close(found[key], wanted[key], f"{path}.{key}")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5), path
    else:
        assert found == wanted, path


@pytest.mark.parametrize("name", RUNS)
def test_stacked_by_the_trainer_and_on_two_processes_the_same_is_written(one, alone, two, name):
    """Every number of metrics.jsonl, the norms of the gradients included."""
    mine, its = folders(one, two, name)
    (third,) = small.folders(alone[name])
    assert json.loads((mine / "environment.json").read_text())["world"] == 2
    wanted = small.read(its / "metrics.jsonl")
    assert [line["event"] for line in wanted].count("step") == 6
    for folder in (mine, third):
        found = small.read(folder / "metrics.jsonl")
        for a, b in zip(found, wanted, strict=True):
            if folder == third and b["event"] == "end":
                b = {**b, "scores": {"valid": b["scores"]["valid"]}}
            close(a, b, f"{folder} {b['event']} {b['step']}")


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
    assert run_dir.predicted(mine) == run_dir.predicted(its)
    for condition in NAMES:
        a, b = (run_dir.read_rows(folder, f"test2@{condition}") for folder in (mine, its))
        assert [row["id"] for row in a] == [row["id"] for row in b]
        np.testing.assert_allclose([row["logits"] for row in a], [row["logits"] for row in b], rtol=1e-3, atol=1e-4)
