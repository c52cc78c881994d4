"""Experiments with many parts: their order, the line of a run, and names below the plots."""

from __future__ import annotations

import json
from pathlib import Path

from affect.report import gaps, plots, result
from affect.report.runs import read
from affect.report.study import Study

PARTS = ("test_2_speakers_8s", "test_2_speakers_64s", "test_10_speakers_8s")


def several(folder: Path, write_run, seeds: int = 1) -> Study:
    for seed in range(seeds):
        path = write_run(folder, 1, {"valence": 0.5, "arousal": 0.6}, size=20, seed=seed)
        rows = (path / "predictions-test.jsonl").read_text()
        (path / "predictions-test.jsonl").unlink()
        for part in PARTS:
            lines = [json.loads(line) for line in rows.splitlines()]
            named = [line | {"id": f"{part}{line['id']}"} for line in lines]
            (path / f"predictions-{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    return Study(runs=read(folder), name=folder.name)


def test_numbers_in_names_of_parts_are_in_order(tmp_path: Path, write_run) -> None:
    assert several(tmp_path / "a", write_run).evaluations == [*PARTS, "valid"]


def test_a_line_a_run_tells_the_main_measure_of_many_parts(tmp_path: Path, write_run) -> None:
    study = several(tmp_path / "a", write_run, seeds=2)
    head = [cell.strip() for cell in result.folds(study).splitlines()[0].strip("| ").split("|")]
    assert head[4:8] == [f"{part} mean" for part in (*PARTS, "valid")]
    assert "CCC-A" in result.scores(study), "all measures are in the table of scores"
    assert result.folds(several(tmp_path / "one", write_run)) == "", "which says all of a single run"
    write_run(tmp_path / "b", 1, {"valence": 0.5, "arousal": 0.6}, size=20)
    few = Study(runs=read(tmp_path / "b"), name="b")
    assert "CCC-A" in result.folds(few)


def test_names_below_a_plot_do_not_lie_on_one_another(tmp_path: Path, write_run) -> None:
    write_run(tmp_path / "b", 1, {"valence": 0.5}, size=20)
    few = Study(runs=read(tmp_path / "b"), name="b")
    for study, turned in ((several(tmp_path / "a", write_run), True), (few, False)):
        figure = plots.scores(study)
        assert figure is not None
        figure.draw_without_rendering()
        for axes in figure.axes:
            labels = axes.get_xticklabels()
            assert {label.get_rotation() > 0 for label in labels} == {turned}
            if not turned:
                boxes = [label.get_window_extent() for label in labels]
                assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))


def test_tests_on_both_sides_of_validation_are_no_gap(tmp_path: Path, write_run) -> None:
    def kinds(name: str, *scores: float) -> list[str]:
        for place, score in enumerate(scores):
            path = write_run(tmp_path / name / str(place), 1, {"valence": score}, valid={"valence": 0.5}, size=20)
            if place:
                rows = (path / "predictions-test.jsonl").read_text()
                (tmp_path / name / "0" / "seed0" / "fold1" / f"predictions-test{place}.jsonl").write_text(rows)
        study = Study(runs=read(tmp_path / name / "0"), name=name)
        return [flag.kind for flag in gaps.valid_and_test(study)]

    assert kinds("below", 0.3, 0.2) == ["valid above test"] * 2
    assert kinds("above", 0.7, 0.9) == ["test above valid"] * 2
    assert kinds("both", 0.3, 0.9) == []
