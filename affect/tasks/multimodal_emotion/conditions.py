"""What the best weights make of fewer modalities and of noise, as arrays for conditions.npz.

Legend: N utterances of a part, C conditions, E classes, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from affect.data.conditions import MODALITIES, NAMES, parse
from affect.task import Predict, Row
from affect.tasks.multimodal_emotion.scores import VALENCE

Masks = Callable[[NDArray[np.intp], str], NDArray[np.bool_]]
"""What of the examples at places [N] is there under a condition: [N, M]."""


def examine(parts: Mapping[str, Dataset], predict: Predict, masks: Masks) -> dict[str, NDArray[Any]]:
    """Return the conditions' names, and by part ids, logits [C, N, E], valence [C, N], attention [C, N, M], masks."""
    arrays: dict[str, NDArray[Any]] = {"conditions": np.array(NAMES)}
    for name, part in parts.items():
        # Rows are bulky: each condition's are numbers before the next is predicted.
        found = [_numbers(predict(part, condition)) for condition in NAMES]
        arrays[f"{name}/ids"] = np.array(part["id"][:])
        for key in found[0]:
            arrays[f"{name}/{key}"] = np.stack([numbers[key] for numbers in found])
        places = np.asarray(part["row"][:], dtype=np.intp)
        for condition in NAMES:
            if parse(condition).drops:
                arrays[f"{name}/masks/{condition}"] = masks(places, condition)
    return arrays


def _numbers(rows: list[Row]) -> dict[str, NDArray[np.float32]]:
    """Return the logits [N, E], valence [N] and attention [N, M] (where there is one) of rows."""
    found = {
        "logits": np.array([row["logits"] for row in rows], np.float32),
        "valence": np.array([row["prediction"][VALENCE] for row in rows], np.float32),
    }
    if "attention" in rows[0]:
        # What the model does not take has no weight in it.
        weights = [[row["attention"].get(name, 0.0) for name in MODALITIES.values()] for row in rows]
        found["attention"] = np.array(weights, np.float32)
    return found
