"""Scores of predicted against rated values, in float64, on the raw scale of the labels.

Legend: N examples. A NaN target is a missing label and is left out; a prediction that is NaN or infinite is
a fault of the model and raises ValueError. With fewer than two labelled examples, or where all labels are the
same, a correlation (CCC, Pearson) or R2 is not defined, and NaN: 0.0 would read as a bad one. Constant predictions of
labels that differ have a CCC of 0.0, as Lin's formula says, and no Pearson. An error (MSE, RMSE, MAE) of no example is
NaN, as 0.0 would read as perfect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def ccc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the concordance correlation coefficient of `prediction` [N] and `target` [N], in [-1, 1].

    2 cov / (var + var + (mean - mean)^2) with population moments (Lin 1989, Biometrics 45). Unchanged when
    both sides get the same affine map. Raises ValueError for unequal shapes or non-finite predictions.
    """
    x, y = valid(prediction, target)
    if _flat(y):
        return float("nan")
    if _flat(x):
        return 0.0
    # Dividing both sides by one number changes nothing, and keeps the squares from vanishing or overflowing.
    gap = x.mean() - y.mean()
    unit = max(np.ptp(x), np.ptp(y), abs(gap))
    x, y, gap = (x - x.mean()) / unit, (y - y.mean()) / unit, gap / unit
    score = 2 * np.mean(x * y) / (np.mean(x * x) + np.mean(y * y) + gap**2)
    return float(np.clip(score, -1.0, 1.0))


def pearson(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return Pearson's correlation of `prediction` [N] and `target` [N]; raises as `ccc` does."""
    x, y = valid(prediction, target)
    if _flat(x) or _flat(y):
        return float("nan")
    x, y = (x - x.mean()) / np.ptp(x), (y - y.mean()) / np.ptp(y)
    score = np.mean(x * y) / np.sqrt(np.mean(x * x) * np.mean(y * y))
    return float(np.clip(score, -1.0, 1.0))


def rmse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the root mean squared error in the labels' unit; raises as `ccc` does."""
    return float(np.sqrt(mse(prediction, target)))


def mse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean squared error in the labels' unit squared; raises as `ccc` does."""
    x, y = valid(prediction, target)
    return float(np.mean((x - y) ** 2)) if x.size else float("nan")


def mae(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean absolute error in the labels' unit; raises as `ccc` does."""
    x, y = valid(prediction, target)
    return float(np.mean(np.abs(x - y))) if x.size else float("nan")


def r2(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the share of the labels' variance that is explained (at most 1, negative where worse than their mean).

    Raises as `ccc` does.
    """
    x, y = valid(prediction, target)
    return float("nan") if _flat(y) else float(1.0 - np.mean((x - y) ** 2) / np.var(y))


def valid(prediction: ArrayLike, target: ArrayLike) -> tuple[Floats, Floats]:
    """Return the labelled pairs as two float64 arrays [M <= N].

    Raises ValueError for unequal shapes, predictions that are not finite, or infinite targets.
    """
    x = np.asarray(prediction, dtype=np.float64)
    y = np.asarray(target, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"prediction and target must be two [N] arrays, not {x.shape} and {y.shape}")
    for name, wrong in (("predictions", ~np.isfinite(x)), ("targets", np.isinf(y))):
        if wrong.any():
            raise ValueError(f"{wrong.sum()} of {wrong.size} {name} are not finite, the first at {wrong.argmax()}")
    labelled = ~np.isnan(y)
    return x[labelled], y[labelled]


def _flat(x: Floats) -> bool:
    # Exact: the variance of a constant is seldom exactly 0 in floating point.
    return x.size < 2 or bool(np.ptp(x) == 0)
