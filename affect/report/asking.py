"""The task of runs, asked by their recipe; and what stands for it where nobody can be asked."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from affect import tasks
from affect.errors import AffectError, first_line
from affect.task import Measure

if TYPE_CHECKING:
    from affect.report.rows import Record
    from affect.task import Task


def task_of(recipe: Record) -> tuple[Task | None, str]:
    """Return the task of a recipe, or None and why there is none ("": the recipe is not there).

    What a recipe of another version lacks is as it is when not set, and what it alone has is left out.
    """
    if not recipe:
        return None, ""
    try:
        kind = tasks.task_class(str(recipe.get("task"))).recipe_class
        usual = kind().to_dict()
        given = {name: _known(usual[name], recipe[name]) for name in usual if name in recipe}
        try:
            return tasks.make(kind.from_dict(usual | given)), ""
        except AffectError:
            # A section that can't be read should not hide what the others say of the measures.
            plain = {name: value for name, value in given.items() if not isinstance(usual[name], dict)}
            return tasks.make(kind.from_dict(usual | plain)), ""
    except (AffectError, AttributeError, KeyError, TypeError, ValueError) as error:
        return None, f"recipe.json can't be read as a recipe: {first_line(error)}"


def _known(usual: object, given: object) -> object:
    """Return a section with the fields that it has when nothing is set."""
    if not isinstance(usual, dict) or not isinstance(given, dict):
        return given
    return usual | {name: _known(usual[name], value) for name, value in given.items() if name in usual}


def task_like(names: Collection[str]) -> Task | None:
    """Return the task whose measures bear most of these names as they are when nothing is set; None without any."""
    known = [task for name in tasks.TASKS if (task := task_of({"task": name, "experiment": name})[0]) is not None]
    counts = {id(task): sum(named(task.measures, name) is not None for name in names) for task in known}
    best = max(known, key=lambda task: counts[id(task)], default=None)
    return best if best is not None and counts[id(best)] else None


def named(measures: Sequence[Measure], name: str) -> Measure | None:
    """Return the measure that bears a name: its own, its title, or one of its aliases; None without one."""
    wanted = name.strip().lower()
    for names in ("name", "title", "aliases"):
        for measure in measures:
            held = getattr(measure, names)
            if wanted in {one.lower() for one in ((held,) if isinstance(held, str) else held)}:
                return measure
    return None


def unknown(name: str) -> Measure:
    """Return a measure of which only recorded values are known."""
    return Measure(name=name, score=lambda rows: math.nan)


def derived(measures: Sequence[Measure], scores: Mapping[str, float]) -> dict[str, float]:
    """Return scores with those that follow from others: a mean of measures that are all there."""
    found = dict(scores)
    for measure in measures:
        if measure.name not in found and measure.combine is not None and all(p.name in found for p in measure.parts):
            found[measure.name] = float(measure.combine([found[part.name] for part in measure.parts]))
    return found
