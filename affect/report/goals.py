"""Goals (`--target V=.68`, `--target test2.acc=.76`): how far a result is from each, and whether that is sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from affect.errors import AffectError, nearest
from affect.report.compare import t_interval
from affect.report.runs import VALID
from affect.report.study import Study
from affect.report.systems import Estimate
from affect.tables import escaped, goal, number
from affect.task import Measure

_EDGE = 1e-9
Goals = Sequence[tuple[str, Measure, float]]
"""Evaluation, measure and the score to reach."""


def parse(given: Sequence[str]) -> dict[str, float]:
    """Return goals by the name that was given ("V=.68", "test2.mean=.65").

    Raises AffectError for one that is not NAME=SCORE.
    """
    goals = {}
    for text in given:
        # The name of a condition holds a sign of its own (test@snr=10.mean=.6).
        name, equals, value = text.rpartition("=")
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not name.strip() or not equals or not math.isfinite(score):
            raise AffectError(f"--target {text!r} must be NAME=SCORE, as V=.68")
        if name.strip() in goals:
            raise AffectError(f"--target names {name.strip()} twice")
        goals[name.strip()] = score
    return goals


def resolve(study: Study, goals: Mapping[str, float]) -> Goals:
    """Return what goals are of; a measure alone is a goal of every test, whichever of its names is given.

    Raises AffectError for a name that is no measure or evaluation of this experiment, or names one twice.
    """
    choices: dict[str, list[tuple[str, Measure]]] = {}
    # What comes later counts: the headline measures, and of one its own name.
    for measure in reversed([*study.headline, *(m for m in study.measures if not m.headline)]):
        for name in filter(None, (*measure.aliases, measure.title, measure.name)):
            tests = [t for t in study.tests or study.evaluations if not math.isnan(study.scored(t, measure).mean)]
            choices[name.lower()] = [(test, measure) for test in tests]
            for evaluation in [*study.names, *study.summaries]:
                choices[f"{evaluation}.{name}".lower()] = [(evaluation, measure)]
            choices[f"cv.{name}".lower()] = [(VALID, measure)]
    resolved: dict[tuple[str, str], tuple[str, Measure, float]] = {}
    for name, score in goals.items():
        if name.lower() not in choices:
            raise AffectError(f"--target {name}={score:g}: no score {name!r}; {nearest(name, choices)}")
        for evaluation, measure in choices[name.lower()]:
            if (evaluation, measure.name) in resolved:
                raise AffectError(f"--target names {evaluation} {measure.shown} twice")
            resolved[evaluation, measure.name] = evaluation, measure, score
    return list(resolved.values())


def distances(study: Study, goals: Goals) -> str:
    """Return a line a goal, in Markdown: whether it is reached, by how much, and whether the interval holds it."""
    return "\n".join(f"- {_distance(study, evaluation, measure, score)}" for evaluation, measure, score in goals)


def _distance(study: Study, evaluation: str, measure: Measure, score: float) -> str:
    """Say the distance of the score with its interval; of a pooled one also of the fold mean, which papers give."""
    scored, estimate = study.scored(evaluation, measure), study.estimate(evaluation, measure)
    folds = scored.by_fold.values()
    if study.task is None or study.reported:
        estimate = t_interval(np.array([value for value in folds if not math.isnan(value)]))
    pooled = estimate.bounded and evaluation in study.evaluations and study.pooled(evaluation, measure)
    over = "" if len(folds) < 2 else ", pooled," if pooled else ", the mean over folds,"
    words = f"{escaped(evaluation)} {escaped(measure.shown)} {goal(score)}: "
    words += _reached(estimate, score, over, measure.sign)
    if pooled and over:
        words += f" The mean over folds, {number(scored.mean)}, is {_side(scored.mean, score)}."
    return words


def _reached(estimate: Estimate, score: float, what: str, sign: int) -> str:
    if math.isnan(estimate.value):
        return "unknown: there is no score."
    reached = sign * (estimate.value - score) >= -_EDGE
    words = "**reached**" if reached else "**not reached**"
    words += f": {number(estimate.value)}{what} is {_side(estimate.value, score)}"
    if not estimate.bounded:
        return words + "; there is no interval, so this may be chance."
    lower = reached == (sign > 0)
    end, bound = ("lower", estimate.low) if lower else ("upper", estimate.high)
    words += f"; the interval's {end} end is {number(bound)}"
    if estimate.low <= score <= estimate.high:
        return f"{words}: the interval holds the goal, so {'it may be chance.' if reached else 'it is not ruled out.'}"
    return f"{words}, {'over' if estimate.low > score else 'under'} it too."


def _side(value: float, score: float) -> str:
    if math.isnan(value):
        return "unknown"
    gap = value - score
    return f"{number(abs(gap))} {'over' if gap >= -_EDGE else 'under'} {goal(score)}"
