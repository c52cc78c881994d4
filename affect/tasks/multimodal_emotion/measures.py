"""Rows of predictions and the measures of MER2023: weighted F1, accuracy, squared error of valence, and emoval.

Legend: B examples of a micro-batch, S streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from affect.data.conditions import MODALITIES
from affect.metrics import calibration, measures
from affect.metrics.classification import softmax
from affect.task import Batch, Measure, Outputs, Row

EMOTION, VALENCE = "emotion", "valence"
_SUBSETS = ["".join(letter for k, letter in enumerate(MODALITIES) if code >> k & 1) for code in range(8)]
"""The letters of the modalities that are there, by a bit each."""


def rows_of(outputs: Outputs, batch: Batch, classes: Sequence[str], modalities: Sequence[str]) -> list[Row]:
    """Return a row an example: emotion, valence, logits, attention by modality and what was there.

    `modalities` are those of the model's streams, whose attention is summed up.
    """
    logits = outputs[EMOTION].float().cpu().numpy()
    there = (batch.targets["present"].cpu().numpy() > 0) @ (1 << np.arange(len(MODALITIES)))
    # As lists at once: number by number takes several times as long.
    columns = zip(batch.ids, batch.rows, logits.argmax(1).tolist(), outputs[VALENCE].float().tolist(),
                  softmax(logits).tolist(), logits.tolist(), there.tolist(), strict=True)  # fmt: skip
    rows: list[Row] = [{
        "id": name, "prediction": {EMOTION: classes[best], VALENCE: valence},
        "target": {EMOTION: labels[EMOTION], VALENCE: labels[VALENCE]},
        "probability": {EMOTION: dict(zip(classes, shares, strict=True))}, "logits": logit, "present": _SUBSETS[code],
    } for name, labels, best, valence, shares, logit, code in columns]  # fmt: skip
    if "attention" in outputs:
        attention = outputs["attention"].float().cpu().numpy()
        for modality in dict.fromkeys(modalities):
            weights = attention[:, [s for s, other in enumerate(modalities) if other == modality]].sum(1)
            for row, weight in zip(rows, weights.tolist(), strict=True):
                row.setdefault("attention", {})[modality] = weight
    return rows


def _calibration(rows: Sequence[Row]) -> float:
    """Return the expected calibration error (15 bins) of the probabilities of labelled rows; NaN without any."""
    labelled = [row for row in rows if isinstance(row["target"].get(EMOTION), str) and "probability" in row]
    if not labelled:
        return math.nan
    shares = np.array([list(row["probability"][EMOTION].values()) for row in labelled], np.float64)
    place = {name: k for k, name in enumerate(labelled[0]["probability"][EMOTION])}
    labels = np.array([place.get(row["target"][EMOTION], -1) for row in labelled], np.int64)
    mask = labels >= 0
    if not mask.any() or not np.isfinite(shares).all():
        return math.nan
    return calibration.expected_calibration_error(shares[mask], labels[mask])


F1 = measures.weighted_f1(EMOTION, "f1")
ACCURACY = measures.accuracy(EMOTION, "acc")
SQUARED_ERROR = replace(measures.mse(VALENCE, "mse", "val"), aliases=("val",))
EMOVAL = measures.combined("emoval", (F1, SQUARED_ERROR), lambda values: values[0] - 0.25 * values[1], headline=False)
"""Of numbers, or of resamples [n] (Lian et al. 2023)."""
MEASURES = (
    EMOVAL,
    F1,
    ACCURACY,
    SQUARED_ERROR,
    measures.macro_f1(EMOTION, "macro_f1", "macro F1"),
    replace(measures.ccc(VALENCE, "CCC of valence"), headline=False),
    Measure(name="ece", title="calibration error", score=_calibration, better="lower", chance=None, headline=False),
)
