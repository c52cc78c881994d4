"""Calibration: whether a predicted class is right as often as its probability says.

Legend: N examples, C classes, M bins of equal width over [0, 1]; a confidence is the greatest probability of a row,
and falls into the bin whose bounds are low < confidence <= high. Source: Guo et al. 2017, On calibration of modern
neural networks (ICML). A negative target is a missing label and is left out; a score of no example is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affect.metrics.regression import Floats

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Mean confidence and accuracy by bin [M], NaN in an empty one; `count` [M] examples, `edges` [M + 1]."""

    edges: Floats
    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def gaps(self) -> Floats:
        """The distance of accuracy and confidence by bin [M], 0 in an empty one."""
        return np.where(self.count > 0, np.abs(self.accuracy - self.confidence), 0.0)


def reliability(probability: ArrayLike, target: ArrayLike, bins: int = BINS) -> Reliability:
    """Return the reliability table of `probability` [N, C] against places of classes `target` [N].

    Raises ValueError for unequal lengths, rows that are no probabilities, a target beyond C - 1 and no bins.
    """
    rows, labels = _valid(probability, target)
    if bins < 1:
        raise ValueError(f"a reliability table needs at least one bin, not {bins}")
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Rounding may leave a probability a little above 1.
    confidence = np.minimum(rows.max(1, initial=0.0), 1.0)
    # A confidence is at least 1 / C, so never 0, which lies in no half-open bin.
    place = np.searchsorted(edges, confidence, side="left") - 1
    count = np.bincount(place, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    right = (rows.argmax(1) == labels).astype(np.float64)
    return Reliability(
        edges=edges,
        count=count.astype(np.int64),
        confidence=np.bincount(place, confidence, minlength=bins) / filled,
        accuracy=np.bincount(place, right, minlength=bins) / filled,
    )


def expected_calibration_error(probability: ArrayLike, target: ArrayLike, bins: int = BINS) -> float:
    """Return the mean over examples of their bin's gap between accuracy and confidence, in [0, 1] (ECE).

    Raises ValueError as `reliability` does.
    """
    table = reliability(probability, target, bins)
    total = int(table.count.sum())
    return float((table.gaps * table.count).sum() / total) if total else float("nan")


def maximum_calibration_error(probability: ArrayLike, target: ArrayLike, bins: int = BINS) -> float:
    """Return the greatest gap between accuracy and confidence of a bin that holds an example, in [0, 1] (MCE).

    Raises ValueError as `reliability` does.
    """
    table = reliability(probability, target, bins)
    return float(table.gaps.max()) if table.count.any() else float("nan")


def _valid(probability: ArrayLike, target: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Return the labelled rows [M, C] and their labels [M]."""
    rows, labels = np.asarray(probability, dtype=np.float64), np.asarray(target)
    if rows.ndim != 2 or not rows.shape[1] or labels.shape != rows.shape[:1]:
        raise ValueError(f"probability must be [N, C] and target [N], not {rows.shape} and {labels.shape}")
    if labels.size and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"a target must be the place of a class, not {labels.dtype}")
    labels = labels.astype(np.int64)
    known = labels >= 0
    rows, labels = rows[known], labels[known]
    # Written so that NaN fails: 1e-3 is what half-precision probabilities may be off.
    wrong = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) <= 1e-3))
    if wrong.any():
        raise ValueError(f"{int(wrong.sum())} of {wrong.size} rows are no probabilities, the first at {wrong.argmax()}")
    if (labels >= rows.shape[1]).any():
        raise ValueError(f"target {labels.max()} is none of {rows.shape[1]} classes")
    return rows, labels
