"""How the settings of THQA's recipe are chosen: by pictures held out of each fold's training part.

    AFFECT_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/thqa_choice.py DATA/thqa [--settings ...] [--nested 0 1 2]

The recipe `thqa` with other settings, trained by affect's own trainer: each outer fold's training pictures in three
folds by picture, one seed; no row of an outer fold's test part is read. Prints means of the outer folds' measures over
their held-out rows, beside ridge and forest, and the rule: the mean of SRCC, Pearson and SRCC within a generator.
With `--nested SEEDS` each outer fold is then tested, for the first time, by the setting that the rule takes for it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict
from scipy.stats import pearsonr, spearmanr
from sklearn.model_selection import GroupKFold

from affect import tasks
from affect.baselines import scores
from affect.cli.arguments import experiments_in
from affect.tasks.talking_face.baselines import pooled
from affect.tasks.talking_face.config import TalkingFace
from affect.tasks.talking_face.task import TalkingFaceTask
from affect.training import run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Start

RECIPE = Path(__file__).parents[1] / "recipes" / "talking_face.py"
SCORE, INNER = "Score", 3
QUICK: dict[str, Any] = {"optim.lr": 1e-3, "train.epochs": 40}
SETTINGS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "without the path": {"model.linear": False, **QUICK},
    "quick": QUICK,
    "quick, no rank term": {"loss.rank": 0.0, **QUICK},
    "no rank term": {"loss.rank": 0.0},
    "no rank term, no mixup": {"loss.rank": 0.0, "augment.mixup": 0.0},
    "no rank term, weight decay 10": {"loss.rank": 0.0, "optim.weight_decay": 10.0},
    "no rank term, weight decay 3, dropout .2": {
        "loss.rank": 0.0, "optim.weight_decay": 3.0, "model.dropout": 0.2,
    },
    "rank .3, weight decay 10": {"loss.rank": 0.3, "optim.weight_decay": 10.0},
    "quick, no rank term, no mixup": {"loss.rank": 0.0, "augment.mixup": 0.0, **QUICK},
    "quick, no rank term, dropout .8": {"loss.rank": 0.0, "model.dropout": 0.8, **QUICK},
    "quick, no rank term, width 16": {"loss.rank": 0.0, "model.encoder_dim": 16, **QUICK},
    "quick, no rank term, lr 3e-3": {"loss.rank": 0.0, **QUICK, "optim.lr": 3e-3},
    "no rank term, lr 1e-4": {"loss.rank": 0.0, "optim.lr": 1e-4},
}  # fmt: skip
"""Changes of the recipe by name."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--nested", nargs="+", type=int, default=[], metavar="SEED")
    options = parser.parse_args()
    base = experiments_in(RECIPE)["thqa"]()
    assert isinstance(base, TalkingFace)
    base = replace(base, data=replace(base.data, root=str(options.data)))
    print("| inner folds | SRCC | Pearson | within a generator | MSE | rule |\n|---|---|---|---|---|---|", flush=True)
    for name in ("ridge", "forest"):
        told(name, [outer(base, fold, trivial=name) for fold in range(1, 6)])
    rules = {}
    for name in options.settings:
        recipe = changed(base, SETTINGS[name])
        outers = [outer(recipe, fold) for fold in range(1, 6)]
        told(name, outers)
        rules[name] = [values[-1] for values in outers]
    if options.nested:
        nested(base, [max(rules, key=lambda name, at=fold: rules[name][at]) for fold in range(5)], options.nested)


def changed(recipe: TalkingFace, values: dict[str, Any]) -> TalkingFace:
    """Return the recipe with other values of the fields named section.field, evaluated at its end alone."""
    for key, value in values.items():
        section, field = key.split(".")
        recipe = replace(recipe, **{section: replace(getattr(recipe, section), **{field: value})})
    train = replace(recipe.train, evaluate_every=recipe.train.epochs, trackers=())
    return replace(recipe, train=train)


def outer(recipe: TalkingFace, fold: int, trivial: str | None = None) -> list[float]:
    """Return the measures of an outer fold's training rows, each predicted by a model of other pictures."""
    told: list[float] = []
    labels, by = [], []
    for train, held in inner(recipe, fold):
        task = TalkingFaceTask(replace(recipe, data=replace(recipe.data, fold=fold)))
        task.parts = DatasetDict(train=train, valid=held, test=held)
        told += predicted(task) if trivial is None else simple(task, trivial)
        labels += held[SCORE]
        by += held["generator"]
    x, y, generator = np.array(told), np.array(labels), np.array(by)
    within = [spearmanr(x[generator == g], y[generator == g]).statistic for g in np.unique(generator)]
    values = [spearmanr(x, y).statistic, pearsonr(x, y).statistic, float(np.mean(within))]
    return [*values, float(np.mean((x - y) ** 2)), float(np.mean(values))]


def nested(base: TalkingFace, chosen: list[str], seeds: list[int]) -> None:
    """Print what outer folds are tested at, each by the setting chosen for it."""
    print("\n" + "\n".join(f"fold {fold}: {name}" for fold, name in enumerate(chosen, 1)))
    heads = ["seed", "SRCC pooled", "by fold", "within a generator", "PLCC pooled", "by fold", "MSE"]
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for seed in seeds:
        rows: list[list[dict[str, Any]]] = []
        for fold, name in enumerate(chosen, 1):
            recipe = replace(changed(base, SETTINGS[name]), seed=seed)
            task = tasks.make(recipe).for_fold(seed, fold)
            assert isinstance(task, TalkingFaceTask)
            values = predicted(task)
            given = [{"prediction": {SCORE: value}} for value in values]
            test = task.parts["test"]
            rows.append([
                {**row, "target": {SCORE: y}, "generator": g}
                for row, y, g in zip(given, test[SCORE], test["generator"], strict=True)
            ])  # fmt: skip
        score = {measure.name: measure.score for measure in task.measures}
        whole = sum(rows, [])
        by_fold = {name: float(np.mean([score[name](each) for each in rows])) for name in ("srcc", "plcc")}
        cells = [
            score["srcc"](whole), by_fold["srcc"], score["within"](whole), score["plcc"](whole), by_fold["plcc"],
            score["mse"](whole),
        ]  # fmt: skip
        print(f"| {seed} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |", flush=True)


def inner(recipe: TalkingFace, fold: int) -> Iterator[tuple[Any, Any]]:
    """Yield rows to train on and rows held out, by picture, of an outer fold's training part."""
    task = tasks.make(recipe).for_fold(0, fold)
    rows = task.datasets()["train"]
    for train, held in GroupKFold(INNER).split(np.zeros(len(rows)), groups=rows["source"]):
        yield rows.select(train), rows.select(held)


def predicted(task: TalkingFaceTask) -> list[float]:
    """Return what a run of the recipe predicts of its test part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "seed0", "fold1")
        run_dir.claim(folder, task.recipe, experiment="choice", overwrite=False)
        trainer.train(Run(join(folder), task, folder, Start(experiment="choice", only=("test",))))
        rows = {row["id"]: row["prediction"][SCORE] for row in run_dir.read_rows(folder, "test")}
    return [rows[id] for id in task.parts["test"]["id"]]


def simple(task: TalkingFaceTask, name: str) -> list[float]:
    """Return what a trivial model predicts of the test part."""
    train, test = task.parts["train"], task.parts["test"]
    x = [pooled(task.clips, part).astype(np.float32) for part in (train, test)]
    y = np.array(train[SCORE], np.float32)
    values: list[float] = scores.predict(name, x[0], y, x[1], groups=np.array(train["source"])).tolist()
    return values


def told(name: str, outers: list[list[float]]) -> None:
    """Print a row of the table."""
    print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(outers, axis=0)) + " |", flush=True)


if __name__ == "__main__":
    main()
