from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from affect.metrics.bootstrap import interval
from affect.metrics.classification import unweighted_accuracy
from affect.report import Run, read
from affect.report.classes import accuracies, confusions, section
from affect.report.flags import flags
from affect.report.scores import MEAN, NETWORK, Scores, names
from affect.report.tables import baselines, folds, label, number, table

CLASSES = ("ang", "hap", "neu", "sad")


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]


def add_emotion(path: Path, right: float, missing: int = 7) -> None:
    """Give a run's rows an emotion beside their valence, `right` of them predicted; every `missing`th has none."""
    for file in sorted(path.glob("*.jsonl")):
        if not file.name.startswith(("predictions", "baseline")):
            continue
        labels = np.random.default_rng((int(path.name[-1]), file.name.startswith("predictions-valid")))
        random = np.random.default_rng((int(path.name[-1]), len(file.name), int(path.parent.name[-1])))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for i, row in enumerate(rows):
            truth = str(labels.choice(CLASSES, p=(0.1, 0.2, 0.5, 0.2)))
            share = right - 0.2 if file.name.startswith("baseline") else right
            row["prediction"]["emotion"] = truth if random.random() < share else str(random.choice(CLASSES))
            row["target"]["emotion"] = truth if i % missing else None
        file.write_text("\n".join(map(json.dumps, rows)) + "\n")


@pytest.fixture
def scores(tmp_path: Path, write_run) -> Scores:
    """Two seeds of three folds with valence, an emotion, and a baseline of both."""
    for seed in (0, 1):
        for fold in (1, 2, 3):
            beside = {"ridge": {"valence": 0.2}}
            add_emotion(
                write_run(tmp_path / "a", fold, {"valence": 0.5}, seed=seed, baselines=beside), 0.4 + 0.1 * fold
            )
    return Scores(runs=read(tmp_path / "a"))


def labelled(runs: list[Run]) -> tuple[list[str], list[str]]:
    rows = [row for run in runs for row in run.test.values() if isinstance(row["target"]["emotion"], str)]
    return [row["target"]["emotion"] for row in rows], [row["prediction"]["emotion"] for row in rows]


def test_a_target_of_text_is_scored_by_recall(scores: Scores) -> None:
    assert scores.targets == ["valence", "emotion"]
    assert [scores.measure(target) for target in scores.targets] == ["CCC", "UA"]
    assert label("emotion", scores.targets) == "UA"
    run = scores.runs[0]
    y, x = labelled([run])
    part = scores.part(run, "test")
    assert len(y) < len(run.test)
    assert part["emotion"] == pytest.approx(balanced_accuracy_score(y, x))
    assert part[MEAN] == pytest.approx((part["valence"] + part["emotion"]) / 2)


def test_pooled_recall_and_its_interval_are_those_of_all_rows(scores: Scores) -> None:
    seed = Scores(runs=[run for run in scores.runs if run.seed == 0])
    found = seed.pool(NETWORK).estimate("emotion")
    rows = [row for run in seed.runs for _, row in sorted(run.test.items())]
    x, y = names(rows, "emotion")
    groups = [f"{row['session']}/{row['dialogue']}" for row in rows]
    assert found.value == pytest.approx(balanced_accuracy_score(*labelled(seed.runs)), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(interval(unweighted_accuracy, groups, x, y), abs=1e-12)


def test_a_baseline_of_classes_is_compared_on_the_same_resamples(scores: Scores) -> None:
    rows = {row[0]: row for row in cells(baselines(scores))}
    assert rows["pooled test score"][2:5] == ["CCC-V", "UA", "mean"]
    runs = scores.covered("ridge")
    difference = scores.pool(NETWORK, runs, "ridge").above(scores.pool("ridge", runs, NETWORK), "emotion")
    assert 0.02 < difference.low < difference.value < difference.high < 0.35
    assert all("[" in cell for cell in rows["ridge"][2:])


def test_the_tables_of_a_target(scores: Scores) -> None:
    text = section(scores)
    assert text.startswith("### emotion\n")
    assert "the 2 seeds together" in text
    rows = {row[0]: row[1:] for row in cells(accuracies(scores, "emotion"))}
    assert rows["fold"] == ["WA", "UA", "macro F1"]
    folded = {fold: [run for run in scores.runs if run.fold == fold] for fold in (1, 2, 3)}
    expected = np.array([
        np.mean([
            (accuracy_score(*both), balanced_accuracy_score(*both), f1_score(*both, average="macro"))
            for both in (labelled([run]) for run in runs)
        ], axis=0)
        for runs in folded.values()
    ])  # fmt: skip
    assert [rows[str(fold)] for fold in (1, 2, 3)] == [[number(v) for v in line] for line in expected]
    assert rows["mean"] == [number(v) for v in expected.mean(0)]
    assert rows["std"] == [number(v) for v in expected.std(0, ddof=1)]
    seeds = [labelled([run for run in scores.runs if run.seed == seed]) for seed in (0, 1)]
    assert rows["all rows"][0] == number(float(np.mean([accuracy_score(*both) for both in seeds])))
    matrix = cells(confusions(scores, "emotion"))
    counts = confusion_matrix(*labelled(scores.runs), labels=list(CLASSES))
    assert matrix[0] == ["label", *CLASSES, "n", "recall"]
    assert [[int(n) for n in line[1:5]] for line in matrix[2:]] == counts.tolist()
    assert [line[6] for line in matrix[2:]] == [number(float(v)) for v in np.diag(counts) / counts.sum(1)]


def test_numbers_alone_have_no_such_section(report_runs: Path) -> None:
    assert section(Scores(runs=read(report_runs))) == ""


def test_a_run_of_classes_alone(tmp_path: Path, write_run) -> None:
    for fold in (1, 2):
        add_emotion(write_run(tmp_path / "a", fold, {}), 0.6)
    runs = read(tmp_path / "a")
    assert Scores(runs=runs).targets == ["emotion"]
    assert cells(table(runs))[0][3:5] == ["UA", "mean"]
    assert flags(runs) == []


def test_a_labelled_row_without_a_class_has_no_score(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5})
    add_emotion(path, 0.6)
    rows = [json.loads(line) for line in (path / "predictions-test.jsonl").read_text().splitlines()]
    rows[1]["prediction"]["emotion"] = None
    (path / "predictions-test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    scores = Scores(runs=read(tmp_path / "a"))
    assert math.isnan(scores.part(scores.runs[0], "test")["emotion"])
    assert math.isnan(scores.pool(NETWORK).values["emotion"])
    assert {row[0]: row for row in cells(accuracies(scores, "emotion"))}["1"][1:] == ["–", "–", "–"]
    assert "NaN predictions" in {flag.kind for flag in flags(scores.runs)}


def test_recorded_classes_of_a_paper() -> None:
    found = {"wa_emotion": 0.71, "ua_emotion": 0.72, "f1_emotion": 0.7, "ccc_valence": 0.6}
    runs = [
        Run(name=f"seed0/fold{k}", seed=0, fold=k, finished=True, reported=True, end={"scores": {"test": found}})
        for k in (1, 2)
    ]
    scores = Scores(runs=runs)
    assert scores.targets == ["valence", "emotion"]
    assert scores.part(runs[0], "test") == {"valence": 0.6, "emotion": 0.72, MEAN: pytest.approx(0.66)}
    rows = {row[0]: row[1:] for row in cells(section(scores))}
    assert rows["1"] == ["0.710", "0.720", "0.700"]
    assert rows["all rows"] == ["–", "–", "–"]
    assert "UA" in cells(folds(scores))[0]
