"""Trivial predictors on utterance-level features, run on a fold beside the network to show what it adds.

Legend: N training rows, M test rows, D features, K targets. Settings are chosen on training rows alone, by
leaving out one group (speaker, session) at a time and taking the best pooled CCC. Everything is deterministic.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from affect.errors import AffectError, nearest
from affect.metrics.regression import Floats, ccc

NAMES = ("mean", "ridge", "svr")

logger = logging.getLogger("affect")

_MOST_PARTS = 10
"""More groups than this are left out several at a time: thousands of speakers would be thousands of fits."""

_MOST_CHOOSING = 2000
"""An SVR's cost is quadratic in the rows, so its settings are chosen on at most this many of them."""

_MOST_FITTING = 10_000
"""And it is fitted on at most this many: 84,000 rows would take hours."""

Fit = Callable[[], Any]


def predict(
    name: str, x_train: ArrayLike, y_train: ArrayLike, x_test: ArrayLike, groups: ArrayLike | None = None
) -> Floats:
    """Return the predictions of baseline `name` for `x_test` [M, D]: [M] or [M, K] as `y_train` [N] or [N, K].

    `mean` is the training mean, `ridge` a standardised ridge regression, `svr` a standardised RBF support vector
    regression, fitted on at most 10,000 training rows spread evenly over the groups, its settings chosen on 2,000 of
    them (the log says so where there are more). NaN targets are missing and left out, target by target; `groups` [N]
    are kept apart when settings are chosen. Raises AffectError for an unknown name, shapes that do not fit, features
    that are not finite, or a target without a label.
    """
    if name not in NAMES:
        raise AffectError(f"unknown baseline {name!r}; {nearest(name, NAMES)}")
    x, new = np.asarray(x_train, np.float64), np.asarray(x_test, np.float64)
    y = np.asarray(y_train, np.float64)
    _check(name, x, y, new)
    kinds = group_numbers(name, groups, len(x))
    if name == "svr" and len(x) > _MOST_CHOOSING:
        fitted = min(len(x), _MOST_FITTING)
        logger.info(
            "baseline svr: fitted on %d, settings chosen on %d of %d training rows", fitted, _MOST_CHOOSING, len(x)
        )
    columns = []
    for k, column in enumerate(y.reshape(len(y), -1).T):
        known = ~np.isnan(column)
        if not known.any():
            raise AffectError(f"baseline {name}: target {k} has no label in the training part")
        columns.append(_column(name, x[known], column[known], new, kinds[known]))
    stacked: Floats = np.stack(columns, axis=1)
    return stacked.reshape(len(new), *y.shape[1:])


def group_numbers(name: str, groups: ArrayLike | None, rows: int) -> NDArray[Any]:
    """Return each training row's group as a number."""
    kinds = np.zeros(rows, int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(kinds) != rows:
        raise AffectError(f"baseline {name}: {len(kinds)} groups for {rows} training rows")
    return np.asarray(kinds)


def _column(name: str, x: Floats, y: Floats, new: Floats, groups: NDArray[Any]) -> Floats:
    centre, spread = float(y.mean()), float(y.std())
    if name == "mean" or len(y) < 4 or spread == 0:
        if name != "mean":
            logger.warning("baseline %s: %d labels with spread %g, so it predicts the mean", name, len(y), spread)
        return np.full(len(new), centre)
    # In units of the target's spread one grid of epsilon and C fits every scale.
    scaled = (y - centre) / spread
    fits = _candidates(name)
    if name == "svr":
        rows = spread_rows(groups, _MOST_FITTING)
        x, scaled, groups = x[rows], scaled[rows], groups[rows]
    rows = spread_rows(groups, _MOST_CHOOSING) if name == "svr" else np.arange(len(x))
    model = _choose(fits, x[rows], scaled[rows], groups[rows])()
    fitted: Floats = model.fit(x, scaled).predict(new)
    return fitted * spread + centre


def _candidates(name: str) -> list[Fit]:
    if name == "ridge":
        return [partial(_ridge, alpha) for alpha in 10.0 ** np.arange(5, -3, -1)]
    return [partial(_svr, c, epsilon) for c, epsilon in itertools.product((0.1, 1.0, 10.0), (0.3, 0.1, 0.03))]


def _ridge(alpha: float) -> Any:
    return make_pipeline(StandardScaler(), Ridge(alpha=alpha))


def _svr(c: float, epsilon: float) -> Any:
    return make_pipeline(StandardScaler(), SVR(C=c, epsilon=epsilon))


def _choose(fits: list[Fit], x: Floats, y: Floats, groups: NDArray[Any]) -> Fit:
    """Return the candidate with the best CCC over all held-out rows; the first (most regular) of equals."""
    parts = list(held_out_parts(groups))
    held = np.concatenate([test for _, test in parts])
    scores = []
    for fit in fits:
        predicted = [fit().fit(x[train], y[train]).predict(x[test]) for train, test in parts]
        scores.append(ccc(np.concatenate(predicted), y[held]))
    return fits[int(np.argmax(scores))]


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


def _check(name: str, x: Floats, y: Floats, new: Floats) -> None:
    if x.ndim != 2 or new.ndim != 2 or x.shape[1] != new.shape[1] or len(x) != len(y) or y.ndim not in (1, 2):
        raise AffectError(
            f"baseline {name}: features {x.shape} and {new.shape} and targets {y.shape} do not fit each other"
        )
    if not x.size or not len(new):
        raise AffectError(f"baseline {name}: no rows (training features {x.shape}, test features {new.shape})")
    for part, values in (("training", x), ("test", new)):
        wrong = ~np.isfinite(values)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise AffectError(f"baseline {name}: {part} feature {column} of row {row} is not finite")
    if np.isinf(y).any():
        raise AffectError(f"baseline {name}: a training target is infinite")
