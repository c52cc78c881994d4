"""The meter: what steps took, and whether they starved."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affect.training.plan import Cut, padding

_LOG = logging.getLogger("affect")
_WAITING = 0.10
"""Share of the time spent waiting for data above which the run says so."""
_WARM = 10.0
"""Seconds of training a line on speed speaks of at least: the first ones are spent starting the workers."""


class Meter:
    """Times of steps: each for timing.jsonl, their sum for a line in the log."""

    def __init__(self, unit: str, workers: int):
        self.unit, self.workers = unit, workers
        self._timings: list[dict[str, float]] = []

    def time(
        self, lengths: NDArray[np.float64], cut: Cut, seconds: float, waited: float, memory: int
    ) -> dict[str, float]:
        """Return the timing of a step of all ranks that took `seconds`, `waited` of them for data.

        `lengths` are what all training rows cost [n].
        """
        timing = {
            "seconds": seconds,
            "units_per_second": float(lengths[cut.indices].sum()) / seconds,
            "padding": padding(lengths, [cut]),
            "waiting": waited / seconds,
            "memory_bytes": float(memory),
        }
        self._timings.append(timing)
        return timing

    def report(self, epoch: int, last: bool) -> None:
        """Log what the steps since the last such line took; short epochs share a line."""
        timings = self._timings
        seconds = sum(t["seconds"] for t in timings)
        if not timings or (seconds < _WARM and not last):
            return
        waiting = _mean(timings, "waiting")
        _LOG.info(
            "epoch %d: %.1f %s a second, padding %.0f %%, waiting for data %.0f %%, memory %.2f GB",
            epoch + 1, _mean(timings, "units_per_second"), self.unit, 100 * _mean(timings, "padding"),
            100 * waiting, max(t["memory_bytes"] for t in timings) / 2**30,
        )  # fmt: skip
        if waiting > _WAITING and seconds > _WARM:
            _LOG.warning(
                "%.0f %% of the time was spent waiting for data, read or augmented: raise --train.workers (now %d)",
                100 * waiting, self.workers,
            )  # fmt: skip
        timings.clear()


def _mean(timings: Sequence[dict[str, float]], name: str) -> float:
    return float(np.average([t[name] for t in timings], weights=[t["seconds"] for t in timings]))
