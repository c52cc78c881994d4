"""Trivial predictors of quality scores, run on a fold beside the network: how much of it is the generator's name.

Legend: N training rows, M test rows, D features, K scores. Settings are chosen on training rows alone, as in
`features`. Everything is deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import RandomForestRegressor

from affect.baselines import features
from affect.errors import AffectError
from affect.metrics.regression import Floats

NAMES = ("constant", "kind_mean", "ridge", "forest")

_TREES = 100
_COLUMNS = 64
"""Features that a split chooses among, at most: of thousands a forest of all would take minutes."""


def predict(
    name: str, x_train: ArrayLike, y_train: ArrayLike, x_test: ArrayLike, *, groups: ArrayLike | None = None,
    kinds_train: Sequence[str] | None = None, kinds_test: Sequence[str] | None = None,
) -> Floats:  # fmt: skip
    """Return the predictions of one of `NAMES` for `x_test` [M, D]: [M] or [M, K] as `y_train` [N] or [N, K].

    `constant` is the training mean, `kind_mean` that of rows of the same kind (generator), of all for an unseen one;
    `ridge` is `features.predict`'s, with `groups` [N] kept apart when its penalty is chosen; `forest` has 100 trees on
    features as they are, all of them (64 at most) at each split. Missing scores are NaN and left out, score by score; a
    missing feature is taken as its training mean. Raises AffectError as `features.predict`.
    """
    x, new = _filled(x_train, x_test)
    if name in ("constant", "ridge"):
        return features.predict(name, x, y_train, new, groups)
    y = features.targets(name, y_train, len(x), len(new))
    if name == "kind_mean":
        if kinds_train is None or kinds_test is None or (len(kinds_train), len(kinds_test)) != (len(x), len(new)):
            raise AffectError("baseline kind_mean: each row needs its kind")
        return _kind_means(y, np.asarray(kinds_train, np.str_), np.asarray(kinds_test, np.str_))
    if not np.isfinite(x).all() or not np.isfinite(new).all():
        raise AffectError(f"baseline {name}: a feature is infinite")
    columns = []
    for column in y.reshape(len(y), -1).T:
        labelled = ~np.isnan(column)
        forest = RandomForestRegressor(_TREES, max_features=min(x.shape[1], _COLUMNS), random_state=0)
        columns.append(forest.fit(x[labelled], column[labelled]).predict(new))
    return np.stack(columns, axis=1).reshape(len(new), *y.shape[1:])


def pooled(sequences: Sequence[ArrayLike | None], width: int) -> Floats:
    """Return the mean over time of features [T, D] (or [D]) of N rows: [N, D], NaN where there is none."""
    rows = np.full((len(sequences), width), np.nan)
    for row, sequence in zip(rows, sequences, strict=True):
        if sequence is not None and len(frames := np.asarray(sequence, np.float64).reshape(-1, width)):
            row[:] = frames.mean(0)
    return rows


def _kind_means(y: Floats, kinds: NDArray[np.str_], wanted: NDArray[np.str_]) -> Floats:
    overall = np.nanmean(y, axis=0)
    predicted = np.broadcast_to(overall, (len(wanted), *y.shape[1:])).copy()
    for kind in np.unique(kinds):
        of_kind = y[kinds == kind]
        labelled = ~np.isnan(of_kind)
        count = labelled.sum(0)
        mean = np.where(labelled, of_kind, 0.0).sum(0) / np.maximum(count, 1)
        predicted[wanted == kind] = np.where(count > 0, mean, overall)
    return predicted


def _filled(x_train: ArrayLike, x_test: ArrayLike) -> tuple[Floats, Floats]:
    x, new = np.asarray(x_train, np.float64), np.asarray(x_test, np.float64)
    there = ~np.isnan(x)
    means = np.where(there, x, 0.0).sum(0) / np.maximum(there.sum(0), 1)
    return np.where(there, x, means), np.where(np.isnan(new), means, new)
