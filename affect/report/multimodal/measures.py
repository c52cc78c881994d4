"""Scores of rows: the report's f1, acc and val, and those that say more.

Every one of them is NaN where nothing is labelled, and where a labelled utterance has no prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from affect.metrics import calibration, emotion, regression
from affect.metrics.classification import Counts
from affect.report.multimodal.rows import Rows
from affect.report.scores import spread

Measure = Callable[[Rows], float]
System = Mapping[int, Sequence[Rows]]
"""By seed what its score is the mean of: the folds' validation parts, or one test part that the folds voted on."""


def f1(rows: Rows) -> float:
    """Return weighted F1."""
    return float(emotion.weighted_f1_counts(confusion(rows))) if _complete(rows) else math.nan


def acc(rows: Rows) -> float:
    """Return the share of utterances whose class is right."""
    table = confusion(rows)
    return float(np.trace(table) / table.sum()) if _complete(rows) and table.sum() else math.nan


def val(rows: Rows) -> float:
    """Return the mean squared error of valence."""
    return emotion.mse(rows.valence, rows.rated) if _finite(rows) else math.nan


def macro_f1(rows: Rows) -> float:
    """Return the mean F1 of the classes that occur in labels or predictions."""
    table = confusion(rows)
    either = table.sum(0) + table.sum(1)
    occurs = either > 0
    if not _complete(rows) or not occurs.any():
        return math.nan
    return float(np.mean(2 * np.diag(table)[occurs] / either[occurs]))


def ccc(rows: Rows) -> float:
    """Return the concordance correlation coefficient of valence."""
    return regression.ccc(rows.valence, rows.rated) if _finite(rows) and _rated(rows) else math.nan


def emoval(rows: Rows) -> float:
    """Return weighted F1 - 0.25 * MSE of valence, by which epochs are chosen."""
    return emotion.emoval_of(f1(rows), val(rows))


def ece(rows: Rows) -> float:
    """Return the expected calibration error of the softmax of the logits (15 bins)."""
    known = rows.label >= 0
    if not _complete(rows) or not known.any():
        return math.nan
    return calibration.expected_calibration_error(emotion.softmax(rows.logits[known]), rows.label[known])


MEASURES: dict[str, Measure] = {
    "f1": f1, "acc": acc, "val": val, "macro F1": macro_f1, "CCC of valence": ccc, "emoval": emoval,
    "calibration error": ece,
}  # fmt: skip


def by_seed(system: System, measure: Measure) -> dict[int, float]:
    """Return a score of each seed: the mean over what it is the mean of, NaN where one of them is unknown."""
    return {
        seed: float(np.mean([measure(rows) for rows in units])) for seed, units in sorted(system.items()) if len(units)
    }


def over_seeds(system: System, measure: Measure) -> tuple[float, float]:
    """Return mean and deviation (of a sample; NaN of one seed) of a score over seeds."""
    return spread(by_seed(system, measure).values())


def confusion(rows: Rows) -> Counts:
    """Return how often each class was taken for each [C, C]: rows are labels, columns predictions."""
    size = rows.logits.shape[1]
    known = (rows.label >= 0) & (rows.emotion >= 0)
    cells = rows.label[known] * size + rows.emotion[known]
    return np.bincount(cells, minlength=size * size).reshape(size, size).astype(np.int64)


def _complete(rows: Rows) -> bool:
    return not ((rows.label >= 0) & (rows.emotion < 0)).any()


def _rated(rows: Rows) -> bool:
    return bool(np.isfinite(rows.rated).any())


def _finite(rows: Rows) -> bool:
    # What isn't rated is not looked at, but a model that gives NaN anywhere is broken.
    return bool(np.isfinite(rows.valence).all())
