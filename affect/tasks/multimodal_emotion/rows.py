"""Rows of predictions: emotion, valence, logits, attention by modality and what was there.

Legend: B examples of a micro-batch, S streams, M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affect.metrics.classification import softmax
from affect.task import Batch, Outputs, Row
from affect.tasks.multimodal_emotion.measures import EMOTION, VALENCE

LETTERS = "ATV"
_SUBSETS = ["".join(letter for k, letter in enumerate(LETTERS) if code >> k & 1) for code in range(1 << len(LETTERS))]
"""The letters of the modalities that are there, by a bit each."""


def rows_of(outputs: Outputs, batch: Batch, classes: Sequence[str], modalities: Sequence[str]) -> list[Row]:
    """Return a row an example; `modalities` are those of the model's streams, whose attention is summed up."""
    logits = outputs[EMOTION].float().cpu().numpy()
    valence = outputs[VALENCE].float().cpu().numpy()
    shares = softmax(logits)
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
