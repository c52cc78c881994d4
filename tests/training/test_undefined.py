"""Terms and scores that the labels don't define: counted, written as null, chosen by never."""

from __future__ import annotations

import json
import logging
import math

import pytest
from safetensors.torch import load_file

from affect.errors import AffectError
from affect.metrics import measures
from affect.training import run_state
from tests.training import toy_task
from tests.training.toy_task import ToyTask, lines, recipe, train


def test_undefined_terms_of_a_step_are_in_its_line(tmp_path):
    """Of eight rows one or two have labels: some steps tell the CCC nothing, all tell the squared error something."""
    sparse = recipe(every=3, terms=("ccc_valence", "mse_arousal", "contrastive"), train={"epochs": 4})
    train(ToyTask(sparse), tmp_path / "run")
    found = [line.get("undefined", []) for line in lines(tmp_path / "run", "step")]
    assert len(found) == 12
    assert "ccc_valence" in {name for names in found for name in names}
    assert not any("contrastive" in names for names in found)
    assert found.count([]) not in (0, 12), "some are defined"
    train(ToyTask(recipe()), tmp_path / "all")
    assert not any("undefined" in line for line in lines(tmp_path / "all", "step"))


def test_without_any_label_nothing_moves(tmp_path):
    none = recipe(labels={"train": math.nan}, terms=("ccc_valence", "mse_arousal"),
                  learned=("ccc_valence", "mse_arousal"), optim={"weight_decay": 0.0})  # fmt: skip
    run = toy_task.make(ToyTask(none), tmp_path / "run")
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    toy_task.trainer.train(run)
    for line in lines(tmp_path / "run", "step"):
        assert line["undefined"] == ["ccc_valence", "mse_arousal"]
        assert (line["loss"], line["grad_norm"]) == (0.0, 0.0)
    assert all(bool((value == before[name]).all()) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize("terms", [("ccc_valence",), ("mse_arousal", "contrastive")])
def test_a_batch_term_on_single_examples_is_one_line(tmp_path, terms):
    name = next(name for name in terms if name != "mse_arousal")
    with pytest.raises(AffectError) as error:
        toy_task.make(ToyTask(recipe(terms=terms, train={"batch": 1})), tmp_path / "run")
    assert str(error.value) == (
        f"train.batch is 1, and the term {name} is one of the whole global batch, which says nothing of a single "
        "example: give 2 or more"
    )


def test_additive_terms_train_on_single_examples(tmp_path):
    train(ToyTask(recipe(terms=("mse_arousal",), train={"batch": 1, "epochs": 1})), tmp_path / "run")
    assert len(lines(tmp_path / "run", "step")) == 24


@pytest.mark.parametrize("value", [math.nan, 2.0])
def test_a_score_that_was_never_defined_is_one_line(tmp_path, value, caplog):
    """No label, or all the same: null in metrics.jsonl, no weights, and an error that says what to do."""
    caplog.set_level(logging.INFO, logger="affect")
    task, folder = ToyTask(recipe(labels={"valid": value})), tmp_path / "run"
    with pytest.raises(AffectError) as error:
        train(task, folder)
    assert str(error.value) == (
        f"{folder}: CCC-V was defined on no evaluation (fewer than two labels, or all the same), so that no weights "
        "were chosen: --train.choose last keeps the last ones"
    )
    # No second epoch: what labels don't define, no training will.
    assert [line["scores"]["ccc_valence"] for line in lines(folder, "eval")] == [None]
    assert [(line["score"], line["kept"]) for line in lines(folder, "selection")] == [(None, False)]
    assert "NaN" not in (folder / "metrics.jsonl").read_text()
    assert not (folder / "checkpoints" / "best").exists()
    text = (folder / "train.log").read_text()
    assert text.count("CCC-V is not defined on this evaluation, which chooses no weights") == 1


@pytest.mark.parametrize("value", [math.nan, 2.0])
def test_the_last_weights_need_no_score(tmp_path, value):
    folder = tmp_path / "run"
    scores = train(ToyTask(recipe(labels={"valid": value}, train={"choose": "last"})), folder)
    assert math.isnan(scores["valid"]["ccc_valence"])
    assert math.isfinite(scores["dark"]["ccc_valence"])
    (end,) = lines(folder, "end")
    assert end["scores"]["valid"]["ccc_valence"] is None
    assert (end["step"], end["best_step"], end["best_epoch"]) == (6, 6, 1)
    state = json.loads((folder / "checkpoints" / "step-0000006" / "state.json").read_text())
    assert state["best"] is None, "0 would be the best of all errors"
    last = load_file(folder / "checkpoints" / "step-0000006" / "model.safetensors")
    kept = load_file(folder / "checkpoints" / "best" / "model.safetensors")
    assert all(bool((kept[name] == value).all()) for name, value in last.items())


def test_weights_are_chosen_among_the_scores_that_are_defined(tmp_path, monkeypatch):
    """A score in the middle that is none is neither kept nor a bar."""
    real, given = run_state.judge, iter([0.1, math.nan, 0.3, math.nan])

    def judge(state, score, *rest):
        return real(state, next(given), *rest)

    monkeypatch.setattr(run_state, "judge", judge)
    train(ToyTask(recipe(train={"epochs": 4})), tmp_path / "run")
    assert [line["kept"] for line in lines(tmp_path / "run", "selection")] == [True, False, True, False]
    assert lines(tmp_path / "run", "end")[0]["best_step"] == 9


def test_a_measure_that_is_lower_where_it_is_better_chooses_the_lowest(tmp_path):
    folder = tmp_path / "run"
    train(ToyTask(recipe(better="lower", optim={"lr": 0.1}, train={"epochs": 6})), folder)
    found = [line["scores"]["mse_arousal"] for line in lines(folder, "eval")]
    assert [line["score"] for line in lines(folder, "selection")] == found
    (end,) = lines(folder, "end")
    assert end["best_epoch"] == found.index(min(found)) != found.index(max(found))
    assert end["scores"]["valid"]["mse_arousal"] == pytest.approx(min(found), rel=1e-5)


def test_a_score_that_is_defined_later_is_waited_for(tmp_path, monkeypatch):
    """Undefined is not nought: three epochs without a score are no three epochs without a better one."""
    real, given = run_state.judge, iter([math.nan, math.nan, math.nan, 0.2, 0.3, 0.1])

    def judge(state, score, *rest):
        return real(state, next(given), *rest)

    monkeypatch.setattr(run_state, "judge", judge)
    train(ToyTask(recipe(train={"epochs": 6, "patience": 2})), tmp_path / "run")
    assert [line["kept"] for line in lines(tmp_path / "run", "selection")] == [False, False, False, True, True, False]


def test_which_part_of_a_mean_is_not_defined(tmp_path):
    task = ToyTask(recipe(labels={"valid": 2.0}))
    run = toy_task.make(task, tmp_path / "run")
    run.measures = [measures.mean("mean", [task.measures[0], measures.mse("arousal", "mse_arousal", "error")])]
    rows = [
        {
            "id": str(k),
            "prediction": {"valence": 1.0 + k, "arousal": 0.0},
            "target": {"valence": 2.0, "arousal": 1.0 * k},
        }
        for k in range(3)
    ]
    assert "mean, for want of CCC-V, was defined on no evaluation" in str(run._undefined(rows))
