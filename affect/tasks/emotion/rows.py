"""Rows of predictions on the corpus's own scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect.task import Batch, Outputs, Row
from affect.tasks.emotion.config import EMOTION


def rows_of(
    outputs: Outputs, batch: Batch, targets: Sequence[str], classes: Sequence[str], scale: tuple[float, float]
) -> list[Row]:
    """Return a row an utterance: id, prediction and label of each target, probabilities of classes, group keys."""
    low, high = scale
    numbers = [name for name in targets if name != EMOTION]
    raw = {name: (outputs[name].double() * (high - low) + low).tolist() for name in numbers}
    rows: list[Row] = []
    shares = outputs[EMOTION].double().softmax(-1).tolist() if EMOTION in targets else []
    for k, name in enumerate(batch.ids):
        labels = {key: value for key, value in batch.rows[k].items() if key in targets}
        keys = {key: value for key, value in batch.rows[k].items() if key not in targets}
        predicted: dict[str, object] = {target: raw[target][k] for target in numbers}
        row: Row = {"id": name, "prediction": predicted, "target": {t: labels[t] for t in targets}, **keys}
        if shares:
            predicted[EMOTION] = classes[int(np.argmax(shares[k]))] if np.isfinite(shares[k]).all() else None
            row["probability"] = {EMOTION: dict(zip(classes, shares[k], strict=True))}
        rows.append(row)
    return rows
