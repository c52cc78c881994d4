"""What trivial predictors reach on real talking-face scores: THQA by its features, THQA-NTIRE by its names alone.

    python benchmarks/score_baselines.py DATA      # with DATA/thqa/features_mos.csv and DATA/thqa_ntire/{train,val}.csv

THQA (640 clips: 16 pictures, 5 voices, 8 generators; 24 features): GroupKFold(5) by picture, the number before the
first `_`, and one generator left out at a time. THQA-NTIRE: the mean training score of what a name tells, on val.
Prints Markdown tables; intervals are of 1,000 resamples of the pictures (of the names' characters).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from affect.baselines import scores
from affect.metrics import quality
from affect.metrics.bootstrap import percentiles


def main() -> None:
    """Measure and print."""
    root = Path(sys.argv[1])
    thqa(root / "thqa")
    ntire(root / "thqa_ntire")


def read(path: Path, name: str) -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    """Return the words of each clip's name, its score and its features."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row.pop(name).removesuffix(".mp4").split("_") for row in rows]
    y = np.array([float(row.pop("Score")) for row in rows])
    return names, y, np.array([[float(value) for value in row.values()] for row in rows]).reshape(len(rows), -1)


def thqa(folder: Path) -> None:
    names, y, x = read(folder / "features_mos.csv", "Image")
    pictures, generators = (np.array([words[k] for words in names]) for k in (0, -1))
    for held, cut in (("picture", GroupKFold(5).split(x, y, pictures)),
                      ("generator", LeaveOneGroupOut().split(x, y, generators))):  # fmt: skip
        parts = list(cut)
        print(f"\nTHQA by {held}, {len(parts)} folds\n")
        print("| | SRCC pooled | by fold | within a generator | PLCC pooled | by fold |\n|---|---|---|---|---|---|")
        for name in scores.NAMES:
            predicted = np.full(len(y), np.nan)
            for train, test in parts:
                predicted[test] = scores.predict(
                    name, x[train], y[train], x[test], groups=pictures[train], kinds_train=generators[train],
                    kinds_test=generators[test],
                )  # fmt: skip
            ours = (predicted, y)
            folds = [[score(predicted[test], y[test]) for _, test in parts] for score in (quality.srcc, quality.plcc)]
            print(row(name, [
                (quality.srcc(*ours), quality.replicates_srcc(pictures, *ours)), (np.mean(folds[0]), None),
                (quality.within_srcc(*ours, generators), quality.replicates_within_srcc(pictures, *ours, generators)),
                (quality.plcc(*ours), quality.replicates_plcc(pictures, *ours)), (np.mean(folds[1]), None),
            ]))  # fmt: skip


def ntire(folder: Path) -> None:
    (train, y, _), (val, labels, _) = (read(folder / f"{part}.csv", "Video") for part in ("train", "val"))
    told = {
        "generator (talker and set, or a recording's distortion and level)": generator,
        "generator and picture model": lambda words: f"{generator(words)} {words[1]}",
        "picture model": lambda words: words[1],
    }
    print(f"\nTHQA-NTIRE, {len(y)} names of train, {len(labels)} of val\n")
    print("| mean of | values | SRCC | PLCC | KRCC | (SRCC + PLCC) / 2 |\n|---|---|---|---|---|---|")
    characters = np.array([words[0] for words in val])
    for name, part in told.items():
        kinds, wanted = ([part(words) for words in names] for names in (train, val))
        blank = [np.zeros((len(rows), 1)) for rows in (y, labels)]
        predicted = scores.predict("kind_mean", blank[0], y, blank[1], kinds_train=kinds, kinds_test=wanted)
        ranks, line = quality.srcc(predicted, labels), quality.plcc(predicted, labels)
        print(row(f"{name} | {len(set(kinds))}", [
            (ranks, quality.replicates_srcc(characters, predicted, labels)),
            (line, quality.replicates_plcc(characters, predicted, labels)), (quality.krcc(predicted, labels), None),
            ((ranks + line) / 2, None),
        ]))  # fmt: skip


def generator(words: list[str]) -> str:
    """Return what made a clip: the talker of one of two sets, or what was done to a recording."""
    return "_".join(words[-3:]) if "SEN" in words else f"{'common' in words} {words[-1]}"


def row(name: str, values: Iterable[tuple[float, np.ndarray | None]]) -> str:
    cells = []
    for value, samples in values:
        bounds = "" if samples is None or np.isnan(samples).any() else " [{:.2f}, {:.2f}]".format(*percentiles(samples))
        cells.append(f"{value:.3f}{bounds}")
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
