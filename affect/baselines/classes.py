"""The trivial predictors of `features` for classes: the most frequent one, a linear and a kernel classifier.

Legend: N training rows, M test rows, D features. Settings are chosen on training rows alone, by leaving out one group
at a time and taking the best unweighted accuracy. Classes weigh alike, since that is what unweighted accuracy asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from affect.baselines.features import held_out_parts, spread_rows
from affect.errors import AffectError, nearest
from affect.metrics.classification import unweighted_accuracy

NAMES = ("mean", "ridge", "svr")
"""As the predictors of numbers are called: `mean` is the majority, `svr` a support vector classifier."""

_MOST = 4000
"""A kernel classifier's cost is quadratic in the rows: it is chosen and fitted on at most this many."""


def predict(
    name: str, x_train: ArrayLike, labels: Sequence[str | None], x_test: ArrayLike, groups: ArrayLike | None = None
) -> list[str]:
    """Return the class [M] that predictor `name` gives each row of `x_test` [M, D].

    `labels` [N] are the classes of `x_train` [N, D], None where missing. Raises AffectError for an unknown name, or
    where no training row has a label.
    """
    if name not in NAMES:
        raise AffectError(f"unknown baseline {name!r}; {nearest(name, NAMES)}")
    known = np.array([label is not None for label in labels])
    x, new = np.asarray(x_train, np.float64)[known], np.asarray(x_test, np.float64)
    y = np.array([label for label in labels if label is not None])
    if not len(y):
        raise AffectError(f"baseline {name}: no training row has a class")
    kinds = np.zeros(len(y), int) if groups is None else np.unique(np.asarray(groups)[known], return_inverse=True)[1]
    most = Counter(y.tolist()).most_common(1)[0][0]
    if name == "mean" or len(set(y.tolist())) < 2:
        return [str(most)] * len(new)
    fits: list[Callable[[], Any]]
    if name == "ridge":
        fits = [partial(_ridge, alpha) for alpha in 10.0 ** np.arange(5, -3, -1)]
    else:
        fits = [partial(_svc, c) for c in (0.1, 1.0, 10.0)]
        rows = spread_rows(kinds, _MOST)
        x, y, kinds = x[rows], y[rows], kinds[rows]
    return [str(label) for label in _choose(fits, x, y, kinds)().fit(x, y).predict(new)]


def _ridge(alpha: float) -> Any:
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha, class_weight="balanced"))


def _svc(c: float) -> Any:
    return make_pipeline(StandardScaler(), SVC(C=c, class_weight="balanced"))


def _choose(fits: list[Callable[[], Any]], x: NDArray[Any], y: NDArray[Any], groups: NDArray[Any]) -> Callable[[], Any]:
    """Return the candidate with the best unweighted accuracy over all held-out rows, the first of equals."""
    # Without a second class there is nothing to fit.
    parts = [(train, test) for train, test in held_out_parts(groups) if len(set(y[train].tolist())) > 1]
    if not parts:
        return fits[0]
    held = np.concatenate([test for _, test in parts])
    scores = []
    for fit in fits:
        guessed = [fit().fit(x[train], y[train]).predict(x[test]) for train, test in parts]
        scores.append(unweighted_accuracy(np.concatenate(guessed), y[held]))
    return fits[int(np.argmax(scores))]
