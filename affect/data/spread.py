"""How a feature's numbers differ over what is trained on, and what of it misleads.

Legend: D numbers of a vector or frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONSTANT, SCALED = "constant features", "wildly scaled features"

_STILL = 0.5
"""Share of a stream's numbers that never change from which on it is called constant."""
_LOW, _HIGH, _MOST = 1e-3, 100.0, 1000.0
"""Medians of deviations from which a layer as it is initialised learns, and the largest, itself or in medians."""
FEWEST = 3
"""Vectors or clips of a feature of which anything is told."""


@dataclass(frozen=True)
class Spread:
    """Of `count` vectors or clips to train on: how many of `width` numbers are the `same` in all of them.

    Of the other numbers `median` and `largest` are those of their deviations, 0 where there are none.
    """

    count: int
    width: int
    same: int
    median: float
    largest: float

    @classmethod
    def of(cls, deviations: NDArray[np.floating[Any]], count: int) -> Spread:
        """Return the spread of numbers by their deviations [D], exactly 0 of those that never change."""
        moving = deviations[deviations > 0]
        median, largest = (float(np.median(moving)), float(moving.max())) if len(moving) else (0.0, 0.0)
        return cls(count, len(deviations), len(deviations) - len(moving), median, largest)

    @property
    def told(self) -> bool:
        """Whether there are enough vectors or clips to tell anything."""
        return self.count >= FEWEST

    def odd(self, what: str) -> Iterator[tuple[str, str]]:
        """Yield what misleads, as the kind of a sign and its words; `what` are counted."""
        if self.told and self.same >= _STILL * self.width:
            words = f"{self.same:,} of its {self.width:,} numbers are the same in all {self.count:,} training {what}"
            yield CONSTANT, words
        wild = not _LOW <= self.median <= _HIGH or self.largest > _MOST * min(1.0, self.median)
        if self.told and self.same < self.width and wild:
            words = f"median {self.median:.3g}, largest {self.largest:.3g}"
            yield SCALED, f"deviations of its numbers over training: {words}"
