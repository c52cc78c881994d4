from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from affect.metrics.regression import ccc
from affect.report import read
from affect.report.multimodal import attention, details, result, robustness, training
from affect.report.multimodal.measures import MEASURES, by_seed, over_seeds
from affect.report.multimodal.names import INCOMPLETE
from affect.report.multimodal.resampling import Resamples
from affect.report.multimodal.rows import Rows, mean, rows_from
from affect.report.multimodal.study import Study
from tests.report.multimodal.conftest import CLASSES, experiment, lines


def load(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def study(folder: Path) -> Study:
    return Study(runs=read(folder), name=folder.name)


def voted(folder: Path, seed: int, part: str) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Return labels, predicted classes, logits and valences of a test, folds averaged by hand."""
    folds = [{row["id"]: row for row in load(folder / f"seed{seed}/fold{fold}/predictions-{part}.jsonl")}
             for fold in range(1, 6)]  # fmt: skip
    ids = sorted(folds[0])
    logits = np.array([[rows[name]["logits"] for name in ids] for rows in folds]).mean(0)
    valence = np.array([[rows[name]["prediction"]["valence"] for name in ids] for rows in folds]).mean(0)
    labels = [folds[0][name]["target"]["emotion"] for name in ids]
    return labels, [CLASSES[i] for i in logits.argmax(1)], logits, valence


@pytest.mark.parametrize("part", ["test1", "test3"])
def test_a_tests_scores_are_scikit_learns_of_the_folds_mean_logits(made: Path, part: str) -> None:
    found = study(made)
    wanted = {"f1": [], "acc": [], "macro F1": []}
    for seed in (0, 1):
        labels, said, _, _ = voted(made, seed, part)
        wanted["f1"].append(sk.f1_score(labels, said, average="weighted"))
        wanted["acc"].append(sk.accuracy_score(labels, said))
        wanted["macro F1"].append(sk.f1_score(labels, said, average="macro"))
    for name, values in wanted.items():
        assert over_seeds(found.system(part), MEASURES[name]) == pytest.approx(
            (np.mean(values), np.std(values, ddof=1))
        )


def test_valence_and_emoval(made: Path) -> None:
    found = study(made)
    labels, said, _, valence = voted(made, 0, "test2")
    told = {row["id"]: row["target"]["valence"] for row in load(made / "seed0/fold1/predictions-test2.jsonl")}
    rated = [told[name] for name in sorted(told)]
    error = sk.mean_squared_error(rated, valence)
    scores = {name: by_seed(found.system("test2"), MEASURES[name])[0] for name in MEASURES}
    assert scores["val"] == pytest.approx(error)
    assert scores["CCC of valence"] == pytest.approx(ccc(valence, rated))
    assert scores["emoval"] == pytest.approx(sk.f1_score(labels, said, average="weighted") - 0.25 * error)
    assert math.isnan(found.scored("test3", "val")[0])


def test_cv_is_the_mean_over_folds(made: Path) -> None:
    values = []
    for fold in range(1, 6):
        rows = load(made / f"seed1/fold{fold}/predictions-valid.jsonl")
        pairs = [[row[side]["emotion"] for row in rows] for side in ("target", "prediction")]
        values.append(sk.f1_score(*pairs, average="weighted"))
    assert by_seed(study(made).system("valid"), MEASURES["f1"])[1] == pytest.approx(np.mean(values))


def test_calibration_is_that_of_an_independent_loop(made: Path) -> None:
    labels, _, logits, _ = voted(made, 0, "test1")
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure, right = p.max(1), p.argmax(1) == [CLASSES.index(name) for name in labels]
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert by_seed(study(made).system("test1"), MEASURES["calibration error"])[0] == pytest.approx(error)


def test_classes_and_confusion_are_scikit_learns(made: Path) -> None:
    found = study(made)
    f1, recall = zip(*(
        (sk.f1_score(y, x, average=None, labels=CLASSES), sk.recall_score(y, x, average=None, labels=CLASSES))
        for y, x, *_ in (voted(made, seed, "test2") for seed in (0, 1))
    ), strict=True)  # fmt: skip
    ours = details.by_class(found, "test2")
    np.testing.assert_allclose(ours, (np.mean(f1, axis=0), np.mean(recall, axis=0)))
    counts = sum(sk.confusion_matrix(y, x, labels=CLASSES) for y, x, *_ in (voted(made, s, "test2") for s in (0, 1)))
    assert (details.confused(found, "test2") == counts).all()
    assert f"| {counts[0].sum()} |" in "\n".join(details.confusions(found))


def rows(emotion: Any, label: Any, valence: Any = None, rated: Any = None, name: str = "u") -> Rows:
    size = len(label)
    nothing = np.zeros(size)
    ids = np.array([f"{name}{i:03d}" for i in range(size)])
    return Rows(
        ids, np.eye(6)[np.asarray(emotion)], nothing if valence is None else np.asarray(valence),
        np.asarray(label, np.int64), nothing if rated is None else np.asarray(rated),
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 30), st.booleans())
def test_resampled_scores_are_those_of_repeated_rows(seed: int, size: int, gaps: bool) -> None:
    random = np.random.default_rng(seed)
    label = random.integers(-1 if gaps else 0, 6, size)
    rated = np.where(random.random(size) < (0.3 if gaps else 0), np.nan, random.normal(size=size))
    one = rows(random.integers(0, 6, size), label, random.normal(size=size), rated)
    draws = Resamples.of([one])
    for measure in ("f1", "acc", "val"):
        samples = draws.samples({0: [one]}, measure)
        for k in (0, 7):
            again = one.at(np.repeat(np.arange(size), draws.counts[:, k].astype(int)))
            again = Rows(np.arange(len(again)).astype(str), again.logits, again.valence, again.label, again.rated)
            assert samples[k] == pytest.approx(MEASURES[measure](again), nan_ok=True, rel=1e-5)


def test_folds_share_the_resamples_of_the_whole(made: Path) -> None:
    found = study(made)
    draws = found.resamples("valid")
    assert len(draws.ids) == 300
    assert draws is not found.resamples("valid")
    assert (draws.counts == found.resamples("valid").counts).all()
    estimate = found.estimate("valid", "f1")
    assert estimate.low < estimate.value < estimate.high
    assert estimate.value == pytest.approx(found.scored("valid", "f1")[0])


def test_subsets_are_scored_from_the_conditions(made: Path) -> None:
    found = study(made)
    wanted = []
    for subset in INCOMPLETE:
        logits = []
        for fold in range(1, 6):
            with np.load(made / f"seed0/fold{fold}/conditions.npz") as held:
                place = list(held["conditions"]).index(f"subset={subset}")
                order = np.argsort(held["test1/ids"])
                logits.append(held["test1/logits"][place][order])
        said = np.mean(logits, axis=0).argmax(1)
        labels, *_ = voted(made, 0, "test1")
        wanted.append(sk.f1_score(labels, [CLASSES[i] for i in said], average="weighted"))
    assert found.incomplete_by_seed("test1")[0] == pytest.approx(np.mean(wanted))
    assert by_seed(found.under("subset=A", "test1"), MEASURES["f1"])[0] == pytest.approx(wanted[0])
    line = next(text for text in robustness.subsets(found).splitlines() if text.startswith("| test1"))
    assert f"{np.mean([by_seed(found.under('subset=A', 'test1'), MEASURES['f1'])[s] for s in (0, 1)]):.3f}" in line


def test_the_rows_of_conditions_may_lie_in_any_order() -> None:
    known = rows([0, 1, 2], [0, 1, 2])
    said = known.said(np.array(["u002", "u000", "x"]), np.eye(6)[[2, 5, 1]], np.array([2.0, 0.0, 9.0]))
    assert list(said.ids) == ["u000", "u002"]
    assert list(said.emotion) == [5, 2]
    assert list(said.valence) == [0.0, 2.0]
    assert list(said.label) == [0, 2]


def test_the_mean_takes_what_all_models_have() -> None:
    a, b = rows([0, 1, 2], [0, 1, 2], [1.0, 2, 3]), rows([0, 0, 0, 0], [0, 1, 2, 3], [3.0, 2, 1, 0])
    both = mean([a, b])
    assert list(both.ids) == ["u000", "u001", "u002"]
    assert list(both.valence) == [2, 2, 2]
    # Equal logits: the first class.
    assert list(both.emotion) == [0, 0, 0]


def test_a_missing_prediction_is_no_score() -> None:
    sad = {"emotion": "sad", "valence": 1.0}
    records = {
        "a": {"prediction": sad, "target": sad, "logits": [0.0] * 5 + [None]},
        "b": {"prediction": {}, "target": {"emotion": "joy", "valence": None}, "logits": [1, 0, 0, 0, 0, 0]},
    }
    found = rows_from(records, CLASSES)
    assert list(found.emotion) == [-1, 0]
    assert list(found.label) == [3, -1]
    assert all(math.isnan(MEASURES[name](found)) for name in ("f1", "acc", "macro F1", "val", "emoval"))


def test_the_table_and_the_toolkits_lines(made: Path) -> None:
    found = study(made)
    text = result.table(found)
    assert [line.split("|")[1].strip() for line in text.splitlines()[2:]] == ["cv", "test1", "test2", "test3"]
    assert [cell.strip() for cell in text.splitlines()[-1].split("|")[-3:-1]] == ["n/a", "n/a"]
    mean_f1, deviation = found.scored("test1", "f1")
    assert f"{mean_f1:.3f} ± {deviation:.3f} [" in text
    labels, *_ = voted(made, 0, "test1")
    always = sk.f1_score(labels, ["neutral"] * len(labels), average="weighted", zero_division=0)
    assert f"| {always:.3f} |" in re.sub(" +", " ", text.splitlines()[3])
    f1, acc, val = (by_seed(found.system("test2"), MEASURES[name])[1] for name in ("f1", "acc", "val"))
    assert f"    seed1 test2: f1={f1:.4f}, acc={acc:.4f}, val={val:.4f}" in result.lines(found).splitlines()
    assert "test3: " in result.lines(found)
    assert result.lines(found).endswith("val=n/a")


def test_a_single_seed_is_said_to_tell_little(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "seed0", tmp_path / "one" / "seed0")
    one = study(tmp_path / "one")
    assert "A single run can't tell" in result.words(one)
    assert "±" not in result.table(one)
    assert "[" in result.table(one)
    assert "2 seeds are few" in result.words(study(made))


def test_a_model_like_the_majority_is_within_its_noise(tmp_path: Path) -> None:
    experiment(tmp_path / "a", conditions=False, skill=2.0)
    assert "points above always saying the commonest class" in result.words(study(tmp_path / "a"))
    for path in (tmp_path / "a").glob("seed0/fold*/predictions-test1.jsonl"):
        records = load(path)
        for record in records:
            record["logits"] = [1.0, 0, 0, 0, 0, 0]
        lines(path, records)
    assert "within noise of always saying the commonest class" in result.words(study(tmp_path / "a"))


def test_training_counts_epochs_from_one(made: Path) -> None:
    courses = training.courses(study(made))
    assert {(course.kept, course.last, training.ended(course)) for course in courses} == {(9, 12, "all 12 epochs")}
    rows_of_fold = load(made / "seed0/fold1/predictions-valid.jsonl")
    pairs = [[row[side] for row in rows_of_fold] for side in ("target", "prediction")]
    f1 = sk.f1_score(*([v["emotion"] for v in side] for side in pairs), average="weighted")
    error = sk.mean_squared_error(*([v["valence"] for v in side] for side in pairs))
    assert courses[0].valid == pytest.approx(f1 - 0.25 * error)
    assert courses[0].gap == pytest.approx(0.3 - courses[0].valid)
    assert training.words(courses).startswith("emoval: train .30 / eval ")


def test_early_stopping_is_seen(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1, 2), conditions=False, epochs=10)
    found = training.courses(study(tmp_path / "a"))
    assert {training.ended(course) for course in found} == {"stopped early"}
    assert "2 of 2 runs stopped early" in training.words(found)


def test_attention_by_subset(made: Path) -> None:
    found = study(made)
    assert attention.weights(found, "test1", "AT") == pytest.approx([0.625, 0.375, 0.0])
    assert "0 % of it goes to what is missing" in attention.section(found)[0]
    assert "no softmax" not in attention.section(found)[0]


def test_models_without_attention_have_no_such_part(tmp_path: Path) -> None:
    experiment(tmp_path / "a", folds=(1,), attention=False)
    assert attention.section(study(tmp_path / "a")) == []


def test_dropout_follows_the_schedule(made: Path) -> None:
    found = attention.effective_dropout(study(made))
    assert found[3] == 0
    assert found[4] == 0
    assert found[5] == pytest.approx(0.2 / 3)
    assert found[7] == found[12] == pytest.approx(0.2)


def test_the_share_that_is_missing_is_told_from_the_masks(made: Path) -> None:
    found = study(made)
    assert robustness.missing_share(found, "missing=0.0") == 0
    assert 0.6 < robustness.missing_share(found, "missing=0.7") < 0.8
