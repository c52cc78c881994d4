"""The recipe of a third task, unlike both that affect has: when somebody speaks, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from affect.recipe import Recipe, require


@dataclass(frozen=True, kw_only=True)
class Data:
    """Recordings that are made up, anew in each epoch."""

    train: int = 24
    others: int = 8
    width: int = 5
    seed: int = 3


@dataclass(frozen=True, kw_only=True)
class Model:
    """A layer of hidden values a frame."""

    hidden: int = 12

    def __post_init__(self) -> None:
        """Check every field."""
        require(self.hidden > 0, "model.hidden", "be positive", self.hidden)


@dataclass(frozen=True, kw_only=True)
class Activity(Recipe):
    """Speech activity of recordings."""

    task: ClassVar[str] = "activity"

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
