"""The trivial predictors of `features` for classes: the most frequent one, a linear and a kernel classifier.

Legend: N training rows, M test rows, D features. Settings are chosen on training rows alone, by leaving out one group
at a time and taking the best unweighted accuracy. Classes weigh alike, since that is what unweighted accuracy asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from affect.baselines.features import ALPHAS, best, group_numbers, held_out_parts, spread_rows
from affect.errors import AffectError
from affect.metrics.classification import unweighted_accuracy

_MOST = 4000
"""A kernel classifier's cost is quadratic in the rows: it is chosen and fitted on at most this many."""


def predict(
    name: str, x_train: ArrayLike, labels: Sequence[str | None], x_test: ArrayLike, groups: ArrayLike | None = None
) -> list[str]:
    """Return the class [M] that one of `features.NAMES` gives each row of `x_test` [M, D].

    `constant` is the majority, `svr` a support vector classifier. `labels` [N] are the classes of `x_train` [N, D],
    None where missing. Raises AffectError where no training row has a label.
    """
    labelled = np.array([label is not None for label in labels])
    x, new = np.asarray(x_train, np.float64)[labelled], np.asarray(x_test, np.float64)
    y = np.array([label for label in labels if label is not None])
    if not len(y):
        raise AffectError(f"baseline {name}: no training row has a class")
    kinds = group_numbers(name, groups, len(labelled))[labelled]
    if name == "constant" or len(np.unique(y)) < 2:
        return [str(Counter(y.tolist()).most_common(1)[0][0])] * len(new)
    if name == "ridge":
        models = [RidgeClassifier(alpha=alpha, class_weight="balanced") for alpha in ALPHAS]
    else:
        models = [SVC(C=c, class_weight="balanced") for c in (0.1, 1.0, 10.0)]
        rows = spread_rows(kinds, _MOST)
        x, y, kinds = x[rows], y[rows], kinds[rows]
    # Without a second class there is nothing to fit.
    parts = [(train, test) for train, test in held_out_parts(kinds) if len(np.unique(y[train])) > 1]
    pipelines = [make_pipeline(StandardScaler(), model) for model in models]
    model = best(pipelines, x, y, parts, unweighted_accuracy)
    return [str(label) for label in model.fit(x, y).predict(new)]
