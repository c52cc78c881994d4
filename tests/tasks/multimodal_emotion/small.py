"""Small runs of the multimodal task on a generated corpus: what all tests of it share."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from affect import tasks
from affect.data.synthetic_features import GeneratorSettings, generate
from affect.experiments import folds
from affect.options import Options
from affect.recipe import Optim, Train
from affect.tasks.multimodal_emotion.config import Data, Model, MultimodalEmotion
from affect.training import stacked_trainer

TRAIN, TEST = 90, 20
SEED = 2
"""Of a corpus whose folds have all classes, for the seeds 0 to 7."""
SETTINGS = GeneratorSettings(train=TRAIN, test=TEST, seed=SEED)


def corpus(root: Path) -> Path:
    """Make the corpus at `root` and return it."""
    generate(root, SETTINGS)
    return root


def data(root: Path, **named: Any) -> Data:
    """Return the data section of the corpus: two folds, of 45 utterances each."""
    return Data(
        **{
            "corpus": "generated",
            "root": str(root),
            "train": TRAIN,
            "test": TEST,
            "generator_seed": SEED,
            "folds": 2,
            **named,
        }
    )


def recipe(root: Path, *, name: str = "attention", dropout: float = 0.0, epochs: int = 3, **model: Any):
    """Return a recipe of small runs, 3 steps an epoch; `with_` changes the rest of it."""
    return MultimodalEmotion(
        data=data(root),
        model=Model(**{"name": name, "hidden": 8, "dropout": dropout, **model}),
        protocol="toolkit",
        optim=Optim(lr=5e-3, weight_decay=1e-4, schedule="constant", warmup=0.0, clip=None),
        # The budget and mode are of the ordinary trainer: one micro-batch a step.
        train=Train(batch=16, epochs=epochs, workers=0, trackers=(), budget=1000.0, mode="hold"),
    )


def with_(base: MultimodalEmotion, **changes: Any) -> MultimodalEmotion:
    """Return a recipe with other values of fields named section__field, or of its own fields."""
    for key, value in changes.items():
        section, _, field = key.partition("__")
        base = replace(base, **{section: replace(getattr(base, section), **{field: value}) if field else value})
    return base


def train(
    base: MultimodalEmotion, top: Path, *, seeds: tuple[int, ...] = (0, 1), only: tuple[str, ...] | None = ("valid",),
    watch: stacked_trainer.Watching | None = None, stacked: bool = True, **options: Any,
) -> Path:  # fmt: skip
    """Run seeds and folds in `top` as stacks, or each by the ordinary trainer, and return `top`.

    At their end they make the evaluations `only`: the test parts under all conditions take most of such a run's time.
    """
    whole, given = tasks.make(base), Options(**options)
    units = [(seed, fold) for seed in seeds for fold in whole.folds()]
    if stacked:
        folds.run_together("test", whole, top, units, given, "a command", only=only, watch=watch)
        return top
    for seed, fold in units:
        folder = folds.folder_of(top, seed, fold)
        folds.run_one("test", whole.for_fold(seed, fold), folder, given, "a command", only=only)
    return top


def folders(top: Path) -> list[Path]:
    """Return the folders of an experiment's runs, in order."""
    return sorted(top.glob("seed*/fold*"))


def lines(folder: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl of one kind."""
    return [line for line in read(folder / "metrics.jsonl") if line["event"] == event]


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(folder: Path) -> list[float]:
    """Return a run's losses, step by step."""
    return [line["loss"] for line in lines(folder, "step")]


def weights(folder: Path) -> bytes:
    """Return the file of a run's best weights."""
    return (folder / "checkpoints" / "best" / "model.safetensors").read_bytes()


def vectors(root: Path, feature: str) -> dict[str, np.ndarray]:
    """Return each utterance's vector [D] of a feature as its files have it: the mean of rows and of frames."""
    found = {}
    for place in sorted((root / "features" / feature).iterdir()):
        frames = [np.load(path) for path in (sorted(place.iterdir()) if place.is_dir() else [place])]
        rows = np.concatenate([frame.reshape(-1, frame.shape[-1]) for frame in frames]).astype(np.float64)
        found[place.name.removesuffix(".npy")] = rows.mean(0)
    return found


def write_vector(root: Path, feature: str, name: str, values: np.ndarray | None) -> None:
    """Put a vector [D] in the place of an utterance's files of a feature, or nothing."""
    folder = root / "features" / feature
    if (folder / name).is_dir():
        shutil.rmtree(folder / name)
    (folder / f"{name}.npy").unlink(missing_ok=True)
    if values is not None:
        np.save(folder / f"{name}.npy", values)


def labels(root: Path, part: str) -> list[list[str]]:
    """Return the rows of a part's label file: name, emotion, valence."""
    with (root / f"{part}-label.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def write_labels(root: Path, part: str, rows: list[list[str]]) -> None:
    """Write a part's label file; the npz file, which says something else then, has to go."""
    (root / "label-6way.npz").unlink(missing_ok=True)
    with (root / f"{part}-label.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["name", "discrete", "valence"], *rows])
