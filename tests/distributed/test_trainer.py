"""The trainer on two real processes: what it optimises, predicts and writes is what one process does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.distributed import trainer_worker
from tests.distributed.launch import launch
from tests.distributed.trainer_worker import STEPS, TOY, VARIANTS
from tests.tasks.emotion.test_variants import variant
from tests.training import runs, toy_task
from tests.training.test_diagnostics import Watched

CUTS = ("100.0-hold", "0.9-replay", "auto-hold")


@pytest.fixture(scope="module")
def one(small_corpus, tmp_path_factory):
    """The folder of a run in this process, and its scores."""
    folder = tmp_path_factory.mktemp("one") / "run"
    recipe = runs.recipe(small_corpus, encoder="tiny", dropout=0.2, epochs=7, steps=STEPS, budget=2.0)
    return folder, runs.train(recipe, folder)


@pytest.fixture(scope="module")
def two(small_corpus, tmp_path_factory, one):
    """The folder of the runs of two processes, and what each rank said. `one` has filled the caches."""
    folder = tmp_path_factory.mktemp("two")
    return folder, launch(trainer_worker.main, str(small_corpus), str(folder))


pytestmark = pytest.mark.distributed


def close(found, wanted, path="", *, tolerance=1e-5):
    """Hold that two JSON values have the same shape, words and numbers."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), path
        for key in wanted:
            close(found[key], wanted[key], f"{path}.{key}", tolerance=tolerance)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance), path
    else:
        assert found == wanted, path


@pytest.mark.parametrize("cut", CUTS)
def test_twelve_steps_give_the_losses_of_one_process(one, two, cut):
    wanted = runs.losses(one[0])
    found = runs.losses(two[0] / cut)
    assert len(found) == len(wanted) == STEPS
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert len(set(np.round(wanted, 4))) > 6, "the test must see a loss that changes"


@pytest.mark.parametrize("name", VARIANTS)
def test_other_parts_give_the_losses_of_one_process(two, small_corpus, tmp_path, name):
    """Segments of dialogues, cached states, x-vectors, text, augmentation: the ranks change nothing."""
    assert [rank["world"] for rank in two[1]] == [2, 2]
    recipe = variant(small_corpus, name, epochs=1, steps=3, budget=1.5, mode="hold")
    scores = runs.train(recipe, tmp_path / "run")
    np.testing.assert_allclose(runs.losses(two[0] / name), runs.losses(tmp_path / "run"), rtol=1e-5)
    for rank in two[1]:
        close(rank["variants"][name]["scores"], scores, tolerance=1e-4)


def test_both_ranks_are_real_and_hold_the_same_weights(two):
    for rank in two[1]:
        assert rank["engine"] == "DDP"
        for cut in CUTS:
            assert rank["runs"][cut]["weights"] == two[1][0]["runs"][cut]["weights"]


@pytest.mark.parametrize("cut", CUTS)
def test_the_run_folder_is_that_of_one_process(one, two, cut):
    folder, other = one[0], two[0] / cut
    names = {path.relative_to(folder) for path in folder.rglob("*")}
    assert {path.relative_to(other) for path in other.rglob("*")} == names
    for event in ("step", "eval", "selection", "end"):
        lines = runs.lines(folder, event)
        assert lines
        for found, wanted in zip(runs.lines(other, event), lines, strict=True):
            # Scores of eight predictions move more than the loss does, and so does a gradient's norm.
            norms = [line.pop("grad_norm", 0.0) for line in (found, wanted)]
            close(*norms, "grad_norm", tolerance=1e-4)
            close(found, wanted, event, tolerance=1e-5 if event == "step" else 1e-4)
    for name in ("predictions-valid.jsonl", "predictions-test.jsonl"):
        found, wanted = ([json.loads(x) for x in (f / name).read_text().splitlines()] for f in (other, folder))
        assert len(found) == len(wanted) == 8
        for a, b in zip(found, wanted, strict=True):
            close(a, b, name, tolerance=1e-4)
    recipes = [json.loads((f / "recipe.json").read_text()) for f in (other, folder)]
    assert {k: v for k, v in recipes[0].items() if k != "train"} == {
        k: v for k, v in recipes[1].items() if k != "train"
    }


@pytest.mark.parametrize("cut", CUTS)
def test_predictions_are_gathered_in_order_and_equal_on_both(one, two, cut):
    first, second = (rank["runs"][cut] for rank in two[1])
    assert first["rows"] == second["rows"]
    assert first["scores"] == second["scores"]
    order = [json.loads(line)["id"] for line in (one[0] / "predictions-test.jsonl").read_text().splitlines()]
    assert [row["id"] for row in first["rows"]] == order
    close(first["scores"]["test"], one[1]["test"], "scores", tolerance=1e-4)


def test_the_toy_task_writes_what_one_process_writes(two, tmp_path):
    """Undefined terms, learned weights, the mean of the best weights, and diagnostics summed over both ranks."""
    train = {"budget": 100.0, "diagnostics_every": 1, "average_best": 2}
    toy_task.train(Watched(toy_task.recipe(train=train, **TOY)), tmp_path / "toy")
    found, wanted = toy_task.lines(two[0] / "toy"), toy_task.lines(tmp_path / "toy")
    for line in wanted:
        # In one process, each term's gradient, too.
        for name in [name for name in line.get("diagnostics", ()) if name.startswith("gradient_")]:
            del line["diagnostics"][name]
    assert any("undefined" in line for line in wanted)
    assert sum(line["diagnostics"]["rows"] for line in wanted if "diagnostics" in line) == 48
    for mine, its in zip(found, wanted, strict=True):
        close(mine, its, its["event"], tolerance=1e-5 if its["event"] == "step" else 1e-4)


def test_costs_are_those_of_the_main_rank_on_both(two):
    first, second = (rank["runs"] for rank in two[1])
    assert first["auto-hold"]["costs"] == second["auto-hold"]["costs"] is not None
    assert first["0.9-replay"]["costs"] is None, "budget and mode were named"
    (saved, *_) = (two[0] / "auto-hold" / "checkpoints").glob("step-*/state.json")
    assert json.loads(saved.read_text())["costs"] == first["auto-hold"]["costs"]


def test_an_error_on_the_main_rank_reaches_both(two):
    assert [rank["refused"] for rank in two[1]] == ["the disk is full"] * 2
    assert [rank["on_main"] for rank in two[1]] == [{"rank": 0}] * 2


def test_collectives(two):
    first, second = two[1]
    for sizes in ((3, 1), (0, 2), (2, 0), (1, 1)):
        wanted = [[float(rank), float(k)] for rank in (0, 1) for k in range(sizes[rank])]
        assert first["gathered"][str(sizes)] == [wanted, 0]
        assert second["gathered"][str(sizes)] == [wanted, sizes[0]]
    for rank in two[1]:
        assert rank["objects"] == [0, 1, 1]
        assert rank["smallest"] == 4.0
        assert rank["sum"] == [2.0, 1.0]
