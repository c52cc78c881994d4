"""Scores that say more than the report's three: macro F1, CCC, emoval, calibration, classes, confusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from affect.metrics.classification import Counts
from affect.metrics.regression import Floats
from affect.report.multimodal.measures import MEASURES, confusion, over_seeds
from affect.report.multimodal.names import shown
from affect.report.multimodal.result import with_deviation
from affect.report.multimodal.study import Study
from affect.report.tables import NONE, grid, number

_FURTHER = ("macro F1", "emoval", "val", "CCC of valence", "calibration error")
LEGEND = (
    "Macro F1: the mean of the classes' F1, each as much as another. Emoval: f1 - 0.25 val. Calibration error: the "
    "expected one, 15 bins, of the softmax of the logits that are scored (for tests the mean of the folds'); 0 is best."
)


def scores(study: Study) -> str:
    """Return a line a part with the further scores, mean ± deviation over seeds."""
    rows = [
        [shown(part), *(with_deviation(*over_seeds(study.system(part), MEASURES[name])) for name in _FURTHER)]
        for part in study.parts
    ]
    return grid(["part", *_FURTHER], rows)


def classes(study: Study) -> str:
    """Return a line a class: F1 and recall on each part, means over seeds."""
    found = {part: by_class(study, part) for part in study.parts}
    rows = []
    for i, name in enumerate(study.classes):
        cells = [f"{number(f1[i])} ({number(recall[i])})" if _any(f1[i]) else NONE for f1, recall in found.values()]
        rows.append([name, *cells])
    return grid(["F1 (recall)", *(shown(part) for part in study.parts)], rows)


def by_class(study: Study, part: str) -> tuple[Floats, Floats]:
    """Return F1 [C] and recall [C] of the classes, means over what a seed's score is the mean of and over seeds.

    A class that no label and no prediction names is NaN.
    """
    tables = [[confusion(rows) for rows in units] for units in study.system(part).values()]
    if not tables:
        nothing = np.full(len(study.classes), math.nan)
        return nothing, nothing
    # Summed first: a fold may hold too few of a rare class for an F1 of its own.
    summed = [np.sum(seed, axis=0) for seed in tables]
    f1 = [_ratio(2 * np.diag(t), t.sum(0) + t.sum(1)) for t in summed]
    recall = [_ratio(np.diag(t), t.sum(1)) for t in summed]
    return np.mean(f1, axis=0), np.mean(recall, axis=0)


def confused(study: Study, part: str) -> Counts:
    """Return the confusion matrix [C, C] of a part, all seeds together: rows are labels."""
    size = len(study.classes)
    tables = [confusion(rows) for units in study.system(part).values() for rows in units]
    total: Counts = np.sum([np.zeros((size, size), np.int64), *tables], axis=0)
    return total


def confusions(study: Study) -> list[str]:
    """Return a subheading and a table for each part: labels by predictions, with the recall of each class."""
    seeds = len(study.seeds)
    several = f", the {seeds} seeds together" if seeds > 1 else ""
    parts: list[str] = []
    for part in study.parts:
        counts = confused(study, part)
        if counts.sum():
            parts += [f"Confusion on {shown(part)}{several} (rows: labels, columns: predictions).",
                      _table(counts, study.classes)]  # fmt: skip
    return parts


def _table(counts: Counts, names: Sequence[str]) -> str:
    rows = []
    for i, name in enumerate(names):
        total = int(counts[i].sum())
        recall = counts[i, i] / total if total else math.nan
        rows.append([name, *map(str, counts[i]), str(total), number(float(recall))])
    return grid(["label", *names, "n", "recall"], rows)


def _ratio(part: Counts, whole: Counts) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _any(value: float) -> bool:
    return not math.isnan(value)
