from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from affect.errors import AffectError, nearest
from affect.report import read, rows, runs


def test_runs_come_by_seed_and_fold(tmp_path: Path, write_run) -> None:
    for seed, fold in ((1, 2), (0, 10), (0, 2)):
        write_run(tmp_path / "a", fold, {"valence": 0.5}, seed=seed, baselines={"ridge": {"valence": 0.4}}, size=20)
    write_run(tmp_path / "a", 3, {"valence": 0.5}, finished=False)
    (tmp_path / "a" / "seed0" / "checkpoints").mkdir()
    runs = read(tmp_path / "a")
    assert [run.name for run in runs] == ["seed0/fold2", "seed0/fold3", "seed0/fold10", "seed1/fold2"]
    assert [run.finished for run in runs] == [True, False, True, True]
    assert len(runs[0].predictions["test"]) == 20
    assert set(runs[0].predictions) == {"valid", "test"}
    assert set(runs[0].baselines) == {"ridge"}
    assert runs[0].recipe["data"]["fold"] == 2
    assert len(runs[0].steps) == 120
    assert len(runs[0].evals) == 6
    assert runs[0].pace == 1 / 20
    assert all(not run.problems for run in runs)


def test_one_run_can_be_read_alone(tmp_path: Path, write_run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path / "a", 4, {"valence": 0.5}, size=20)
    assert [run.fold for run in read(path)] == [4]
    monkeypatch.chdir(path)
    assert [run.fold for run in read(Path("."))] == [4]


def test_a_run_that_goes_on_after_its_end_is_not_finished(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, size=20)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "step", "step": 121, "loss": 0.3}) + "\n")
    assert not read(tmp_path / "a")[0].finished


def test_corrupt_files_are_a_line_each(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, size=20)
    metrics = (path / "metrics.jsonl").read_text().splitlines()
    metrics[4] = metrics[4][:20]
    metrics[7] = "[1, 2]"
    (path / "metrics.jsonl").write_text("\n".join(metrics) + "\n")
    rows = [json.loads(line) for line in (path / "predictions-test.jsonl").read_text().splitlines()]
    rows[3]["prediction"]["valence"] = None
    del rows[5]["prediction"]
    rows.append(rows[0] | {"prediction": {"valence": 99.0}})
    (path / "predictions-test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (path / "recipe.json").write_text("{")
    (path / "environment.json").unlink()
    (path / "baseline-ridge-test.jsonl").write_bytes(b"\xff\xfe\x00")
    (run,) = read(tmp_path / "a")
    assert run.finished
    assert len(run.steps) == 118
    assert len(run.predictions["test"]) == 19
    assert math.isnan(run.predictions["test"]["Ses01_0003"]["prediction"]["valence"])
    assert run.predictions["test"]["Ses01_0000"]["prediction"]["valence"] != 99.0
    assert not run.baselines["ridge"]["test"]
    said = "\n".join(run.problems)
    assert "metrics.jsonl: 2 corrupt line(s), the first is line 5" in said
    assert "predictions-test.jsonl: 1 row(s) without prediction and target, the first is Ses01_0005" in said
    assert "predictions-test.jsonl: 1 id(s) more than once (the first row counts), as Ses01_0000" in said
    assert "recipe.json can't be read" in said
    assert "environment.json is missing" in said
    assert "baseline-ridge-test.jsonl: 1 corrupt line(s)" in said
    assert all("\n" not in problem for problem in run.problems)


def test_a_line_cut_short_by_a_crash_is_an_unfinished_run(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, size=20)
    text = (path / "metrics.jsonl").read_text()
    (path / "metrics.jsonl").write_text(text[:-30])
    (run,) = read(tmp_path / "a")
    assert not run.finished
    assert run.problems == ["metrics.jsonl: 1 corrupt line(s), the first is line 127"]


def test_the_later_record_of_a_step_counts(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, finished=False)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "step", "step": 50, "loss": 0.123}) + "\n")
    steps = read(tmp_path / "a")[0].steps
    assert [record["step"] for record in steps] == list(range(1, 121))
    assert steps[49]["loss"] == 0.123


def test_what_is_no_experiment_is_one_line(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "finetune", 1, {"valence": 0.5}, size=20)
    with pytest.raises(AffectError, match="did you mean 'finetune'"):
        read(tmp_path / "fintune")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AffectError, match="holds no runs"):
        read(tmp_path / "empty")
    with pytest.raises(AffectError, match="no run folder"):
        read(tmp_path / "nowhere" / "else")


def test_an_error_lists_five_names_at_most(tmp_path: Path, write_run) -> None:
    for k in range(7):
        (tmp_path / f"experiment{k}").mkdir()
    with pytest.raises(AffectError) as caught:
        read(tmp_path / "zzz")
    assert str(caught.value).endswith(
        "there are: " + ", ".join(f"experiment{k}" for k in range(5)) + ", ... (7 in all)"
    )
    assert nearest("zzz", ["c", "a", "b", "d", "e"]) == "there are: a, b, c, d, e"
    assert nearest("experimant6", [f"experiment{k}" for k in range(7)]) == "did you mean 'experiment6'?"


def test_classes_are_read_as_text_and_missing_ones_as_nan(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, size=4)
    rows = [json.loads(line) for line in (path / "predictions-test.jsonl").read_text().splitlines()]
    for row, label in zip(rows, ("ang", None, "", 7), strict=True):
        row["prediction"]["emotion"], row["target"]["emotion"] = "sad", label
        row["probability"] = {"emotion": {"ang": 0.1, "sad": 0.9}}
    (path / "predictions-test.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (run,) = read(tmp_path / "a")
    labels = [row["target"]["emotion"] for row in run.predictions["test"].values()]
    assert labels[0] == "ang"
    assert all(math.isnan(label) for label in labels[1:3])
    assert labels[3] == 7.0
    assert {row["prediction"]["emotion"] for row in run.predictions["test"].values()} == {"sad"}
    assert run.predictions["test"]["Ses01_0000"]["probability"]["emotion"]["sad"] == 0.9
    assert not run.problems
    assert not run.reported


def test_what_a_comparison_does_not_need_is_read_when_it_is_asked_for(tmp_path: Path, write_run, monkeypatch) -> None:
    write_run(tmp_path / "a", 1, {"valence": 0.5})
    (whole,), (less,) = read(tmp_path / "a"), read(tmp_path / "a", scores_only=True)
    opened: list[str] = []

    def counted(path: Path, *given: Any, **named: Any) -> list[dict[str, Any]]:
        opened.append(path.name)
        return rows.lines(path, *given, **named)

    monkeypatch.setattr(runs, "lines", counted)
    assert (less.end, less.recipe) == (whole.end, whole.recipe) and opened == []
    assert [*less.evals] == whole.evals and [*less.timing] == whole.timing and [*less.steps] == whole.steps
    assert len(less.evals) == len(whole.evals) and opened == ["metrics.jsonl", "timing.jsonl", "metrics.jsonl"]
