"""Calibration: whether a predicted class is right as often as its probability says.

Source: Guo et al. 2017, On calibration of modern neural networks (ICML). Legend: N examples, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(probability: ArrayLike, target: ArrayLike, bins: int = 15) -> float:
    """Return the mean over examples of their bin's gap between accuracy and confidence, in [0, 1] (ECE).

    A confidence is the greatest of a row of `probability` [N, C], and falls into the bin of equal width whose bounds
    are low < confidence <= high. A negative place of a class in `target` [N] is a missing label and is left out; NaN
    without any label. Raises ValueError for unequal lengths and for rows that are no probabilities.
    """
    rows, labels = np.asarray(probability, dtype=np.float64), np.asarray(target)
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(f"probability must be [N, C] and target [N], not {rows.shape} and {labels.shape}")
    rows, labels = rows[labels >= 0], labels[labels >= 0]
    # Written so that NaN fails: 1e-3 is what half-precision probabilities may be off.
    wrong = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) <= 1e-3))
    if wrong.any():
        raise ValueError(f"{wrong.sum()} of {wrong.size} rows are no probabilities, the first at {wrong.argmax()}")
    if not labels.size:
        return float("nan")
    # Rounding may leave a probability a little above 1. It is at least 1 / C, so never 0, which lies in no bin.
    confidence = np.minimum(rows.max(1), 1.0)
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1), confidence, side="left") - 1
    right = (rows.argmax(1) == labels).astype(np.float64)
    count, sure, correct = (np.bincount(place, weight, minlength=bins) for weight in (None, confidence, right))
    gaps = np.abs(correct / np.maximum(count, 1) - sure / np.maximum(count, 1))
    return float((gaps * count).sum() / len(labels))
