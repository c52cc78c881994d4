"""Rows of predictions, and their measures: those of MER2023 (weighted F1, squared error of valence, emoval), others.

Legend: B examples of a micro-batch, S streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from affect.data.conditions import MODALITIES
from affect.metrics import calibration, measures
from affect.metrics.classification import softmax
from affect.task import Batch, Measure, Outputs, Row

EMOTION, VALENCE = "emotion", "valence"
_SUBSETS = ["".join(letter for k, letter in enumerate(MODALITIES) if code >> k & 1) for code in range(8)]
"""The letters of the modalities that are there, by a bit each."""


def rows_of(outputs: Outputs, batch: Batch, classes: Sequence[str], modalities: Sequence[str]) -> list[Row]:
    """Return a row an example: emotion and logits, valence, those that the model has, attention and what was there.

    `modalities` are those of the model's streams, whose attention is summed up.
    """
    there = (batch.targets["present"].cpu().numpy() > 0) @ (1 << np.arange(len(MODALITIES)))
    # As lists at once: number by number takes several times as long.
    predicted: dict[str, list[Any]] = {}
    if EMOTION in outputs:
        logits = outputs[EMOTION].float().cpu().numpy()
        predicted[EMOTION] = [classes[best] for best in logits.argmax(1).tolist()]
    if VALENCE in outputs:
        predicted[VALENCE] = outputs[VALENCE].float().tolist()
    rows: list[Row] = [
        {"id": name, "prediction": dict(zip(predicted, values, strict=True)), "target": {t: row[t] for t in predicted}}
        for name, row, *values in zip(batch.ids, batch.rows, *predicted.values(), strict=True)
    ]
    if EMOTION in outputs:
        for row, shares, logit in zip(rows, softmax(logits).tolist(), logits.tolist(), strict=True):
            row |= {"probability": {EMOTION: dict(zip(classes, shares, strict=True))}, "logits": logit}
    for row, code, facts in zip(rows, there.tolist(), batch.rows, strict=True):
        row["present"] = _SUBSETS[code]
        row |= groups_of(facts)
    if "attention" in outputs:
        attention = outputs["attention"].float().cpu().numpy()
        for modality in dict.fromkeys(modalities):
            weights = attention[:, [s for s, other in enumerate(modalities) if other == modality]].sum(1)
            for row, weight in zip(rows, weights.tolist(), strict=True):
                row.setdefault("attention", {})[modality] = weight
    return rows


def groups_of(row: Row) -> Row:
    """Return whose utterance it is, as far as the row says it."""
    return {name: value for name, value in row.items() if name not in (EMOTION, VALENCE)}


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
MACRO_F1 = measures.macro_f1(EMOTION, "macro_f1", "macro F1")
CCC = measures.ccc(VALENCE, "CCC of valence")
CALIBRATION = Measure(
    name="ece", title="calibration error", score=_calibration, better="lower", chance=None, headline=False
)
MEASURES = (EMOVAL, F1, ACCURACY, SQUARED_ERROR, MACRO_F1, replace(CCC, headline=False), CALIBRATION)


def measures_of(targets: Sequence[str], own_scale: bool) -> Sequence[Measure]:
    """Return the measures of these targets; the first one chooses.

    That is emoval of both, or, where valence may be on any scale (`own_scale`), the mean of weighted F1 and CCC;
    weighted F1 of classes alone; CCC of valence alone.
    """
    of_classes, of_numbers = EMOTION in targets, VALENCE in targets
    if of_classes and of_numbers and not own_scale:
        return MEASURES
    numbers = (CCC, measures.mae(VALENCE), measures.pearson(VALENCE), measures.rmse(VALENCE)) if of_numbers else ()
    if not of_classes:
        return numbers
    first = (measures.mean("mean", [F1, CCC], "mean of f1 and CCC"),) if of_numbers else ()
    return (*first, F1, ACCURACY, *numbers, MACRO_F1, CALIBRATION)
