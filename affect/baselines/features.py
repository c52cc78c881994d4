"""Trivial predictors on utterance-level features, run on a fold beside the network to show what it adds.

Legend: N training rows, M test rows, D features, K targets. Settings are chosen on training rows alone, by
leaving out one group (speaker, session) at a time and taking the best pooled CCC. Everything is deterministic.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from affect.errors import AffectError
from affect.metrics.regression import Floats, ccc

NAMES = ("constant", "ridge", "svr")
ALPHAS = 10.0 ** np.arange(5, -3, -1)
"""Penalties of a ridge, the most regular first."""

logger = logging.getLogger("affect")

_MOST_PARTS = 10
"""More groups than this are left out several at a time: thousands of speakers would be thousands of fits."""

_MOST_CHOOSING = 2000
"""An SVR's cost is quadratic in the rows, so its settings are chosen on at most this many of them."""

_MOST_FITTING = 10_000
"""And it is fitted on at most this many: 84,000 rows would take hours."""

Parts = Iterable[tuple[NDArray[Any], NDArray[Any]]]


def predict(
    name: str, x_train: ArrayLike, y_train: ArrayLike, x_test: ArrayLike, groups: ArrayLike | None = None
) -> Floats:
    """Return the predictions of one of `NAMES` for `x_test` [M, D]: [M] or [M, K] as `y_train` [N] or [N, K].

    `constant` is the training mean, `ridge` a standardised ridge regression, `svr` a standardised RBF support vector
    regression, fitted on at most 10,000 training rows spread evenly over the groups, its settings chosen on 2,000 of
    them (the log says so where there are more). NaN targets are missing and left out, target by target; `groups` [N]
    are kept apart when settings are chosen. Raises AffectError for features that are not finite, and as `targets`.
    """
    x, new = np.asarray(x_train, np.float64), np.asarray(x_test, np.float64)
    y = targets(name, y_train, len(x), len(new))
    kinds = group_numbers(name, groups, len(x))
    for part, values in (("training", x), ("test", new)):
        for row, column in np.argwhere(~np.isfinite(values)):
            raise AffectError(f"baseline {name}: {part} feature {column} of row {row} is not finite")
    if name == "svr" and len(x) > _MOST_CHOOSING:
        fitted = min(len(x), _MOST_FITTING)
        logger.info(
            "baseline svr: fitted on %d, settings chosen on %d of %d training rows", fitted, _MOST_CHOOSING, len(x)
        )
    columns = []
    for column in y.reshape(len(y), -1).T:
        labelled = ~np.isnan(column)
        columns.append(_column(name, x[labelled], column[labelled], new, kinds[labelled]))
    return np.stack(columns, axis=1).reshape(len(new), *y.shape[1:])


def targets(name: str, y_train: ArrayLike, rows: int, new: int) -> Floats:
    """Return the targets of `rows` training rows, from which `new` rows are predicted.

    Raises AffectError for no rows, another number of targets, an infinite one or a target without a label.
    """
    y = np.asarray(y_train, np.float64)
    if y.ndim not in (1, 2) or len(y) != rows or not rows or not new:
        raise AffectError(f"baseline {name}: {rows} training rows, {new} test rows and targets {y.shape} do not fit")
    if np.isinf(y).any():
        raise AffectError(f"baseline {name}: a training target is infinite")
    for k in np.flatnonzero(np.isnan(y.reshape(rows, -1)).all(0)):
        raise AffectError(f"baseline {name}: target {k} has no label in the training part")
    return y


def group_numbers(name: str, groups: ArrayLike | None, rows: int) -> NDArray[Any]:
    """Return each training row's group as a number."""
    kinds = np.zeros(rows, int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(kinds) != rows:
        raise AffectError(f"baseline {name}: {len(kinds)} groups for {rows} training rows")
    return np.asarray(kinds)


def _column(name: str, x: Floats, y: Floats, new: Floats, groups: NDArray[Any]) -> Floats:
    centre, spread = float(y.mean()), float(y.std())
    if name == "constant" or len(y) < 4 or spread == 0:
        if name != "constant":
            logger.warning("baseline %s: %d labels with spread %g, so it predicts the mean", name, len(y), spread)
        return np.full(len(new), centre)
    # In units of the target's spread one grid of epsilon and C fits every scale.
    scaled = (y - centre) / spread
    rows = np.arange(len(x))
    if name == "ridge":
        models = [make_pipeline(StandardScaler(), Ridge(alpha=alpha)) for alpha in ALPHAS]
    else:
        grid = itertools.product((0.1, 1.0, 10.0), (0.3, 0.1, 0.03))
        models = [make_pipeline(StandardScaler(), SVR(C=c, epsilon=epsilon)) for c, epsilon in grid]
        fitted = spread_rows(groups, _MOST_FITTING)
        x, scaled, groups = x[fitted], scaled[fitted], groups[fitted]
        rows = spread_rows(groups, _MOST_CHOOSING)
    model = best(models, x[rows], scaled[rows], held_out_parts(groups[rows]), ccc)
    predicted: Floats = model.fit(x, scaled).predict(new)
    return predicted * spread + centre


def best(models: Sequence[Any], x: Floats, y: NDArray[Any], parts: Parts, score: Callable[..., float]) -> Any:
    """Return the model with the best score over all held-out rows; the first (most regular) of equals.

    `parts` are (train, test) row numbers; without any it is the first.
    """
    parts = list(parts)
    if not parts:
        return models[0]
    held = np.concatenate([test for _, test in parts])
    predicted = [[model.fit(x[train], y[train]).predict(x[test]) for train, test in parts] for model in models]
    return models[int(np.argmax([score(np.concatenate(each), y[held]) for each in predicted]))]


def held_out_parts(groups: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield (train, test) row numbers: one group left out at a time, or rows at random where there is one group."""
    count = len(np.unique(groups))
    blank = np.zeros((len(groups), 1))
    if count > 1:
        yield from GroupKFold(min(count, _MOST_PARTS)).split(blank, groups=groups)
    else:
        yield from KFold(min(5, len(groups)), shuffle=True, random_state=0).split(blank)


def spread_rows(groups: NDArray[Any], most: int) -> NDArray[Any]:
    """Return at most `most` row numbers, spread evenly over the groups."""
    if len(groups) <= most:
        return np.arange(len(groups))
    shuffled = np.random.default_rng(0).permutation(len(groups))
    by_group = shuffled[np.argsort(groups[shuffled], kind="stable")]
    return np.sort(by_group[np.linspace(0, len(groups) - 1, most).astype(int)])
