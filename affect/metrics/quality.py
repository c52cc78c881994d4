"""Scores of quality prediction: rank correlations, and PLCC and RMSE after a fitted logistic curve.

Legend: N examples, M labelled ones, n resamples. Inputs, missing labels and faults are as in `regression`, and what is
not defined (fewer than two labels, either side constant) is NaN. The curve (`logistic`) follows a scale that bends; it
also finds a relation in noise (a PLCC of .31 of 30 unrelated pairs) and turns a negative one positive, so its scores
stand beside SRCC, never alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affect.metrics.bootstrap import draws, grouped, replicates_variance
from affect.metrics.logistic import explained
from affect.metrics.regression import Floats, pearson, valid

_BLOCK = 1 << 17
"""Numbers held at once: few enough that a processor's cache holds them."""
_KEPT: dict[bytes, Floats] = {}
_MOST_KEPT = 1024
"""Shares of variance by a digest of what they are of, 8 kB each."""
_Weighted = Callable[[Floats, Floats, Floats], Floats]
"""A score [n] of pairs [M], each as often as weights [n, M] say."""


def srcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return Spearman's rank correlation of `prediction` [N] and `target` [N]; equal values share their mean rank."""
    from scipy.stats import rankdata

    x, y = valid(prediction, target)
    return pearson(rankdata(x), rankdata(y))


def krcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return Kendall's rank correlation tau-b of `prediction` [N] and `target` [N]."""
    from scipy.stats import kendalltau

    x, y = valid(prediction, target)
    return float(kendalltau(x, y, variant="b").statistic) if x.size > 1 else math.nan


def within_srcc(prediction: ArrayLike, target: ArrayLike, kinds: ArrayLike) -> float:
    """Return the mean SRCC within a kind (a generator), each kind weighed by its labelled examples.

    `kinds` [N] are names. Examples without one ("") and kinds that define no SRCC are left out; NaN where none is left.
    """
    return _within(srcc, prediction, target, kinds)


def within_plcc(prediction: ArrayLike, target: ArrayLike, kinds: ArrayLike) -> float:
    """Return the mean `plcc` within a kind (a generator), each on a curve of its own; as `within_srcc`."""
    return _within(plcc, prediction, target, kinds)


def _within(
    score: Callable[[Floats, Floats], float], prediction: ArrayLike, target: ArrayLike, kinds: ArrayLike
) -> float:
    x, y, names = *valid(prediction, target), _labelled(kinds, target)
    parts = [names == name for name in np.unique(names[names != ""])]
    scores = np.array([score(x[part], y[part]) for part in parts])
    defined = ~np.isnan(scores)
    sizes = np.array([part.sum() for part in parts])
    return float(np.average(scores[defined], weights=sizes[defined])) if defined.any() else math.nan


def plcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return Pearson's correlation with `target` [N] of `prediction` [N] on its `logistic.fit`.

    NaN of fewer than ten labels.
    """
    x, y = valid(prediction, target)
    return float(np.sqrt(explained(x, y, np.ones((1, x.size)))[0]))


def rmse_fitted(prediction: ArrayLike, target: ArrayLike) -> float:
    """Return the root mean squared error of `prediction` [N] on its `logistic.fit`, in the labels' unit; as `plcc`."""
    x, y = valid(prediction, target)
    unexplained = 1 - explained(x, y, np.ones((1, x.size)))[0]
    return float(np.sqrt(unexplained * np.var(y))) if y.size else math.nan


def replicates_srcc(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, *, n: int = 1000, seed: int = 0
) -> Floats:
    """Return the SRCC of n resamples [n] over `groups` [N], drawn as `bootstrap.replicates` draws them."""
    return _blockwise(_correlated_ranks, *_resamples(groups, prediction, target, n, seed))


def replicates_within_srcc(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, kinds: ArrayLike, *, n: int = 1000, seed: int = 0
) -> Floats:
    """Return `within_srcc` of n resamples [n] over `groups` [N]; kinds weigh as often as they are drawn."""
    return _replicates_within(_correlated_ranks, groups, prediction, target, kinds, n, seed)


def replicates_within_plcc(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, kinds: ArrayLike, *, n: int = 1000, seed: int = 0
) -> Floats:
    """Return `within_plcc` of n resamples [n] over `groups` [N], its curves fitted anew."""
    return _replicates_within(lambda *pairs: np.sqrt(explained(*pairs)), groups, prediction, target, kinds, n, seed)


def _replicates_within(
    score: _Weighted, groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, kinds: ArrayLike, n: int, seed: int
) -> Floats:
    x, y, index, counts = _resamples(groups, prediction, target, n, seed)
    names = _labelled(kinds, target)
    total, weight = np.zeros(n), np.zeros(n)
    for name in np.unique(names[names != ""]):
        part = names == name
        scores, size = (
            _blockwise(score, x[part], y[part], index[part], counts),
            counts[:, index[part]].sum(1),
        )
        defined = ~np.isnan(scores)
        total += np.where(defined, scores * size, 0.0)
        weight += np.where(defined, size, 0.0)
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)


def replicates_krcc(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, *, n: int = 1000, seed: int = 0
) -> Floats:
    """Return the KRCC of n resamples [n] over `groups` [N]; the time is quadratic in the examples."""
    x, y, index, counts = _resamples(groups, prediction, target, n, seed)
    weights = counts[:, index]
    sums = np.zeros((3, n))
    rows = max(1, _BLOCK // max(1, x.size))
    for start in range(0, x.size, rows):
        here = slice(start, start + rows)
        one, other = (np.sign(values[here, None] - values) for values in (x, y))
        for k, product in enumerate((one * other, one * one, other * other)):
            sums[k] += np.einsum("nb,nb->n", weights @ product.T, weights[:, here])
    agreed, differ_x, differ_y = sums
    both = np.sqrt(differ_x * differ_y)
    return np.where(both > 0, agreed / np.where(both > 0, both, 1.0), np.nan)


def replicates_plcc(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, *, n: int = 1000, seed: int = 0
) -> Floats:
    """Return the PLCC on a curve fitted anew of n resamples [n] over `groups` [N]."""
    values: Floats = np.sqrt(_explained(groups, prediction, target, n, seed))
    return values


def replicates_rmse_fitted(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, *, n: int = 1000, seed: int = 0
) -> Floats:
    """Return the RMSE on a curve fitted anew of n resamples [n] over `groups` [N]."""
    unexplained = 1 - _explained(groups, prediction, target, n, seed)
    values: Floats = np.sqrt(unexplained * replicates_variance(groups, target, n=n, seed=seed))
    return values


def _explained(groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, n: int, seed: int) -> Floats:
    """Return the share of variance [n] that curves fitted to resamples explain.

    The newest are kept: PLCC, its RMSE, and means and tables of both ask for the same, and the fits are all their time.
    """
    x, y, index, counts = _resamples(groups, prediction, target, n, seed)
    digest = hashlib.blake2b(repr((counts.shape, seed)).encode())
    for values in (x, y, index):
        digest.update(np.ascontiguousarray(values).tobytes())
    key = digest.digest()
    if key not in _KEPT:
        if len(_KEPT) >= _MOST_KEPT:
            del _KEPT[next(iter(_KEPT))]
        _KEPT[key] = _blockwise(explained, x, y, index, counts)
    return _KEPT[key]


def _labelled(kinds: ArrayLike, target: ArrayLike) -> NDArray[np.str_]:
    """Return the kinds [M] of the labelled examples."""
    names = np.asarray(kinds, dtype=np.str_)
    y = np.asarray(target, dtype=np.float64)
    if names.shape != y.shape:
        raise ValueError(f"kinds and target must be two [N] arrays, not {names.shape} and {y.shape}")
    return names[~np.isnan(y)]


def _resamples(
    groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, n: int, seed: int
) -> tuple[Floats, Floats, NDArray[np.intp], Floats]:
    """Return the labelled pairs [M], the group of each, and how often each resample holds each group [n, G]."""
    size, index = grouped(groups, prediction, target)
    x, y = valid(prediction, target)
    return x, y, index[~np.isnan(np.asarray(target, dtype=np.float64))], draws(size, n, seed).astype(np.float64)


def _blockwise(score: _Weighted, x: Floats, y: Floats, index: NDArray[np.intp], counts: Floats) -> Floats:
    """Return the score [n] of the pairs [M], each taken as often as its group is drawn in `counts` [n, G]."""
    rows = max(1, _BLOCK // max(1, x.size))
    return np.concatenate([score(x, y, counts[at : at + rows][:, index]) for at in range(0, len(counts), rows)])


def _correlated_ranks(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return the correlation [n] of the ranks of x and y [M], which count as often as `weights` [n, M] says."""
    if not x.size:
        return np.full(len(weights), np.nan)
    total = np.maximum(weights.sum(1), 1.0)
    dx, dy = (_centred_ranks(values, weights, total) for values in (x, y))
    cov, var_x, var_y = (np.einsum("nm,nm,nm->n", weights, a, b) / total for a, b in ((dx, dy), (dx, dx), (dy, dy)))
    # Ranks that differ have a variance of .25 and more: less is what rounding leaves of none.
    defined = (var_x > 0.1) & (var_y > 0.1)
    scores = np.where(defined, cov, np.nan) / np.sqrt(np.where(defined, var_x * var_y, 1.0))
    return np.clip(scores, -1.0, 1.0)


def _centred_ranks(values: Floats, weights: Floats, total: Floats) -> Floats:
    """Return the mean ranks [n, M] of values [M] that occur as often as `weights` [n, M] says, less their mean."""
    kinds, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    often = np.add.reduceat(weights[:, order], np.searchsorted(place[order], np.arange(len(kinds))), axis=1)
    ranks = (np.cumsum(often, axis=1) - often / 2)[:, place]
    # The mean of all mean ranks is half of what there is.
    return ranks - total[:, None] / 2
