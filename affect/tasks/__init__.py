"""The tasks by name, imported late."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect import recipe as recipes
from affect.errors import AffectError, nearest
from affect.recipe import Recipe

if TYPE_CHECKING:
    from affect.task import Task

TASKS = {"valence_arousal": "ValenceArousal", "multimodal_emotion": "MultimodalEmotion"}
"""Name of each task's package here, and of its recipe's class."""


def recipe_class(name: str) -> type[Recipe]:
    """Return the recipe class of the task `name`. Raises AffectError when there is none."""
    if name not in TASKS:
        raise AffectError(f"unknown task {name!r}; {nearest(name, TASKS)}")
    found: type[Recipe] = getattr(import_module(f"affect.tasks.{name}.recipe"), TASKS[name])
    return found


def read_recipe(data: dict[str, Any] | Path) -> Recipe:
    """Return the recipe that a run wrote to its recipe.json (or that file read). Raises AffectError."""
    data = recipes.read(data) if isinstance(data, Path) else data
    return recipe_class(str(data.get("task"))).from_dict(data)


def make(recipe: Recipe) -> Task:
    """Return the task that a recipe describes; loads the tensor libraries."""
    made: Task = import_module(f"affect.tasks.{recipe.task}.task").make(recipe)
    return made
