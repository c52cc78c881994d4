"""The bootstrap over groups as its definition says: row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from affect.metrics.bootstrap import draws, percentiles


def interval(
    statistic: Callable[..., float], groups: Any, *arrays: Any, n: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile interval of `statistic(*arrays)` over resampled `groups` [N], all rows of one together."""
    names = np.asarray(groups)
    members = [np.flatnonzero(names == name) for name in np.unique(names)]
    samples = np.empty(n)
    for i, counts in enumerate(draws(len(members), n, seed)):
        rows = np.concatenate([np.tile(members[g], counts[g]) for g in np.flatnonzero(counts)])
        samples[i] = statistic(*(np.asarray(array)[rows] for array in arrays))
    return percentiles(samples)
