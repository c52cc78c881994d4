"""Percentile bootstrap over groups (speakers or dialogues): the utterances of one correlate, groups do not.

Legend: N examples, G groups, n resamples. A resample draws G groups with replacement and takes all of
their examples (the cluster bootstrap: Davison and Hinkley 1997, section 3.8). The same groups, n and seed give
the same resamples, so replicates of two systems are paired and their difference can be taken one by one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affect.metrics.regression import Floats, valid


def replicates(groups: ArrayLike, prediction: ArrayLike, target: ArrayLike, *, n: int = 1000, seed: int = 0) -> Floats:
    """Return the CCC of n resamples [n] of `prediction` [N] and `target` [N] (NaN: missing) over `groups` [N].

    Groups without a label take part in the drawing, so that systems scored on different rows stay paired. A resample
    without two labels that differ has no CCC: NaN.
    Raises ValueError as `ccc` does, for fewer than two groups and for unequal lengths.
    """
    size, index = grouped(groups, prediction, target)
    x, y = valid(prediction, target)
    index = index[~np.isnan(np.asarray(target, dtype=np.float64))]
    counts = draws(size, n, seed).astype(np.float64)
    if x.size < 2:
        return np.full(n, np.nan)
    # Centred on the whole sample's means: raw sums of squares would cancel for labels far from 0.
    centre_x, centre_y = x.mean(), y.mean()
    x, y = x - centre_x, y - centre_y
    columns = (np.ones_like(x), x, y, x * x, y * y, x * y)
    sums = np.stack([np.bincount(index, column, minlength=size) for column in columns], axis=1)
    count, *totals = (counts @ sums).T
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (total / np.maximum(count, 1.0) for total in totals)
    var_x, var_y = mean_xx - mean_x**2, mean_yy - mean_y**2
    spread = var_x + var_y + (mean_x - mean_y + float(centre_x - centre_y)) ** 2
    # What rounding leaves of a constant's variance counts as 0, as `ccc` has it.
    tiny = 1e-12
    undefined, flat = var_y <= tiny * mean_yy, (var_x <= tiny * mean_xx) | (spread <= 0)
    scores: Floats = np.where(flat, 0.0, 2 * (mean_xy - mean_x * mean_y) / np.where(flat, 1.0, spread))
    return np.where(undefined, np.nan, np.clip(scores, -1.0, 1.0))


def replicates_mean(groups: ArrayLike, values: ArrayLike, *, n: int = 1000, seed: int = 0) -> Floats:
    """Return the mean of n resamples [n] of `values` [N] (NaN: missing) over `groups` [N]; NaN of one without any.

    Raises ValueError for fewer than two groups and for unequal lengths.
    """
    size, index = grouped(groups, values)
    x = np.asarray(values, dtype=np.float64)
    labelled = ~np.isnan(x)
    counts = draws(size, n, seed).astype(np.float64)
    total = counts @ np.bincount(index[labelled], x[labelled], minlength=size)
    count = counts @ np.bincount(index[labelled], minlength=size)
    means: Floats = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
    return means


def replicates_variance(groups: ArrayLike, values: ArrayLike, *, n: int = 1000, seed: int = 0) -> Floats:
    """Return the variance of n resamples [n] of `values` [N] (NaN: missing) over `groups` [N], as `replicates_mean`.

    0 where all values of a resample are the same.
    """
    x = np.asarray(values, dtype=np.float64)
    # Centred on the whole sample's mean, as raw squares would cancel.
    x = x - (x[~np.isnan(x)].mean() if not np.isnan(x).all() else 0.0)
    mean, square = (replicates_mean(groups, power, n=n, seed=seed) for power in (x, x * x))
    variance = square - mean**2
    # What rounding leaves of a constant's variance counts as 0.
    return np.where(variance <= 1e-12 * square, 0.0, variance)


def percentiles(samples: Floats) -> tuple[float, float]:
    """Return the bounds that hold the middle 95 % of `samples` [n]."""
    low, high = np.quantile(samples, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


def grouped(groups: ArrayLike, *arrays: ArrayLike) -> tuple[int, NDArray[np.intp]]:
    """Return the number of groups and each example's group [N]."""
    names = np.asarray(groups)
    lengths = [len(np.asarray(array)) for array in arrays]
    if names.ndim != 1 or any(length != len(names) for length in lengths):
        raise ValueError(f"{names.shape} groups for arrays of length {lengths}")
    kinds, index = np.unique(names, return_inverse=True)
    if len(kinds) < 2:
        raise ValueError(f"a bootstrap over groups needs at least two of them, not {len(kinds)}")
    return len(kinds), index


@lru_cache(maxsize=4)
def draws(size: int, n: int, seed: int) -> NDArray[Any]:
    """Return how often each of n resamples holds each group [n, G]; read-only, as all who ask share it."""
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=n)
    # Drawing takes longer than what is done with it, and a report asks for the same resamples hundreds of times.
    drawn.setflags(write=False)
    return drawn
