"""Goals (`--target V=.68`): how far a result is from each, and whether that is sure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from affect.errors import AffectError, nearest
from affect.report.compare import fold_scores, t_interval
from affect.report.scores import MEAN, NETWORK, Estimate, Scores
from affect.report.tables import label, number

_EDGE = 1e-9


def parse(given: Sequence[str]) -> dict[str, float]:
    """Return goals by the name that was given ("V=.68", "valence=.68", "mean=.65").

    Raises AffectError for one that is not NAME=SCORE, with a score from -1 to 1.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            score = float(value)
        except ValueError:
            score = math.nan
        if not name.strip() or not equals or not -1 <= score <= 1:
            raise AffectError(f"--target {text!r} must be NAME=SCORE with a score from -1 to 1, as V=.68")
        if name.strip() in found:
            raise AffectError(f"--target names {name.strip()} twice")
        found[name.strip()] = score
    return found


def resolve(goals: Mapping[str, float], targets: Sequence[str]) -> dict[str, float]:
    """Return goals by target; names may be short (V, CCC-V). Raises AffectError for one that no target bears."""
    known = {name: name for name in [*targets, MEAN]} | {label(t, targets): t for t in targets}
    known |= {short.removeprefix("CCC-"): t for short, t in known.items()}
    folded = {name.lower(): target for name, target in known.items()}
    found: dict[str, float] = {}
    for name, score in goals.items():
        target = folded.get(name.lower())
        if target is None:
            raise AffectError(f"--target {name}={score:g}: no target {name!r}; {nearest(name, known)}")
        if target in found:
            raise AffectError(f"--target names {target} twice")
        found[target] = score
    return found


def distances(scores: Scores, goals: Mapping[str, float]) -> str:
    """Return a line a goal, in Markdown: whether it is reached, by how much, and whether the interval holds it."""
    return "\n".join(f"- {_distance(scores, target, goal)}" for target, goal in goals.items())


def _distance(scores: Scores, target: str, goal: float) -> str:
    """Say the distance of the fold mean, which papers give, where there are folds; and that of the pooled score."""
    folds = fold_scores(scores, target)
    found = t_interval(np.array([value for value in folds.values() if not math.isnan(value)]))
    measured = scores.pool(NETWORK).estimate(target) if any(run.test for run in scores.runs) else Estimate(math.nan)
    name = f"{label(target, scores.targets)} {_short(goal)}"
    # The fold mean needs its own spread; rows give the better interval, though of the pooled score.
    if math.isnan(measured.value):
        over = "" if set(folds) == {0} else ", the mean over folds," if len(folds) > 1 else ""
        return f"{name}: {_said(found, goal, over)}"
    words = f"{name}: {_said(measured, goal, ', pooled,' if len(folds) > 1 else '')}"
    if len(folds) > 1:
        words += f" The mean over folds, {number(found.value)}, is {_side(found.value, goal)}."
    return words


def _said(found: Estimate, goal: float, what: str) -> str:
    if math.isnan(found.value):
        return "unknown: there is no score."
    reached = found.value >= goal - _EDGE
    words = "**reached**" if reached else "**not reached**"
    words += f": {number(found.value)}{what} is {_side(found.value, goal)}"
    if math.isnan(found.low):
        return words + "; there is no interval, so this may be chance."
    end, bound = ("lower", found.low) if reached else ("upper", found.high)
    words += f"; the interval's {end} end is {number(bound)}"
    if found.low <= goal <= found.high:
        return (
            words + ": the interval holds the goal, so " + ("it may be chance." if reached else "it is not ruled out.")
        )
    return words + (", over it too." if reached else ", under it too.")


def _side(value: float, goal: float) -> str:
    if math.isnan(value):
        return "unknown"
    gap = value - goal
    return f"{number(abs(gap))} {'over' if gap >= -_EDGE else 'under'} {_short(goal)}"


def _short(goal: float) -> str:
    return f"{goal:g}".replace("0.", ".", 1) if abs(goal) < 1 else f"{goal:g}"
