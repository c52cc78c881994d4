"""A whole task of the toy model: rows of numbers, and a subclass or a field for whatever a test asks of a task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from datasets import Dataset, DatasetDict
from torch import nn

from affect.metrics import measures
from affect.recipe import Optim, Recipe, Train
from affect.task import Batch, Evaluation, Key, Measure, Row, Task, Term
from affect.training import run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Scores, Start
from tests.training import toy

SIZES = {"train": 24, "valid": 12, "dark": 6}
"""Rows by part: the labels of each, from one draw."""


@dataclass(frozen=True, kw_only=True)
class ToyRecipe(Recipe):
    """What the toy task optimises and is chosen by."""

    task: ClassVar[str] = "toy"

    terms: tuple[str, ...] = ("ccc_valence", "mse_arousal")
    learned: tuple[str, ...] = ()
    better: str = "higher"
    """higher: chosen by the CCC of valence; lower: by the squared error of arousal."""
    labels: dict[str, float] | None = None
    """Parts whose targets are all this number (NaN: missing)."""
    every: int = 1
    """Of the training rows one in so many has labels."""


class ToyTask(Task):
    """24 training rows of 6 numbers, a model of some hundred weights."""

    recipe_class = ToyRecipe
    recipe: ToyRecipe

    def datasets(self) -> DatasetDict:
        parts, start = {}, 0
        for name, size in SIZES.items():
            places = range(start, start + size)
            parts[name] = Dataset.from_dict(
                {"id": [f"{name}{k}" for k in places], "place": list(places), "length": [1.0 + k % 3 for k in places]}
            )
            start += size
        return DatasetDict(parts)

    def collate(self, rows: list[Row], key: Key | None) -> Batch:
        x, targets = toy.data(sum(SIZES.values()))
        places = torch.tensor([row["place"] for row in rows])
        found = {name: values[places] for name, values in targets.items() if values.ndim == 1}
        for part, value in (self.recipe.labels or {}).items():
            if rows[0]["id"].startswith(part):
                found = {name: values if values.dtype == torch.int64 else torch.full_like(values, value)
                         for name, values in found.items()}  # fmt: skip
        if self.recipe.every > 1 and rows[0]["id"].startswith("train"):
            gone = places % self.recipe.every > 0
            found = {name: torch.where(gone, -100 if values.dtype == torch.int64 else torch.nan, values)
                     for name, values in found.items()}  # fmt: skip
        inputs = {"x": x[places] * (0.0 if rows[0].get("condition") == "blind" else 1.0)}
        return Batch(ids=tuple(row["id"] for row in rows), inputs=inputs, targets=found, rows=[{} for _ in rows])

    def build_model(self) -> nn.Module:
        return toy.Toy()

    def terms(self) -> Sequence[Term]:
        return toy.terms({name: name in self.recipe.learned for name in self.recipe.terms})

    @property
    def measures(self) -> Sequence[Measure]:
        found = [measures.ccc("valence", "CCC-V"), measures.mse("arousal", "mse_arousal", "error of arousal")]
        return found if self.recipe.better == "higher" else found[::-1]

    def evaluations(self) -> Sequence[Evaluation]:
        return [*super().evaluations(), Evaluation(name="dark@blind", part="dark", condition="blind")]


def recipe(*, optim: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **fields: Any) -> ToyRecipe:
    """Return a recipe of two epochs of three steps."""
    return ToyRecipe(
        optim=Optim(**{"lr": 1e-2, "schedule": "constant", "warmup": 0.0, **(optim or {})}),
        train=Train(**{"batch": 8, "epochs": 2, "workers": 0, "trackers": (), "budget": 12.0, "mode": "hold",
                       **(train or {})}),
        **fields,
    )  # fmt: skip


def make(task: Task, folder: Path, **start: Any) -> Run:
    """Return a run of a task in `folder`, claimed as the command line would."""
    engine = join(folder, task.recipe.train.trackers)
    engine.on_main(lambda: run_dir.claim(folder, task.recipe, experiment="toy", overwrite=False))
    return Run(engine, task, folder, Start(**{"experiment": "toy", **start}))


def train(task: Task, folder: Path, **start: Any) -> Scores:
    """Train a run in `folder` to its end and return its scores."""
    return trainer.train(make(task, folder, **start))


def lines(folder: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, of one kind where it is named."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if event in (None, line["event"])]


def with_(base: ToyRecipe, **train: Any) -> ToyRecipe:
    return replace(base, train=replace(base.train, **train))
