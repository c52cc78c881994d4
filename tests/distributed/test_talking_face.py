"""Talking-face quality on two real processes: the losses of one, and combined gradients, which are for one alone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from affect.errors import AffectError
from affect.tasks.talking_face.config import Loss
from affect.training import run_dir
from affect.training.distributed import join
from tests.distributed.launch import launch
from tests.tasks.talking_face import small

RUNS = ("missing", "famo", "every_term")
"""Dropout of whole features, weights by earlier losses, and gathered losses; each with dropout."""
AGGREGATORS = ("upgrad", "pcgrad", "cagrad")
COMBINED = "gradients of terms are combined in one process alone: launch with --num_processes 1"

pytestmark = pytest.mark.distributed


def combined(root, kind):
    """Return the recipe of an epoch whose gradients an aggregator combines."""
    return replace(small.recipe(root, epochs=1), loss=Loss(weights=kind))


def train_on_this_rank():
    """Be one of several ranks: train all in micro-batches of a budget, then try to combine gradients."""
    root, top = map(Path, sys.argv[1:])
    for name in RUNS:
        small.train(small.recipe(root, name, budget=30.0), top / name)
    refused = [refusal(combined(root, kind), top / kind) for kind in AGGREGATORS]
    engine = join()
    print(json.dumps({"rank": engine.rank, "world": engine.world, "refused": refused}), flush=True)


def refusal(recipe, folder):
    """Return what a run is refused with."""
    with pytest.raises(AffectError) as error:
        small.train(recipe, folder)
    return str(error.value)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small.corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def two(root, tmp_path_factory):
    """The folder of the runs of two processes, and what each rank said."""
    top = tmp_path_factory.mktemp("two")
    return top, launch(train_on_this_rank, str(root), str(top))


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_losses_of_one(root, two, tmp_path, name):
    small.train(small.recipe(root, name), tmp_path / name)
    found, wanted = (
        [line for line in run_dir.read_lines(top / name / "metrics.jsonl") if line["event"] == "step"]
        for top in (two[0], tmp_path)
    )
    assert len(wanted) > 4
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in wanted], rel=1e-5)


def test_two_processes_are_refused_an_aggregator_in_one_line(two):
    pytest.importorskip("torchjd", reason="needs pip install 'affect[aggregation]'")
    assert [rank["refused"] for rank in two[1]] == [[COMBINED] * 3] * 2


@pytest.mark.parametrize("kind", AGGREGATORS)
def test_an_aggregator_trains_in_one_process_where_batches_lack_scores(tmp_path, kind):
    for name in ("torchjd", "quadprog", "cvxpy"):
        pytest.importorskip(name, reason="needs pip install 'affect[aggregation]'")
    base = small.recipe(tmp_path / "clips", epochs=1, batch=2, choose="last")
    data = small.data(tmp_path / "clips", generated_missing=0.5)
    small.train(replace(base, data=data, loss=Loss(weights=kind)), tmp_path / kind)
    steps = [line for line in run_dir.read_lines(tmp_path / kind / "metrics.jsonl") if line["event"] == "step"]
    lacking = [line for line in steps if 0 in line["terms"].values()]
    assert len(steps) > len(lacking) > 4
    assert all(np.isfinite(line["loss"]) for line in steps)
    assert all(line["grad_norm"] > 0 for line in lacking), "the scores that are there teach what all share"
