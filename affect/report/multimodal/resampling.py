"""Bootstrap intervals over utterances: of a score, and of the difference of two systems on the same resamples.

Legend: N utterances of a part, n resamples, C classes. Intervals are percentile intervals (Efron 1979); MER2023's
labels name no speaker or dialogue, so utterances are what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.metrics.bootstrap import draws, percentiles
from affect.metrics.emotion import weighted_f1_counts
from affect.metrics.regression import Floats
from affect.report.multimodal.measures import System
from affect.report.multimodal.rows import Names, Rows
from affect.report.scores import Estimate

COUNT = 1000


@dataclass(frozen=True)
class Resamples:
    """How often each utterance is in each of n resamples: `ids` [N] in order, `counts` [N, n]."""

    ids: Names
    counts: NDArray[np.float32]

    @classmethod
    def of(cls, units: Sequence[Rows], count: int = COUNT) -> Resamples:
        """Return resamples of all utterances that occur in some rows; the same utterances give the same ones."""
        ids = np.unique(np.concatenate([rows.ids for rows in units])) if units else np.zeros(0, np.str_)
        return cls(ids, _drawn(len(ids), count))

    def estimate(self, system: System, measure: str, value: float) -> Estimate:
        """Return a score's value with the interval of its resamples (f1, acc or val)."""
        return interval(value, self.samples(system, measure))

    def samples(self, system: System, measure: str) -> Floats:
        """Return the mean over seeds of a system's score in each resample [n], NaN where it is unknown."""
        if not system or len(self.ids) < 2:
            return np.full(self.counts.shape[1], np.nan)
        seeds = [np.mean([self._one(rows, measure) for rows in units], axis=0) for units in system.values()]
        found: Floats = np.mean(seeds, axis=0)
        return found

    def _one(self, rows: Rows, measure: str) -> Floats:
        known = ~np.isnan(rows.rated) if measure == "val" else rows.label >= 0
        rows = rows.at(known)
        counts = self._of(rows.ids)
        if measure == "val":
            return _over(np.square(rows.valence - rows.rated) @ counts, counts.sum(0, dtype=np.float64))
        if (rows.emotion < 0).any():
            return np.full(counts.shape[1], np.nan)
        if measure == "acc":
            return _over((rows.emotion == rows.label) @ counts, counts.sum(0))
        size = rows.logits.shape[1]
        # Single precision counts exactly up to 16 million, and takes half the time.
        cells = np.eye(size * size, dtype=np.float32)[:, rows.label * size + rows.emotion]
        return weighted_f1_counts((cells @ counts).T.reshape(-1, size, size))

    def _of(self, ids: Names) -> NDArray[np.float32]:
        if np.array_equal(ids, self.ids):
            return self.counts
        return self.counts[np.searchsorted(self.ids, ids)]


def interval(value: float, samples: Floats) -> Estimate:
    """Return a value with the 95 % interval of its resamples; without bounds where they are unknown."""
    if np.isnan(value) or np.isnan(samples).any():
        return Estimate(value)
    return Estimate(value, *percentiles(samples))


@lru_cache(maxsize=4)
def _drawn(size: int, count: int) -> NDArray[np.float32]:
    """Return the counts of all resamples [N, n]; drawing takes longer than what is done with them."""
    if size < 2:
        return np.zeros((size, count), np.float32)
    found = np.ascontiguousarray(draws(size, count, seed=0).T, np.float32)
    # Shared by all who ask.
    found.setflags(write=False)
    return found


def _over(total: NDArray[Any], count: NDArray[Any]) -> Floats:
    found: Floats = np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan).astype(np.float64)
    return found
