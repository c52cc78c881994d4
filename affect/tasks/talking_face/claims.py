"""What report 003 claims of its optimized system, beside what an experiment is measured to be against another one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from affect.config import differences
from affect.findings import Section, finite
from affect.tables import grid, inside, number
from affect.task import VALID

if TYPE_CHECKING:
    from affect.report.study import Study

TITLE = "Claims of the optimized system"
BEFORE, AFTER = "original", "optimized"
"""The experiments of report 003's two systems."""
ERROR, FIT, RANKS, CROSS = "mse", "r2", "srcc", "srcc_cross_modal_score"
"""Measures that are claimed about."""


def section(study: Study) -> list[Section]:
    """Return the table of claims; of `optimized` how to get it, where it is not against another one of the task."""
    other = study.other
    if other is None and study.finished and study.recipe.get("experiment") == AFTER:
        there = (study.folder.parent / BEFORE).is_dir()
        first = "" if there else f"train `{BEFORE}` on the same data, then "
        words = f"For these beside what is measured: {first}`affect report {study.folder} --against {BEFORE}`."
        return [Section(title=TITLE, markdown=words)]
    if other is None or not study.finished or not other.finished or not inside(other.recipe, "loss"):
        return []
    sections = ("data", "model", "loss", "augment", "optim", "train")
    before, after = ({name: inside(each.recipe, name) for name in sections} for each in (other, study))
    precision = differences(before, after) == ["train.precision"]
    faster = "30 to 50 % faster (mixed precision)" if precision else "none: they differ in more than precision"
    tests = [name for name in study.tests if name in other.tests]
    claimed: list[tuple[str, str, Callable[[Sequence[Any]], float]]] = [
        ("mean squared error", "20 to 30 % less", partial(_recorded, tests=tests, measure=ERROR)),
        ("R2", "15 to 25 % more", partial(_recorded, tests=tests, measure=FIT)),
        ("mean SRCC", "30 to 50 % better overall", partial(_recorded, tests=tests, measure=RANKS)),
        ("SRCC of cross_modal_score", "none", partial(_recorded, tests=tests, measure=CROSS)),
        ("frames a second", faster, partial(_timed, name="units_per_second", over=np.median)),
        ("peak memory, GB", "none", lambda runs: _timed(runs, name="memory_bytes", over=np.max) / 1e9),
    ]
    values = [(what, claim, value(other.finished), value(study.finished)) for what, claim, value in claimed]
    rows = [
        [what, claim, *_changed(was, now)]
        for what, claim, was, now in values
        if math.isfinite(was) or math.isfinite(now)
    ]
    precisions = [str(inside(each.recipe, "train").get("precision") or "float32") for each in (other, study)]
    words = (
        f"Means over runs, on {', '.join(tests)}; the claims are of `{AFTER}` against `{BEFORE}`. Precision: "
        f"{precisions[0]}, here {precisions[1]}. {_epochs(study, other)}"
    )
    table = grid(["what", "claimed", other.name, "here", "change"], rows)
    return [Section(title=TITLE, markdown=f"{words.strip()}\n\n{table}")]


def _changed(before: float, after: float) -> list[str]:
    relative = 100 * (after / before - 1) if before > 0 else math.nan
    shown = [f"{each:,.0f}" if abs(each) >= 100 else number(each) for each in (before, after)]
    return [*shown, f"{relative:+.0f} %" if math.isfinite(relative) else "–"]


def _recorded(runs: Sequence[Any], tests: Sequence[str], measure: str) -> float:
    values = [run.recorded(test, measure) for run in runs for test in tests]
    return float(np.mean(values)) if values else math.nan


def _timed(runs: Sequence[Any], name: str, over: Callable[[list[float]], Any]) -> float:
    values = [[float(line[name]) for line in run.timing if finite(line.get(name))] for run in runs]
    return float(np.mean([over(each) for each in values if each])) if any(values) else math.nan


def _epochs(study: Study, other: Study) -> str:
    """Say after how many epochs the validation error of the other's best epoch was reached."""
    best, taken = zip(*(_best(run) for run in other.finished), strict=True)
    wanted = float(np.mean(best))
    reached = [_first(run, wanted) for run in study.finished]
    if not math.isfinite(wanted):
        return ""
    there = [epoch for epoch in reached if epoch is not None]
    share = f"{len(there)} of {len(reached)} runs reach" if len(there) < len(reached) else "runs reach"
    when = f" after {np.mean(there):.1f} epochs" if there else ""
    return (
        f"{share[0].upper()}{share[1:]} the least validation error of {other.name} ({number(wanted)}, after "
        f"{np.mean(taken):.1f} epochs){when}."
    )


def _errors(run: Any) -> list[tuple[int, float]]:
    """Return the validation error by epoch, from 1."""
    lines = [event for event in run.evals if event.get("evaluation") == VALID and isinstance(event.get("epoch"), int)]
    values = [(event["epoch"] + 1, inside(event, "scores").get(ERROR)) for event in lines]
    return [(epoch, float(value)) for epoch, value in values if isinstance(value, float) and math.isfinite(value)]


def _best(run: Any) -> tuple[float, float]:
    """Return the least validation error and its epoch."""
    return min(((value, float(epoch)) for epoch, value in _errors(run)), default=(math.nan, math.nan))


def _first(run: Any, wanted: float) -> int | None:
    return next((epoch for epoch, value in _errors(run) if value <= wanted), None)
