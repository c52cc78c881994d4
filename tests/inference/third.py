"""A task as another package would add it: the least that a model, its folder and its use need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from affect.recipe import Recipe
from affect.task import Task


@dataclass(frozen=True, kw_only=True)
class Model:
    width: int = 3


@dataclass(frozen=True, kw_only=True)
class Third(Recipe):
    task: ClassVar[str] = "third"
    model: Model = field(default_factory=Model)


class ThirdTask(Task):
    recipe_class = Third
    measures = ()

    def datasets(self):
        raise NotImplementedError

    collate = terms = datasets

    def build_model(self) -> nn.Module:
        return nn.Linear(self.recipe.model.width, 1)

    @classmethod
    def commands(cls) -> tuple[str, ...]:
        return ("tests.inference.third:greet",)


def greet() -> str:
    """Say hello."""
    return "hello"
