"""An ensemble of multimodal runs: mean logits, valences, attention and test conditions, scored anew, part by part."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.metrics import f1_score

from affect.data.conditions import NAMES
from affect.errors import AffectError
from affect.experiments import ensemble, folds
from affect.metrics.average_predictions import combine, mean_rows
from affect.options import Options
from affect.training import run_dir
from tests.tasks.multimodal_emotion import small

CLASSES = ("neutral", "angry", "happy")
PARTS = ("valid", "test1", "test2", "test3")
UNITS = [(0, 1), (0, 2)]


def row(logits: list[float], *, valence: float = 0.0, order: tuple[str, ...] = CLASSES, **more) -> dict:
    shares = softmax(logits).tolist()
    return {
        "id": "1",
        "prediction": {"emotion": order[int(np.argmax(logits))], "valence": valence},
        "target": {"emotion": "sad", "valence": None},
        "probability": {"emotion": dict(zip(order, shares, strict=True))},
        "logits": logits,
        "present": "ATV",
        **more,
    }


# Rows


@given(arrays(np.float64, (3, 3), elements=st.floats(-30, 30)), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_logits_are_averaged_before_the_softmax(logits, valences):
    members = {str(k): [row(logits[k].tolist(), valence=valences[k])] for k in range(3)}
    (found,) = combine(members, mean_rows)
    mean = logits.mean(0)
    np.testing.assert_allclose(found["logits"], mean, atol=1e-12)
    np.testing.assert_allclose(list(found["probability"]["emotion"].values()), softmax(mean), atol=1e-12)
    assert found["prediction"]["emotion"] == CLASSES[int(mean.argmax())]
    assert found["prediction"]["valence"] == pytest.approx(np.mean(valences), abs=1e-12)
    assert found["present"] == "ATV"


def test_the_mean_of_logits_is_not_that_of_probabilities():
    members = {"a": [row([9.0, 0.0, 0.0])], "b": [row([0.0, 4.0, 0.0])], "c": [row([0.0, 4.0, 0.0])]}
    (found,) = combine(members, mean_rows)
    assert found["prediction"]["emotion"] == "neutral", "by probability two of three would say angry"


def test_attention_is_averaged_where_all_have_it():
    one = row([0.0, 1.0, 2.0], attention={"audio": 0.2, "text": 0.3, "video": 0.5})
    two = row([0.0, 1.0, 2.0], attention={"audio": 0.4, "text": 0.1, "video": 0.5})
    (found,) = combine({"a": [one], "b": [two]}, mean_rows)
    assert found["attention"] == pytest.approx({"audio": 0.3, "text": 0.2, "video": 0.5})
    without = row([0.0, 1.0, 2.0])
    for members in ({"a": [one], "b": [without]}, {"a": [without], "b": [one]}):
        assert "attention" not in combine(members, mean_rows)[0]


def test_spreads_are_averaged_as_predictions_are():
    one, two = ({"id": "a", "prediction": {"s": 1.0}, "target": {"s": 1.0}, "spread": {"s": value}} for value in (1, 3))
    (found,) = combine({"a": [one], "b": [two]}, mean_rows)
    assert found["spread"] == {"s": 2.0}
    assert "spread" not in combine({"a": [one], "b": [{**two, "spread": {}}]}, mean_rows)[0]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({**row([0.0, 1.0, 2.0]), "present": "AV"}, "1: a was given the modalities ATV and b AV"),
        ({k: v for k, v in row([0.0, 1.0, 2.0]).items() if k != "logits"}, "a model gives no logits"),
        (row([0.0, 1.0, 2.0], order=CLASSES[::-1]), "the models have the classes of emotion in different orders"),
        (row([0.0, 1.0, 2.0], order=("neutral", "angry", "sad")), "the models have different classes of emotion"),
    ],
)
def test_rows_that_do_not_fit_are_one_line(other, words):
    with pytest.raises(AffectError) as error:
        combine({"a": [row([0.0, 1.0, 2.0])], "b": [other]}, mean_rows)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# Runs


@pytest.fixture(scope="module")
def members(tmp_path_factory, feature_corpus) -> dict[str, Path]:
    """Two finished experiments of two folds: one with attention, one without."""
    where = tmp_path_factory.mktemp("members")
    root = feature_corpus
    options = Options(runs=where / "runs", seeds=(0,), report=False)
    made = {"attention": small.recipe(root, epochs=1), "lf_dnn": small.recipe(root, name="lf_dnn", epochs=1)}
    return {name: folds.run(name, recipe, options, "a command") for name, recipe in made.items()}


def by_id(top: Path, unit: tuple[int, int], part: str) -> dict[str, dict]:
    return {one["id"]: one for one in small.read(folds.folder_of(top, *unit) / f"predictions-{part}.jsonl")}


def mixed(members: dict[str, Path], runs: Path, **options) -> Path:
    return ensemble.run("both", members, Options(runs=runs, report=False, **options), "the command")


def test_every_part_is_averaged_scored_and_examined(members, tmp_path):
    top = mixed(members, tmp_path)
    for unit in UNITS:
        ours, (left, right) = folds.folder_of(top, *unit), members.values()
        (end,) = small.read(ours / "metrics.jsonl")
        assert set(end["scores"]) == {*PARTS, *(f"{part}@{name}" for part in PARTS for name in NAMES)}
        for part in PARTS:
            rows, one, two = by_id(top, unit, part), by_id(left, unit, part), by_id(right, unit, part)
            assert list(rows) == list(one)
            for name, found in rows.items():
                logits = np.mean([one[name]["logits"], two[name]["logits"]], axis=0)
                np.testing.assert_allclose(found["logits"], logits, atol=1e-12)
                shares = found["probability"]["emotion"]
                np.testing.assert_allclose(list(shares.values()), softmax(logits), atol=1e-12)
                assert found["prediction"]["emotion"] == list(shares)[int(logits.argmax())]
                assert (found["target"], found["present"]) == (one[name]["target"], one[name]["present"])
                assert "attention" not in found
            truth = [(r["target"]["emotion"], r["prediction"]["emotion"]) for r in rows.values()]
            f1 = f1_score(*zip(*truth, strict=True), average="weighted", zero_division=0)
            assert end["scores"][part]["f1"] == pytest.approx(f1, abs=1e-12)
            assert (ours / f"baseline-majority-{part}.jsonl").is_file()
        assert end["scores"]["test3"]["emoval"] is None
        for part in PARTS:
            # The complete condition is what the rows say.
            whole = run_dir.read_rows(ours, f"{part}@subset=ATV")
            said = [one["logits"] for one in by_id(top, unit, part).values()]
            np.testing.assert_allclose([one["logits"] for one in whole], said, atol=1e-5)


def test_members_with_attention_keep_it(members, tmp_path):
    shutil.copytree(members["attention"], tmp_path / "copy")
    top = mixed({"attention": members["attention"], "copy": tmp_path / "copy"}, tmp_path / "runs")
    for part in PARTS:
        theirs = by_id(members["attention"], (0, 1), part)
        for name, one in by_id(top, (0, 1), part).items():
            assert one["attention"] == pytest.approx(theirs[name]["attention"], abs=1e-12)
            assert one["prediction"]["emotion"] == theirs[name]["prediction"]["emotion"]
    assert "attention" in run_dir.read_rows(folds.folder_of(top, 0, 1), "test2@snr=5")[0]


def test_the_table_has_a_line_a_member_for_each_test_part(members, tmp_path):
    top = mixed(members, tmp_path)
    lines = [line for line in ensemble.table(top).splitlines() if line.strip()]
    assert (top / "members.md").read_text() == ensemble.table(top) + "\n"
    for part in PARTS[1:]:
        place = next(k for k, line in enumerate(lines) if f"mean {part} scores of 2 runs" in line)
        head, cells = ([cell.strip() for cell in lines[k].strip("|").split("|")] for k in (place, place + 4))
        assert ("mse" in head) is (part != "test3"), "a score without labels has no column"
        assert cells[0] == "ensemble"
        scores = [folds.scores_of(folds.folder_of(top, *unit))[part]["f1"] for unit in UNITS]
        assert cells[head.index("f1")] == f"{np.mean(scores):.3f}"
    assert "valid" not in ensemble.table(top)


def test_the_report_has_the_ensembles_matrix(members, tmp_path):
    top = ensemble.run("both", members, Options(runs=tmp_path), "the command")
    report = (top / "report.md").read_text()
    assert "\n### missing\n" in report
    assert "disagree" not in report, "conditions, rows and scores say the same"
    assert (top / "plots").is_dir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / run_dir.CONDITIONS).unlink(), "has no predictions of test1@"),
        (lambda folder: (folder / "predictions-test2.jsonl").unlink(), "has no predictions of test2, of which an"),
        (lambda folder: _shorten(folder / "predictions-valid.jsonl"), "predict different examples"),
    ],
)
def test_a_member_that_lost_something_is_one_line(members, tmp_path, harm, words):
    for name, place in members.items():
        shutil.copytree(place, tmp_path / name)
    harm(folds.folder_of(tmp_path / "lf_dnn", 0, 2))
    with pytest.raises(AffectError) as error:
        mixed({name: tmp_path / name for name in members}, tmp_path / "runs")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs" / "both" / "seed0" / "fold2").exists(), "nor is it in the way of another try"


def _shorten(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def test_experiments_are_trained_first(members, tmp_path, feature_corpus):
    root = feature_corpus
    chosen = {"attention": members["attention"], "tfn": small.recipe(root, name="tfn", epochs=1)}
    top = mixed(chosen, tmp_path / "runs", seeds=(0,))
    said = json.loads((folds.folder_of(top, 0, 2) / "recipe.json").read_text())
    assert said["members"] == {"attention": str(members["attention"]), "tfn": str(tmp_path / "runs" / "tfn")}
    assert "name" not in said["model"], "what members differ in is not the ensemble's"
    assert not math.isnan(folds.scores_of(folds.folder_of(top, 0, 1))["test1"]["emoval"])
