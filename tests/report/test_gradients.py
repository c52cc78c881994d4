"""Gradients by term, as a report tells them, of runs that recorded known norms and cosines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from affect import report
from affect.report import flags, gradients
from affect.report.study import Study


def study(folder: Path, write_run, cosines: list[float], absent: int = 0) -> Study:
    """Return a study of a run with these cosines of two terms, after `absent` records without the second."""
    path = write_run(folder, 1, {"valence": 0.7})
    events = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    for k, event in enumerate(steps[: absent + len(cosines)]):
        there = k >= absent
        event["diagnostics"] = {
            "frames": 3.0, "gradient_norm/a": 2.0, "gradient_norm/b": 0.5 * there,
            "gradient_cosine/a/b": cosines[k - absent] if there else 0.0,
        }  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return Study(runs=report.read(folder), name="made up")


@pytest.mark.parametrize(
    ("cosines", "found"),
    [
        ([-0.3, -0.2, 0.05, -0.2, -0.2], "a and b: cosine -0.170 in the mean of 5 records, under 0 in 4"),
        ([-0.3, 0.1, 0.05, -0.1, -0.1], None),  # -.07 in the mean
        ([-0.9, 0.4, 0.4, -0.9, 0.3], None),  # -.14, which says little
        ([-0.9, -0.9, -0.9, -0.9], None),  # of too few
    ],
)
def test_terms_that_oppose_each_other_are_flagged(tmp_path, write_run, cosines, found):
    made = study(tmp_path / "a", write_run, cosines, absent=4)
    flagged = [flag for flag in flags.flags(made) if flag.kind == "opposing gradients"]
    assert [flag.evidence for flag in flagged] == ([found] if found else [])
    assert all("combine their gradients" in flag.advice for flag in flagged)


def test_the_table_has_norms_and_cosines_of_steps_in_which_both_took_part(tmp_path, write_run):
    shown = gradients.table(study(tmp_path / "a", write_run, [0.2, 0.4], absent=3))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()[2:]]
    assert cells[0] == ["term", "norm", "a"]
    assert cells[2:] == [["a", "2", "–"], ["b", "0.5", "+0.300"]]
    assert shown.startswith("Of 5 records of all runs: ")
    write_run(tmp_path / "b", 1, {"valence": 0.7})
    assert gradients.table(Study(runs=report.read(tmp_path / "b"), name="none")) == ""
