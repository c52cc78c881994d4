"""An ensemble: the mean of its members' predictions, scored anew; members that do not fit are named."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect.errors import AffectError
from affect.experiments.definitions import Ensemble
from affect.metrics import regression
from affect.metrics.average_predictions import combine, mean_rows
from tests.launching import assert_one_line

FAST = ("--train.steps", "2")


def rows(folder: Path, part: str = "test") -> dict[str, dict]:
    lines = (folder / f"predictions-{part}.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def row(name: str, value: float | str, target: float | str | None = 1.0, **more) -> dict:
    return {"id": name, "prediction": {"x": value}, "target": {"x": target}, **more}


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=5))
def test_numbers_are_averaged_by_id(values):
    # Each member has its own order.
    members = {
        str(k): [row(str(i), v) for i, v in list(enumerate(mine))[:: (-1) ** k]] for k, mine in enumerate(values)
    }
    found = {r["id"]: r["prediction"]["x"] for r in combine(members, mean_rows)}
    np.testing.assert_allclose([found[str(i)] for i in range(3)], np.mean(values, axis=0), atol=1e-12)


def test_classes_are_averaged_by_probability():
    def said(label: str, **shares: float) -> dict:
        return row("1", label, "sad", probability={"x": shares})

    one, two = said("ang", ang=0.5, sad=0.4, neu=0.1), said("sad", ang=0.1, sad=0.6, neu=0.3)
    (found,) = combine({"a": [one], "b": [two]}, mean_rows)
    assert found["prediction"] == {"x": "sad"}
    assert found["probability"]["x"] == pytest.approx({"ang": 0.3, "sad": 0.5, "neu": 0.2})
    with pytest.raises(AffectError, match="a model gives no probability of x"):
        combine({"a": [one], "b": [row("1", "sad", "sad")]}, mean_rows)
    with pytest.raises(AffectError, match="the models have different classes of x"):
        combine({"a": [one], "b": [said("sad", sad=1.0)]}, mean_rows)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([row("1", 1.0)], "a and b predict different examples: 2 is in a alone"),
        ([row("1", 1.0), row("2", 1.0), row("3", 1.0)], "a and b predict different examples: 3 is in b alone"),
        ([row("1", 1.0), row("2", 1.0, 2.0)], "2: its x is 1.0 in a and 2.0 in b"),
        ([row("1", 1.0), row("2", 1.0, math.nan)], "2: its x is 1.0 in a and nan in b"),
        (
            [{"id": i, "prediction": {"y": 1.0}, "target": {"x": 1.0}} for i in "12"],
            "a and b predict different targets: x is in a alone",
        ),
    ],
)
def test_members_that_differ_are_named_by_the_first_difference(other, words):
    with pytest.raises(AffectError) as error:
        combine({"a": [row("1", 1.0), row("2", 1.0)], "b": other}, mean_rows)
    assert str(error.value) == words


def test_a_label_that_is_missing_everywhere_is_no_difference():
    (found,) = combine({"a": [row("1", 1.0, math.nan)], "b": [row("1", 3.0, None)]}, mean_rows)
    assert found["prediction"] == {"x": 2.0}


def test_members_are_run_averaged_and_scored(launch, where):
    assert launch("base", *FAST)[0] == 0
    finished = where / "runs" / "base" / "seed0" / "fold1" / "metrics.jsonl"
    before = finished.stat().st_mtime_ns
    code, out, err = launch("ensemble", *FAST, "--seeds", "0", "1")
    assert code == 0, err
    assert finished.stat().st_mtime_ns == before, "a finished member is not run again"
    for seed in (0, 1):
        ours, base, wide = (where / "runs" / name / f"seed{seed}" / "fold1" for name in ("ensemble", "base", "wide"))
        assert json.loads((wide / "recipe.json").read_text())["train"]["steps"] == 2
        end = json.loads((ours / "metrics.jsonl").read_text().splitlines()[-1])
        assert end["event"] == "end"
        for part in ("valid", "test"):
            mixed, left, right = rows(ours, part), rows(base, part), rows(wide, part)
            assert list(mixed) == list(left)
            for name, one in mixed.items():
                for target in ("valence", "arousal"):
                    mean = (left[name]["prediction"][target] + right[name]["prediction"][target]) / 2
                    assert one["prediction"][target] == pytest.approx(mean, abs=1e-12)
                assert one["target"] == left[name]["target"]
                assert one["speaker"] == left[name]["speaker"]
            predicted, true = ([one[key]["valence"] for one in mixed.values()] for key in ("prediction", "target"))
            assert end["scores"][part]["ccc_valence"] == pytest.approx(regression.ccc(predicted, true), abs=1e-12)
        for baseline in base.glob("baseline-*"):
            assert (ours / baseline.name).read_bytes() == baseline.read_bytes()
        assert [*base.glob("baseline-*")]
        said = json.loads((ours / "recipe.json").read_text())
        assert said["members"] == {"base": "runs/base", "wide": "runs/wide"}
        assert said["model"]["prosody_dim"] == 8
        assert "hidden" not in said["model"], "what members differ in is not the ensemble's"
    for name in ("base", "wide", "ensemble"):
        assert f"| {name}" in out
    assert (where / "runs" / "ensemble" / "members.md").read_text() in out + "\n"
    assert "CCC-V" in (where / "runs" / "ensemble" / "report.md").read_text()
    assert (where / "runs" / "latest").resolve() == where / "runs" / "ensemble"

    # The same of folders.
    code, _, err = launch("ensemble", "--members", "runs/base", "runs/wide", "--name", "folders", "--seeds", "0")
    assert code == 0, err
    assert rows(where / "runs/ensemble-folders/seed0/fold1") == rows(where / "runs/ensemble/seed0/fold1")
    code, _, err = launch("ensemble", "--members", "runs/base", "runs/wide", "--name", "folders", "--seeds", "0", "2")
    assert_one_line(code, err, "runs/base has no finished seed2/fold1")
    code, out, _ = launch("ensemble", *FAST, "--dry-run", "--seeds", "0", "1")
    assert "wide: runs/wide, 2 of 2 runs finished" in out
    code, _, err = launch("ensemble", "--members", "runs/base", "runs/wide", *FAST)
    assert_one_line(code, err, "--train.steps changes nothing")
    code, _, err = launch("ensemble", "--members", "runs/wide", "base", *FAST, "--seeds", "0")
    assert_one_line(code, err, "runs/ensemble holds an ensemble of base, wide", "--name", "--overwrite")


def test_a_member_that_lacks_a_fold_is_known_before_anything_is_trained(launch, where):
    assert launch("base", *FAST)[0] == 0
    code, _, err = launch("ensemble", "--members", "runs/base", "wide", *FAST, "--data.fold", "2")
    assert_one_line(code, err, "runs/base has no finished seed0/fold2")
    assert not (where / "runs" / "wide").exists()
    shutil.copytree(where / "runs" / "base", where / "runs" / "other")
    (where / "runs" / "base" / "seed0" / "fold1" / "predictions-test.jsonl").unlink()
    code, _, err = launch("ensemble", "--members", "runs/base", "runs/other")
    assert_one_line(code, err, "runs/base/seed0/fold1 has no predictions of test, of which an ensemble is made")


def test_overwrite_replaces_members_of_another_recipe_alone(launch, where):
    assert launch("base", *FAST)[0] == 0
    assert launch("wide", "--train.steps", "1")[0] == 0
    code, _, err = launch("ensemble", *FAST)
    assert_one_line(code, err, "runs/wide/seed0/fold1 holds a run that differs in train.steps", "--overwrite")
    times = (where / "runs/base/seed0/fold1/metrics.jsonl").stat().st_mtime_ns
    code, _, err = launch("ensemble", *FAST, "--overwrite")
    assert code == 0, err
    assert (where / "runs/base/seed0/fold1/metrics.jsonl").stat().st_mtime_ns == times
    assert json.loads((where / "runs/wide/seed0/fold1/recipe.json").read_text())["train"]["steps"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--members", "base"], ["members must name at least two"]),
        (["--members", "base", "base"], ["members must name each once"]),
        (["--members", "base", "wid"], ["'wid' is no experiment of this file and no folder", "'wide'"]),
        (["--members", "base", "search"], ["search is a search"]),
        (["--member", "base"], ["unknown field --member", "'--members'"]),
        (["--train.epohcs", "3"], ["unknown field --train.epohcs"]),
    ],
)
def test_a_mistake_is_one_line(launch, where, arguments, words):
    code, out, err = launch("ensemble", *arguments)
    assert_one_line(code, err, *words)
    assert out == ""
    assert not (where / "runs").exists()


def test_help_names_the_members_and_says_where_other_fields_go(launch):
    code, out, _ = launch("ensemble", "--help")
    assert code == 0
    assert "--members" in out
    assert "all members that are experiments (base, wide)" in " ".join(out.split())


def test_an_ensemble_needs_two():
    with pytest.raises(AffectError, match="at least two"):
        Ensemble(members=("one",))
