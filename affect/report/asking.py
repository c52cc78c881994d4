"""The task of runs, asked by their recipe; and what stands for it where nobody can be asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
        fields = _known(usual, recipe)
        try:
            return tasks.make(kind.from_dict(fields)), ""
        except AffectError:
            # A section that can't be read should not hide what the others say of the measures.
            sections = {name: section for name, section in usual.items() if isinstance(section, dict)}
            return tasks.make(kind.from_dict(fields | sections)), ""
    except (AffectError, AttributeError, KeyError, TypeError, ValueError) as error:
        return None, f"recipe.json can't be read as a recipe: {first_line(error)}"


def _known(usual: Record, given: Record) -> Record:
    """Return a section with the fields that it has when nothing is set."""
    return usual | {
        name: _known(usual[name], value) if isinstance(usual[name], dict) and isinstance(value, dict) else value
        for name, value in given.items() if name in usual
    }  # fmt: skip


def task_like(names: Collection[str]) -> Task | None:
    """Return the task whose measures bear most of these names as they are when nothing is set; None without any."""
    counts: dict[Task, int] = {}
    for name in tasks.TASKS:
        task, _ = task_of({"task": name, "experiment": name})
        if task is not None:
            counts[task] = sum(named(task.measures, one) is not None for one in names)
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] else None


def named(measures: Sequence[Measure], name: str) -> Measure | None:
    """Return the measure that bears a name: its own, its title, or one of its aliases; None without one."""
    wanted = name.strip().lower()
    kinds: list[Callable[[Measure], Sequence[str]]] = [lambda m: [m.name], lambda m: [m.title], lambda m: m.aliases]
    return next((m for names in kinds for m in measures if wanted in map(str.lower, names(m))), None)
