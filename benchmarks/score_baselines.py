"""What trivial predictors reach on real talking-face scores: THQA by its features, THQA-NTIRE by its names alone.

    python benchmarks/score_baselines.py DATA      # with DATA/thqa/features_mos.csv and DATA/thqa_ntire/{train,val}.csv
    python benchmarks/score_baselines.py DATA --reported runs/thqa-ntire

THQA (640 clips: 16 pictures, 5 voices, 8 generators; 24 features): GroupKFold(5) by picture, the number before the
first `_`, and one generator left out at a time. THQA-NTIRE: the mean training score of what a name tells, on val.
Prints Markdown tables; intervals are of 1,000 resamples of the pictures (of the names' characters).
With `--reported` what THQA-NTIRE's names tell is also written as numbers to hold a model against (docs/adding.md):
`affect report runs/MINE --against runs/thqa-ntire/generator`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from affect.baselines import scores
from affect.metrics import quality
from affect.metrics.bootstrap import percentiles
from affect.task import measured
from affect.tasks.talking_face.measures import measures_of


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--reported", type=Path)
    options = parser.parse_args()
    thqa(options.data / "thqa")
    ntire(options.data / "thqa_ntire", options.reported)


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


def ntire(folder: Path, reported: Path | None) -> None:
    (train, y, _), (val, labels, _) = (read(folder / f"{part}.csv", "Video") for part in ("train", "val"))
    told = {
        "generator (talker and set, or a recording's distortion and level)": generator,
        "generator and picture model": lambda words: f"{generator(words)} {words[1]}",
        "picture model": lambda words: words[1],
    }
    print(f"\nTHQA-NTIRE, {len(y)} names of train, {len(labels)} of val\n")
    print("| mean of | values | SRCC | PLCC | KRCC | (SRCC + PLCC) / 2 |\n|---|---|---|---|---|---|")
    characters = np.array([words[0] for words in val])
    paths: list[Path] = []
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
        if reported is not None:
            paths.append(report(reported, name.partition(" (")[0], val, predicted, labels))
    print("".join(f"\n{path}" for path in paths))


def report(folder: Path, name: str, names: list[list[str]], predicted: np.ndarray, labels: np.ndarray) -> Path:
    """Write what a mean scores on val as reported numbers, in a folder of its own, and return the file."""
    rows = [
        {"id": "_".join(words), "prediction": {"Score": p}, "target": {"Score": y}, "generator": generator(words)}
        for words, p, y in zip(names, predicted.tolist(), labels.tolist(), strict=True)
    ]
    own = measured(measures_of(("Score",), "own"), rows)
    # A generator's mean has none within a generator: comparison.md has one table of what all of them have.
    own.pop("within")
    document = {
        "name": f"mean of {name}",
        "source": "the training scores' mean by name, no video watched (benchmarks/score_baselines.py)",
        "task": "talking_face",
        "corpus": "thqa_ntire",
        "mean": {"valid": {key: round(value, 4) for key, value in own.items() if math.isfinite(value)}},
    }
    path = folder / name.replace(" ", "_") / "reported.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


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
