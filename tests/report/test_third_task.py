"""A task that the report has never heard of: an error rate over lists of segments, one fold, a section and a flag "
"of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affect import report, tasks
from affect.errors import AffectError
from affect.findings import Flag, Plot, Section
from affect.recipe import Recipe
from affect.report import comparison, load
from affect.task import Measure, Row, Task


class Count(Recipe):
    task = "counting"


def missed(rows: Sequence[Row]) -> float:
    """Return the share of turns that are wrong: rows hold lists."""
    wrong = sum(
        int(p != t) for row in rows for p, t in zip(row["prediction"]["turns"], row["target"]["turns"], strict=True)
    )
    total = sum(len(row["target"]["turns"]) for row in rows)
    if any(value is None for row in rows for value in row["prediction"]["turns"]):
        raise AffectError("a turn is no number")
    return wrong / total if total else float("nan")


def figure() -> Any:
    from affect.figures import lay_out

    found, (axes,) = lay_out(1, 3, 2)
    axes.plot([0, 1], [1, 0])
    return found


class Counting(Task):
    """What the report asks; nothing else of it is ever called."""

    recipe_class = Count
    datasets = collate = build_model = terms = None  # type: ignore[assignment]
    measures = (Measure(name="ter", title="turn error", score=missed, better="lower", groups=("recording",)),)

    def sections(self, study: Any) -> Sequence[Section]:
        said = f"{sum(len(row['target']['turns']) for row in study.system('test').rows())} turns"
        return [Section(title="Turns", markdown=said, plots=[Plot(name="turns", caption="Turns", draw=figure)])]

    def flags(self, study: Any) -> Iterable[Flag]:
        yield Flag("silence", "test", "half of it is silent", grave=True)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setitem(tasks.TASKS, "counting", "tests.report.test_third_task:Counting")

    def run(name: str, wrong: float, seeds: Sequence[int] = (0, 1), started: str = "2026-01-01") -> Path:
        for seed in seeds:
            path = tmp_path / name / f"seed{seed}" / "fold1"
            path.mkdir(parents=True)
            (path / "recipe.json").write_text(json.dumps({"task": "counting", "experiment": name, "seed": seed}))
            (path / "environment.json").write_text(json.dumps({"corpus": "calls", "started": started}))
            random = np.random.default_rng(seed)
            for part, size in (("test", 45), ("valid", 15)):
                rows = []
                for i in range(size):
                    turns = [float(k % 3) for k in range(i, i + 6)]
                    said = [t + float(random.random() < wrong) for t in turns]
                    place = {"id": f"{part}{i:02d}", "recording": f"r{i % 15}"}
                    rows.append(place | {"prediction": {"turns": said}, "target": {"turns": turns}})
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (path / f"predictions-{part}.jsonl").write_text(text)
            tests = map(json.loads, (path / "predictions-test.jsonl").read_text().splitlines())
            silent = [row | {"prediction": {"turns": [0.0] * 6}} for row in tests]
            (path / "baseline-silent-test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in silent))
            events: list[dict[str, Any]] = []
            for step in range(1, 9):
                events.append(
                    {"event": "step", "step": step, "epoch": step - 1, "loss": 1 / step, "undefined": ["turns"]}
                )
                score = {"ter": wrong + 0.3 / step}
                events.append(
                    {"event": "eval", "evaluation": "valid", "step": step, "epoch": step - 1, "scores": score}
                )
            end = {"event": "end", "step": 8, "best_step": 8, "best_epoch": 7, "scores": {"train": {"ter": 0.0}}}
            lines = "".join(json.dumps(event) + "\n" for event in [*events, end])
            (path / "metrics.jsonl").write_text(lines)
        return tmp_path / name

    return run


def test_it_is_reported_without_being_named(write: Callable[..., Path]) -> None:
    folder = write("first", 0.1)
    text = report.write(folder, targets={"ter": 0.2}).read_text(encoding="utf-8")
    assert "turn error **really better than silent (0.6" in text
    assert "- test turn error .2: **reached**: 0." in text
    assert "the interval's upper end is 0." in text, "of an error the worse end"
    assert "1,000 resamples of an evaluation's recordings (test: 15)" in text
    assert "## Turns\n\n540 turns" in text
    assert (folder / "plots" / "turns.png").is_file()
    flags = text.split("## Flags")[1].split("##")[0]
    assert flags.index("undefined term") < flags.index("silence")
    assert "the loss term turns took no part in 8 of 8 logged steps" in text


@pytest.mark.usefixtures("no_plots")
def test_the_smaller_error_is_the_better_one_everywhere(write: Callable[..., Path], tmp_path: Path) -> None:
    write("first", 0.2)
    folder = write("second", 0.1, started="2026-01-02")
    text = report.write(folder, against=Path("first")).read_text(encoding="utf-8")
    assert "turn error **-0.1" in text
    assert "**really better**" in text
    page = comparison.page(tmp_path)
    assert "best on tests and validation" in next(line for line in page.splitlines() if line.startswith("| second"))
    assert "really better" in page
    back = report.write(tmp_path / "first", against=Path("second")).read_text(encoding="utf-8")
    assert "**really worse**" in back


@pytest.mark.usefixtures("no_plots")
def test_predictions_that_are_none_are_a_dash(write: Callable[..., Path]) -> None:
    folder = write("first", 0.1, seeds=(0,))
    path = folder / "seed0/fold1/predictions-test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["prediction"]["turns"][0] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = load(folder)
    assert study.main is not None
    assert np.isnan(study.scored("test", study.main).mean)
    assert "no score" in report.write(folder).read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_plots")
def test_an_unknown_task_shows_what_was_recorded(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write("first", 0.1)
    monkeypatch.undo()
    text = report.write(folder).read_text(encoding="utf-8")
    assert "unknown task 'counting'" in text
    assert "only recorded scores are shown" in text
