"""Rows of predictions and their scores.

Legend: B examples of a micro-batch, C classes, S streams, M modalities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affect.metrics import classification, emotion, regression
from affect.task import Batch, Outputs, Row

EMOTION, VALENCE = "emotion", "valence"
LETTERS = "ATV"
_SUBSETS = ["".join(letter for k, letter in enumerate(LETTERS) if code >> k & 1) for code in range(1 << len(LETTERS))]
"""The letters of the modalities that are there, by a bit each."""


def rows_of(outputs: Outputs, batch: Batch, classes: Sequence[str], modalities: Sequence[str]) -> list[Row]:
    """Return a row an example; `modalities` are those of the model's streams, whose attention is summed up."""
    logits = outputs[EMOTION].float().cpu().numpy()
    valence = outputs[VALENCE].float().cpu().numpy()
    shares = emotion.softmax(logits)
    attention = _by_modality(outputs["attention"].float().cpu().numpy(), modalities) if "attention" in outputs else {}
    there = (batch.targets["present"].cpu().numpy() > 0) @ (1 << np.arange(len(LETTERS)))
    best = logits.argmax(1).tolist()
    # As lists at once: number by number takes several times as long.
    columns = zip(batch.ids, batch.rows, best, valence.tolist(), shares.tolist(), logits.tolist(), there.tolist(),
                  strict=True)  # fmt: skip
    found: list[Row] = [
        {
            "id": name,
            "prediction": {EMOTION: classes[top], VALENCE: number},
            "target": {EMOTION: known[EMOTION], VALENCE: known[VALENCE]},
            "probability": {EMOTION: dict(zip(classes, share, strict=True))},
            "logits": logit,
            "present": _SUBSETS[code],
        }
        for name, known, top, number, share, logit, code in columns
    ]
    for name, weights in attention.items():
        for row, weight in zip(found, weights.tolist(), strict=True):
            row.setdefault("attention", {})[name] = weight
    return found


def _by_modality(attention: NDArray[np.float32], modalities: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Return the weight of each modality [B], the sum over its streams."""
    return {
        name: attention[:, [s for s, other in enumerate(modalities) if other == name]].sum(1)
        for name in dict.fromkeys(modalities)
    }


def metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Return weighted F1, accuracy, macro F1, the MSE and CCC of valence, and emoval, which chooses the epoch.

    A score without a label is NaN.
    """
    predicted = [row["prediction"][EMOTION] for row in rows]
    labelled = [row["target"][EMOTION] for row in rows]
    x = np.array([row["prediction"][VALENCE] for row in rows], np.float64)
    y = np.array([row["target"][VALENCE] for row in rows], np.float64)
    known = np.isfinite(y)
    f1 = emotion.weighted_f1(predicted, labelled)
    mse = float(np.mean(np.square(x[known] - y[known]))) if known.any() else math.nan
    return {
        "f1": f1,
        "acc": classification.weighted_accuracy(predicted, labelled),
        "mse": mse,
        "emoval": emotion.emoval_of(f1, mse) if known.any() else math.nan,
        "macro_f1": classification.macro_f1(predicted, labelled),
        "ccc_valence": regression.ccc(x[known], y[known]) if known.sum() > 1 else math.nan,
    }
