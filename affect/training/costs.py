"""What a micro-batch costs: seconds to start it, and seconds by its rows' padded length, plain and squared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Self

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
"""Rounds in which samples that lie far off are weighed less."""
_FAR = 0.05
"""Relative error from which a sample weighs less (by Huber's weights)."""


@dataclass(frozen=True)
class Costs:
    """Seconds of a micro-batch forward and backward: start + rows * (second * longest + square * longest ** 2).

    `longest` is in the task's unit (seconds of audio, frames or rows).
    """

    start: float
    second: float
    square: float

    def rows(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the seconds that a row takes which is padded to each of the lengths [n]."""
        # Never zero: where the start is all that counts, fewest groups are best and a division must be possible.
        return np.maximum((self.second + self.square * lengths) * lengths, 1e-9 * max(self.start, 1e-9))

    def micro(self, rows: int, longest: float) -> float:
        """Return the seconds of a micro-batch of `rows` padded to the longest."""
        return self.start + rows * (self.second * longest + self.square * longest**2)

    def words(self, unit: str) -> str:
        """Return the costs as a log says them."""
        return (
            f"a micro-batch costs {1e3 * self.start:.3g} ms + {1e3 * self.second:.3g} ms per padded {unit} + "
            f"{1e3 * self.square:.3g} ms per row and square of it"
        )

    def stored(self) -> tuple[float, float, float]:
        """Return the three numbers."""
        return (self.start, self.second, self.square)

    @classmethod
    def read(cls, values: object) -> Self:
        """Return the costs of three stored numbers. Raises ValueError where they are something else."""
        numbers = list(values) if isinstance(values, (list, tuple)) else []
        if len(numbers) != 3 or not all(type(value) in (int, float) and 0 <= value < np.inf for value in numbers):
            raise ValueError(f"costs are {values!r}")
        return cls(*map(float, numbers))


def fit(samples: Sequence[tuple[int, float, float]]) -> tuple[Costs, float]:
    """Return the costs, none below zero, that explain (rows, longest, seconds) best, and their median relative error.

    Errors are relative, and a sample that lies far off counts less: another program may have taken the processor.
    """
    rows, longest, seconds = np.array(samples, dtype=np.float64).T
    # Divided by the time, so that each equals one.
    terms = np.stack([np.ones_like(rows), rows * longest, rows * longest**2], 1) / seconds[:, None]
    weights = np.ones_like(seconds)
    for _ in range(_ROUNDS):
        solution = _least_squares(terms * weights[:, None], weights)
        error = np.abs(terms @ solution - 1.0)
        weights = np.sqrt(np.minimum(1.0, _FAR / np.maximum(error, 1e-12)))
    start, second, square = solution.tolist()
    return Costs(start, second, square), float(np.median(error))


def _least_squares(terms: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the non-negative x [k] of least |terms @ x - values|, k few: the best of all sets of what is not zero."""
    k = terms.shape[1]
    # Columns of one scale: squares of frames are 1e6 times a start.
    scale = np.maximum(np.linalg.norm(terms, axis=0), 1e-300)
    best, least = np.zeros(k), np.inf
    for count in range(1, k + 1):
        for chosen in map(list, combinations(range(k), count)):
            x = np.linalg.lstsq(terms[:, chosen] / scale[chosen], values, rcond=None)[0]
            error = float(np.linalg.norm(terms[:, chosen] / scale[chosen] @ x - values))
            # A larger set must earn its place: what differs by rounding alone is the same.
            if (x >= 0).all() and error < least * (1 - 1e-9):
                best, least = np.zeros(k), error
                best[chosen] = x / scale[chosen]
    return best
