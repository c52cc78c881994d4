"""How the runs were trained: emoval on training and validation parts, the epoch kept, and when training ended."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affect.report.multimodal.measures import emoval
from affect.report.multimodal.names import CV
from affect.report.multimodal.study import Study
from affect.report.runs import Run
from affect.report.scores import section, spread
from affect.report.tables import NONE, grid, number, signed


@dataclass(frozen=True)
class Course:
    """One run's emoval on both parts and its epochs, counted from 1 (None: unknown)."""

    run: Run
    train: float
    valid: float
    kept: int | None
    last: int | None

    @property
    def gap(self) -> float:
        """Training minus validation emoval."""
        return self.train - self.valid


def courses(study: Study) -> list[Course]:
    """Return the courses of the runs that count, by seed and fold."""
    found = []
    for run in sorted(study.finished, key=lambda run: (run.seed, run.fold)):
        rows = study.predicted.get((run.name, CV))
        told = section(section(run.end, "scores"), "train").get("emoval")
        train = float(told) if isinstance(told, int | float) else math.nan
        valid = emoval(rows) if rows is not None else math.nan
        found.append(Course(run, train, valid, kept(run), last(run)))
    return found


def kept(run: Run) -> int | None:
    """Return the epoch whose weights were kept, from 1."""
    best = run.end.get("best_epoch")
    return best + 1 if isinstance(best, int) else None


def last(run: Run) -> int | None:
    """Return the last epoch that was trained, from 1."""
    told = [event["epoch"] for event in [*run.steps, *run.evals] if isinstance(event.get("epoch"), int)]
    return max(told) + 1 if told else None


def words(found: list[Course]) -> str:
    """Return report 001's "train .97 / eval .51", the means over all runs, and when they were kept and stopped."""
    train, valid = (spread(getattr(course, name) for course in found)[0] for name in ("train", "valid"))
    gap = spread(course.gap for course in found)[0]
    said = f"emoval: train {_short(train)} / eval {_short(valid)} (gap {_short(gap)}), means over {len(found)} runs."
    epochs = sorted(course.kept for course in found if course.kept is not None)
    if epochs:
        said += f" Kept epochs: {epochs[0]} to {epochs[-1]}, the median {epochs[len(epochs) // 2]}, of {_most(found)}."
    early = sum(ended(course) == "stopped early" for course in found)
    return said + (f" {early} of {len(found)} runs stopped early." if early else "")


def table(found: list[Course]) -> str:
    """Return a line a run: emoval on both parts, their gap, the epoch kept, the last one and why it was that."""
    rows = [
        [
            str(course.run.seed),
            str(course.run.fold),
            number(course.train),
            number(course.valid),
            signed(course.gap),
            NONE if course.kept is None else str(course.kept),
            NONE if course.last is None else str(course.last),
            ended(course),
        ]
        for course in found
    ]
    head = ["seed", "fold", "train emoval", "valid emoval", "gap", "kept epoch", "last epoch", "end"]
    return grid(head, rows, left={7})


def ended(course: Course) -> str:
    """Return why training ended where it did ("": unknown)."""
    planned = section(course.run.recipe, "train").get("epochs")
    if course.last is None or not isinstance(planned, int):
        return ""
    return "stopped early" if course.last < planned else f"all {planned} epochs"


def _most(found: list[Course]) -> str:
    last = [course.last for course in found if course.last is not None]
    return f"{max(last)} at most" if last else "an unknown number"


def _short(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)
