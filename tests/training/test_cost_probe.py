"""What a micro-batch costs: measured in little time, remembered, and in force for a run's whole life."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from affect import cache
from affect.errors import AffectError
from affect.experiments import folds
from affect.options import Options
from affect.recipe import Train
from affect.training import cost_probe, memory, run_dir, trainer
from affect.training.costs import Costs
from affect.training.run_state import State
from tests.training import runs
from tests.training.test_memory_probe import Setting


@pytest.fixture(scope="module")
def setting(small_corpus):
    return Setting(small_corpus)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))


def costs(setting: Setting, budget: float = 6.0):
    s = setting
    return cost_probe.costs(s.engine, s.task, s.model, s.part, s.lengths.astype(float), budget, s.recipe)


def kept():
    (path,) = (cache.cache_folder() / "costs").iterdir()
    return path, json.loads(path.read_text())


def test_they_are_measured_in_little_time_and_leave_no_trace(setting):
    setting.model.train()
    before = {name: value.clone() for name, value in setting.model.state_dict().items()}
    begun = time.perf_counter()
    found, words = costs(setting)
    assert time.perf_counter() - begun < 4.0
    assert words.startswith("measured on ")
    assert found.second + found.square > 0, "an encoder takes longer for longer audio"
    assert all(torch.equal(before[name], value) for name, value in setting.model.state_dict().items())
    assert all(p.grad is None for p in setting.model.parameters())
    assert setting.model.training
    samples = kept()[1]["samples"]
    assert len(samples) >= 4
    assert all(rows == 1 or rows * longest <= 6.0 for rows, longest, _ in samples), "within the budget"


def test_a_second_start_measures_nothing(setting, monkeypatch):
    found, _ = costs(setting)

    def measure(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(cost_probe, "_measure", measure)
    assert costs(setting) == (found, "remembered")
    assert cost_probe.remembered(setting.task, setting.recipe) == found
    other = replace(setting.recipe, model=replace(setting.recipe.model, hidden=16))
    assert cost_probe.remembered(setting.task, other) is None


def test_a_start_that_is_too_small_is_none_that_a_run_plans_by(setting):
    costs(setting)
    path, told = kept()
    path.write_text(json.dumps(told | {"costs": [0.0, 0.5, 0.0]}))
    found, words = costs(setting)
    assert words == "remembered"
    assert found == Costs(pytest.approx(0.4 * 0.5 * setting.lengths.mean()), 0.5, 0.0)
    assert found.words("s of audio") in folds.dry_run(setting.recipe, Options())


@pytest.mark.parametrize("change", [{"sizes": [1, 2]}, {"costs": [1.0, -1.0, 0.0]}, {"costs": None}])
def test_those_of_another_model_or_a_damaged_file_are_measured_anew(setting, change):
    costs(setting)
    path, told = kept()
    path.write_text(json.dumps(told | change))
    assert costs(setting)[1].startswith("measured")


def test_a_cache_that_refuses_costs_a_measurement_and_a_line(setting, monkeypatch, caplog):
    def refuse(*_):
        raise AffectError("cannot write")

    monkeypatch.setattr(cache, "write_json", refuse)
    assert costs(setting) is not None
    assert "cannot write; what a micro-batch costs is measured at each start" in caplog.text


def test_rows_of_one_length_are_not_measured(setting):
    s = setting
    same = np.ones(len(s.part))
    assert cost_probe.costs(s.engine, s.task, s.model, s.part, same, 6.0, s.recipe) is None


def test_what_may_take_too_long_is_expected_to():
    samples = [(1, 2.0, 0.04), (1, 4.0, 0.1)]
    assert cost_probe._expected(1, 30.0, samples) == pytest.approx(0.1 * 7.5**2)
    assert cost_probe._expected(8, 2.0, samples) == pytest.approx(0.1 * 8 / 2)
    assert cost_probe._expected(1, 30.0, []) == 0.0


def test_shapes_are_of_the_corpus_and_within_the_budget_and_each_turn_has_others():
    lengths = np.random.default_rng(0).uniform(1.0, 9.0, 200)
    turns = [cost_probe._shapes(lengths, 20.0, turn) for turn in range(4)]
    for shapes in turns:
        assert all(rows == 1 or rows * lengths[row] <= 20.0 for row, rows in shapes)
    assert int(lengths.argmax()) in {row for row, _ in turns[0]}
    assert all(len({row for row, _ in kind}) == 4 for kind in zip(*turns, strict=True))
    assert all(0 <= row < 2 for turn in range(4) for row, _ in cost_probe._shapes(np.array([1.0, 2.0]), 20.0, turn))


@pytest.mark.parametrize(
    ("train", "wanted"),
    [
        ({"budget": 3.0, "mode": "hold"}, None),
        ({"budget": 3.0, "mode": "hold", "costs": (0.1, 0.2, 0.0)}, (0.1, 0.2, 0.0)),
        ({"costs": (0.1, 0.2, 0.0)}, (0.1, 0.2, 0.0)),
        ({"costs": "linear"}, None),
    ],
)
def test_what_is_named_is_not_measured(setting, monkeypatch, train, wanted):
    def measure(*_):
        raise AssertionError("measured")

    monkeypatch.setattr(cost_probe, "costs", measure)
    setting.choose(**train)
    assert setting.state.costs == wanted


def test_where_the_budget_is_measured_the_costs_are(setting):
    setting.choose()
    assert setting.state.costs == tuple(kept()[1]["costs"])


@pytest.mark.parametrize("wrong", [(0.1, -1.0, 0.0), (0.0, 0.0, 0.0)])
def test_costs_that_say_nothing_are_refused(wrong):
    with pytest.raises(AffectError, match=r"train\.costs"):
        Train(costs=wrong)


def test_a_resumed_run_keeps_the_costs_it_began_with(setting, tmp_path):
    began, here = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)
    for named, then in (("auto", began), ("linear", None), ((7.0, 8.0, 9.0), (7.0, 8.0, 9.0))):
        state = State(budget=3.0, mode="hold", costs=began)
        measured = State(budget=3.0, mode="hold", costs=here if named == "auto" else then)
        memory.settle(setting.engine, Train(costs=named), state, measured, tmp_path)
        assert state.costs == then


def test_a_run_resumed_on_another_machine_goes_on_to_the_byte(small_corpus, tmp_path, monkeypatch, caplog):
    """Its costs are in the checkpoint: what is measured there cuts nothing."""
    caplog.set_level("INFO", logger="affect")
    recipe = runs.recipe(small_corpus, epochs=3)
    runs.train(recipe, tmp_path / "whole")
    path, told = kept()
    run = runs.make(recipe, tmp_path / "run")
    assert run.state.costs == tuple(told["costs"])
    runs.interrupt(run, 5, monkeypatch)
    path.write_text(json.dumps(told | {"costs": [0.5, 0.0, 1.0]}))
    again = runs.make(recipe, tmp_path / "run")
    assert again.schedule.costs == Costs(*told["costs"])
    trainer.train(again)
    whole, resumed = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "run"))
    assert resumed == whole
    timings = list(run_dir.read_lines(tmp_path / "run" / "timing.jsonl"))
    assert all(line["predicted"] > 0 for line in timings)
    log = (tmp_path / "run" / "train.log").read_text()
    assert "a micro-batch costs " in log
    assert "; costs measured on" in log or "; costs remembered" in log


def test_a_dry_run_names_what_is_known(small_corpus, tmp_path):
    recipe = runs.recipe(small_corpus)
    assert "a micro-batch costs" not in folds.dry_run(recipe, Options())
    runs.make(recipe, tmp_path / "run")
    text = folds.dry_run(recipe, Options())
    assert Costs(*kept()[1]["costs"]).words("s of audio") in text
    assert "a micro-batch costs" not in folds.dry_run(runs.recipe(small_corpus, budget=3.0, mode="hold"), Options())
    named = folds.dry_run(runs.recipe(small_corpus, costs=(0.1, 0.2, 0.0)), Options())
    assert "a micro-batch costs 100 ms + 200 ms per padded s of audio" in named
