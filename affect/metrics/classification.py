"""Scores of predicted against rated classes.

Legend: N examples, C classes, n resamples, G groups. A target that is None, NaN or an empty name is a missing label
and is left out; a missing prediction of a labelled example is a fault of the model and raises ValueError. A score of
no example is NaN: 0.0 would read as a bad one, 1.0 as a perfect one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affect.metrics.bootstrap import draws, grouped
from affect.metrics.regression import Floats

Names = NDArray[np.str_]
Counts = NDArray[np.int64]


def weighted_accuracy(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the share of examples whose class is right (WA: each class weighs as many examples as it has).

    Raises ValueError for unequal shapes or a labelled example without a prediction.
    """
    x, y = valid(prediction, target)
    return float(np.mean(x == y)) if y.size else float("nan")


def unweighted_accuracy(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean recall of the classes that occur in the labels (UA); raises as `weighted_accuracy` does."""
    x, y = valid(prediction, target)
    return float(np.mean([np.mean(x[y == name] == name) for name in np.unique(y)])) if y.size else float("nan")


def macro_f1(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean F1 of the classes that occur in the labels or in the predictions of labelled examples.

    A class that is predicted but never right counts 0, in scikit-learn's default way; raises as `weighted_accuracy`.
    """
    x, y = valid(prediction, target)
    if not y.size:
        return float("nan")
    table = confusion(x, y, np.union1d(x, y).tolist())
    # 2 right / (labelled + predicted): each class occurs in one of them.
    return float(np.mean(2 * np.diag(table) / (table.sum(0) + table.sum(1))))


def weighted_f1(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the mean F1 of the classes, weighed by how many labels each has; raises as `weighted_accuracy` does.

    A class that is predicted and never labelled weighs nothing.
    """
    x, y = valid(prediction, target)
    table = confusion(x, y, np.union1d(x, y).tolist())
    return float(_weighted_f1(np.diag(table), table.sum(1), table.sum(0)))


def confusion(prediction: ArrayLike, target: ArrayLike, labels: Sequence[str]) -> Counts:
    """Return how often each class was taken for each [C, C]: rows are labels, columns predictions, as `labels` orders.

    Raises ValueError as `weighted_accuracy` does, and for a class that `labels` does not name.
    """
    x, y = valid(prediction, target)
    place = {name: index for index, name in enumerate(labels)}
    unknown = sorted({str(name) for name in np.union1d(x, y)} - set(place))
    if unknown:
        raise ValueError(f"labels must name every class; {', '.join(unknown)} is none of {', '.join(labels)}")
    table = np.zeros((len(labels), len(labels)), np.int64)
    for true, predicted in zip(y, x, strict=True):
        table[place[str(true)], place[str(predicted)]] += 1
    return table


def replicates_ua(groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, n: int = 1000, seed: int = 0) -> Floats:
    """Return the unweighted accuracy of n resamples [n] over `groups` [N], drawn as `bootstrap.replicates` draws them.

    A class that a resample has no label of does not count in it; a resample without a label is NaN. Raises ValueError
    as `weighted_accuracy` does, for fewer than two groups and for unequal lengths.
    """
    x, y, index, counts = _resamples(groups, prediction, target, n, seed)
    classes = np.unique(y)
    labelled, right = _drawn(counts, index, y, classes), _drawn(counts, index[x == y], y[x == y], classes)
    occurs = labelled > 0
    recall = np.where(occurs, right / np.where(occurs, labelled, 1.0), 0.0)
    present = occurs.sum(1)
    return np.where(present > 0, recall.sum(1) / np.maximum(present, 1), np.nan)


def replicates_f1(groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, n: int = 1000, seed: int = 0) -> Floats:
    """Return the weighted F1 of n resamples [n], NaN of one without a label; drawn and raising as `replicates_ua`."""
    x, y, index, counts = _resamples(groups, prediction, target, n, seed)
    classes = np.union1d(x, y)
    right = _drawn(counts, index[x == y], y[x == y], classes)
    return _weighted_f1(right, _drawn(counts, index, y, classes), _drawn(counts, index, x, classes))


def softmax(logits: ArrayLike) -> Floats:
    """Return the probabilities [.., C] of `logits` [.., C], in float64."""
    # Loaded where it is needed: it takes half a second, which a run without classes need not wait for.
    from scipy.special import softmax

    probabilities: Floats = softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return probabilities


def valid(prediction: ArrayLike, target: ArrayLike) -> tuple[Names, Names]:
    """Return the labelled pairs as two arrays of names [M <= N].

    Raises ValueError for unequal shapes, or for labelled examples without a prediction.
    """
    x, y = _names(prediction), _names(target)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"prediction and target must be two [N] arrays, not {x.shape} and {y.shape}")
    labelled = _known(y)
    x, y = x[labelled], y[labelled]
    absent = ~_known(x)
    if absent.any():
        raise ValueError(f"{absent.sum()} of {absent.size} predictions are missing, the first at {absent.argmax()}")
    return x, y


def _resamples(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, n: int, seed: int
) -> tuple[Names, Names, NDArray[np.intp], Floats]:
    """Return the labelled pairs, the group of each, and how often each resample holds each group [n, G]."""
    size, index = grouped(groups, prediction, target)
    x, y = valid(prediction, target)
    return x, y, index[_known(_names(target))], draws(size, n, seed).astype(np.float64)


def _drawn(counts: Floats, index: NDArray[np.intp], names: Names, classes: Names) -> Floats:
    """Return how many of `names`, each in its group of `index`, are of each class in each resample [n, C]."""
    cell = index * len(classes) + np.searchsorted(classes, names)
    table = np.bincount(cell, minlength=counts.shape[1] * len(classes)).reshape(counts.shape[1], len(classes))
    drawn: Floats = counts @ table.astype(np.float64)
    return drawn


def _weighted_f1(right: NDArray[Any], labelled: NDArray[Any], predicted: NDArray[Any]) -> Floats:
    """Return the mean F1 [..] over classes [.., C], weighed by their labels; NaN without any label."""
    both, total = labelled + predicted, labelled.sum(-1)
    f1 = np.where(both > 0, 2.0 * right / np.where(both > 0, both, 1.0), 0.0)
    return np.where(total > 0, (f1 * labelled).sum(-1) / np.where(total > 0, total, 1.0), np.nan)


def _names(labels: ArrayLike) -> Names:
    """Return labels as text, empty where they are missing."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "U":
        return labels
    # Of objects: NumPy would make the name "nan" of a NaN among names.
    objects: NDArray[Any] = np.asarray(labels, dtype=object)
    # NaN alone differs from itself.
    plain = ["" if value is None or value != value else str(value) for value in objects.ravel()]
    return np.array(plain, dtype=np.str_).reshape(objects.shape)


def _known(names: Names) -> NDArray[np.bool_]:
    labelled: NDArray[np.bool_] = names != ""
    return labelled
