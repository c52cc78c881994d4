"""Scores of predicted emotions, and of emotions and valence together, as MER2023 ranks them.

Legend: N examples, C classes, n resamples. Classes are names, as in `classification` (which says what a missing label
is), or places 0 to C - 1, where a negative target is a missing label. A score of no example is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from affect.metrics import classification, regression
from affect.metrics.bootstrap import draws, grouped
from affect.metrics.regression import Floats

PENALTY = 0.25
"""What a unit of squared error of valence costs in emoval (Lian et al. 2023, MER 2023)."""


def weighted_f1(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean F1 of the classes, weighed by how many labels each has, of names [N].

    A class that is predicted and never labelled weighs nothing. Raises ValueError for unequal shapes or a labelled
    example without a prediction.
    """
    _, table = _table(prediction, target)
    return float(weighted_f1_counts(table))


def class_f1(prediction: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Return F1 by class, of those that occur in the labels or in the predictions of labelled examples.

    Raises ValueError as `weighted_f1` does.
    """
    names, table = _table(prediction, target)
    scores = _f1(np.diag(table), table.sum(1), table.sum(0))
    return dict(zip(names, scores.tolist(), strict=True))


def weighted_f1_counts(confusion: ArrayLike) -> Floats:
    """Return weighted F1 [..] of confusion matrices [.., C, C], whose rows are labels and whose columns predictions.

    Raises ValueError where the last two axes differ.
    """
    table = np.asarray(confusion, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2]:
        raise ValueError(f"a confusion matrix is [.., C, C], not {table.shape}")
    return _weighted(np.diagonal(table, axis1=-2, axis2=-1), table.sum(-1), table.sum(-2))


def replicates_weighted_f1(
    prediction: ArrayLike,
    target: ArrayLike,
    classes: int,
    n: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> Floats:
    """Return the weighted F1 of n resamples [.., n] of `prediction` [.., N] and `target` [N], places below `classes`.

    Examples are drawn, or with `groups` [N] all examples of a group together, as `bootstrap.draws` draws them: the
    same N (or groups), n and seed give the same resamples, so those of two systems are paired. An example without a
    label takes part in the drawing. A resample without a label is NaN. Raises ValueError for unequal lengths, fewer
    than two examples or groups, and places that are none of a class.
    """
    x, y = np.asarray(prediction), np.asarray(target)
    if y.ndim != 1 or not x.ndim or x.shape[-1] != len(y):
        raise ValueError(f"prediction must be [.., N] and target [N], not {x.shape} and {y.shape}")
    size, group = grouped(np.arange(len(y)) if groups is None else groups, y)
    known = y >= 0
    x, y, group = x[..., known], y[known], group[known]
    for name, values in (("prediction", x), ("target", y)):
        if not np.issubdtype(values.dtype, np.integer) or ((values < 0) | (values >= classes)).any():
            raise ValueError(f"every {name} of a labelled example must be an integer from 0 to {classes - 1}")
    counts = draws(size, n, seed).astype(np.float64)
    everything = np.ones(y.shape)
    labelled = counts @ _cells(group, y, everything, size, classes)
    scores = np.empty((*x.shape[:-1], n))
    for place in np.ndindex(x.shape[:-1]):
        predicted = counts @ _cells(group, x[place], everything, size, classes)
        right = counts @ _cells(group, y, (x[place] == y).astype(np.float64), size, classes)
        scores[place] = _weighted(right, labelled, predicted)
    return scores


def mse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean squared error of `prediction` [N] and `target` [N] (NaN: missing), in the labels' unit squared.

    NaN where no label is known. Raises ValueError for unequal shapes or non-finite predictions.
    """
    x, y = regression.valid(prediction, target)
    return float(np.mean((x - y) ** 2)) if x.size else float("nan")


def emoval(prediction: ArrayLike, target: ArrayLike, valence: ArrayLike, valence_target: ArrayLike) -> float:
    """Return weighted F1 of emotions [N] - 0.25 * MSE of valences [N], MER2023's ranking score (Lian et al. 2023).

    NaN where no emotion or no valence is known. Raises ValueError as `weighted_f1` and `mse` do.
    """
    return emoval_of(weighted_f1(prediction, target), mse(valence, valence_target))


def emoval_of(f1: float, mse: float) -> float:
    """Return emoval of a weighted F1 and a mean squared error of valence; NaN where either is."""
    return f1 - PENALTY * mse


def softmax(logits: ArrayLike) -> Floats:
    """Return the probabilities [.., C] of `logits` [.., C], in float64."""
    probabilities: Floats = scipy.special.softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return probabilities


def _table(prediction: ArrayLike, target: ArrayLike) -> tuple[list[str], classification.Counts]:
    """Return the classes that occur, in order, and their confusion matrix."""
    x, y = classification.valid(prediction, target)
    names = [str(name) for name in np.union1d(x, y)]
    return names, classification.confusion(x, y, names)


def _cells(group: NDArray[np.intp], place: NDArray[Any], weight: Floats, size: int, classes: int) -> Floats:
    """Return the sum of weights by group and class [G, C]."""
    sums: Floats = np.bincount(group * classes + place, weight, minlength=size * classes).astype(np.float64)
    return sums.reshape(size, classes)


def _f1(right: NDArray[Any], labelled: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    """Return F1 by class: 2 right / (labelled + predicted), 0 for a class that does not occur."""
    both = labelled + predicted
    return np.where(both > 0, 2.0 * right / np.where(both > 0, both, 1.0), 0.0)


def _weighted(right: NDArray[Any], labelled: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    """Return the mean F1 [..] over classes [.., C], weighed by their labels; NaN without any label."""
    total = labelled.sum(-1)
    score = (_f1(right, labelled, predicted) * labelled).sum(-1)
    return np.where(total > 0, score / np.where(total > 0, total, 1.0), np.nan)
