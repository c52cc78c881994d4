"""Goals (`--target f1=.75`, `--target test2.acc=.76`): how far each part is from them, and whether that is sure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from affect.errors import AffectError, nearest
from affect.report.multimodal.measures import MEASURES
from affect.report.multimodal.names import CV, LOWER, SCORES, shown
from affect.report.multimodal.result import gain
from affect.report.multimodal.study import Study
from affect.report.scores import Estimate
from affect.report.tables import number

_EDGE = 1e-9
Goals = dict[tuple[str, str], float]
"""Scores to reach by part and score."""


def resolve(study: Study, goals: Mapping[str, float]) -> Goals:
    """Return goals by part and score; a score alone is a goal of every part that has it.

    Raises AffectError for a name that is no score or part of this experiment, or names one twice.
    """
    known = {f"{shown(part)}.{score}": (part, score) for part in study.parts for score in SCORES}
    known |= {f"valid.{score}": (CV, score) for score in SCORES if CV in study.parts}
    found: Goals = {}
    for name, goal in goals.items():
        key = name.lower()
        if key in SCORES:
            named = [(part, key) for part in study.parts if not math.isnan(study.scored(part, key)[0])]
        elif key in known:
            named = [known[key]]
        else:
            raise AffectError(f"--target {name}={goal:g}: no score {name!r}; {nearest(name, [*SCORES, *known])}")
        for place in named:
            if place in found:
                raise AffectError(f"--target names {shown(place[0])}.{place[1]} twice")
            found[place] = goal
    return found


def distances(study: Study, goals: Goals) -> str:
    """Return a line a goal, in Markdown: whether it is reached, by how much, and whether the interval holds it."""
    return "\n".join(f"- {_distance(study, part, score, goal)}" for (part, score), goal in goals.items())


def _distance(study: Study, part: str, score: str, goal: float) -> str:
    value = study.scored(part, score)[0]
    name = f"{shown(part)} {score} {_short(goal)}"
    if math.isnan(value):
        return f"{name}: unknown, there is no score."
    found = Estimate(value) if study.reported or score not in MEASURES else study.estimate(part, score)
    over = goal - value if score in LOWER else value - goal
    words = "**reached**" if over >= -_EDGE else "**not reached**"
    unit = "" if score in LOWER else " points"
    words += f": {number(value)} is {gain(abs(value - goal), score).lstrip('+')}{unit} "
    words += "over" if value >= goal else "under"
    if math.isnan(found.low):
        return f"{name}: {words} it; there is no interval, so this may be chance."
    chance = "may be chance" if over >= -_EDGE else "is not ruled out"
    inside = found.low <= goal <= found.high
    tail = f"holds the goal, so that reaching it {chance}" if inside else "does not hold the goal"
    return f"{name}: {words} it; the interval [{number(found.low)}, {number(found.high)}] {tail}."


def _short(goal: float) -> str:
    return f"{goal:g}".replace("0.", ".", 1) if abs(goal) < 1 else f"{goal:g}"
