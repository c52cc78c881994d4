"""The measures of MER2023: weighted F1, accuracy, squared error of valence, and emoval, which chooses the epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from affect.metrics import calibration, measures
from affect.task import Measure, Row

EMOTION, VALENCE = "emotion", "valence"


def _emoval(values: Sequence[float]) -> float:
    """Return emoval of weighted F1 and squared error (numbers, or resamples [n] of both; Lian et al. 2023)."""
    f1, mse = values
    return f1 - 0.25 * mse


def _calibration(rows: Sequence[Row]) -> float:
    """Return the expected calibration error (15 bins) of the probabilities of labelled rows; NaN without any."""
    labelled = [row for row in rows if isinstance(row["target"].get(EMOTION), str) and "probability" in row]
    if not labelled:
        return math.nan
    classes = list(labelled[0]["probability"][EMOTION])
    shares = np.array([list(row["probability"][EMOTION].values()) for row in labelled], np.float64)
    if not np.isfinite(shares).all():
        return math.nan
    place = {name: k for k, name in enumerate(classes)}
    labels = np.array([place.get(row["target"][EMOTION], -1) for row in labelled], np.int64)
    known = labels >= 0
    return calibration.expected_calibration_error(shares[known], labels[known]) if known.any() else math.nan


F1 = measures.weighted_f1(EMOTION, "f1")
ACCURACY = measures.accuracy(EMOTION, "acc")
SQUARED_ERROR = replace(measures.mse(VALENCE, "mse", "val"), aliases=("val",))
EMOVAL = measures.combined("emoval", (F1, SQUARED_ERROR), _emoval, headline=False)
MEASURES = (
    EMOVAL,
    F1,
    ACCURACY,
    SQUARED_ERROR,
    measures.macro_f1(EMOTION, "macro_f1", "macro F1"),
    replace(measures.ccc(VALENCE, "CCC of valence"), headline=False),
    Measure(name="ece", title="calibration error", score=_calibration, better="lower", chance=None, headline=False),
)
