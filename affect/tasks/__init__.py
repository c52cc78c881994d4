"""The tasks by name, imported late."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect import recipe as recipes
from affect.errors import AffectError, nearest
from affect.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from affect.task import Task

TASKS = {
    "diarization": "affect.tasks.diarization.task:DiarizationTask",
    "emotion": "affect.tasks.emotion.task:EmotionTask",
    "multimodal_emotion": "affect.tasks.multimodal_emotion.task:MultimodalEmotionTask",
    "talking_face": "affect.tasks.talking_face.task:TalkingFaceTask",
}
"""Each task's class by the name that its recipes have; other packages add theirs as entry points."""

GROUP = "affect.tasks"
"""The group of entry points by which a package adds its tasks: NAME = "package.module:Class"."""


def names() -> list[str]:
    """Return the names of all tasks that are installed."""
    return sorted({*TASKS, *(point.name for point in entry_points(group=GROUP))})


def task_class(name: str) -> type[Task]:
    """Return the class of the task `name`; loads no tensor library. Raises AffectError when there is none."""
    place = TASKS.get(name) or next((point.value for point in entry_points(group=GROUP, name=name)), None)
    if place is None:
        raise AffectError(f"unknown task {name!r}; {nearest(name, names())}")
    task: type[Task] = attribute(place)
    return task


def attribute(place: str) -> Any:
    """Return what a task names as "module:attribute"."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def helps(command: str) -> list[str]:
    """Return the paragraphs that installed tasks add to the help of a subcommand."""
    return [text for name in names() if (text := task_class(name).helps.get(command))]


def commands() -> dict[str, Callable[..., None]]:
    """Return the subcommands that installed tasks add to `affect`, by name."""
    functions = (attribute(place) for name in names() for place in task_class(name).commands)
    return {function.__name__: function for function in functions}


def read_recipe(data: dict[str, Any] | Path) -> Recipe:
    """Return the recipe that a run wrote to its recipe.json (or that file read). Raises AffectError."""
    data = recipes.read(data) if isinstance(data, Path) else data
    return task_class(str(data.get("task"))).recipe_class.from_dict(data)


def make(recipe: Recipe) -> Task:
    """Return the task that a recipe describes; reads nothing yet."""
    return task_class(recipe.task)(recipe)


def model_of(config: dict[str, Any]) -> nn.Module:
    """Return the model that a config.json describes, with random weights. Raises AffectError where it can't be had."""
    return task_class(str(config.get("task"))).model_of(config)


def load(folder: Path) -> nn.Module:
    """Return the model in a folder, of whichever task, on the CPU and in evaluation mode. Raises AffectError."""
    from affect.models import saving

    return saving.load(folder, model_of)
