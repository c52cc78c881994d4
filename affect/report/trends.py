"""Where the course of a training goes: does a score fall, stand still, or a loss rise.

Legend: E evaluations, N logged steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from affect.metrics.regression import Floats

FALL = 0.03
"""A score that ends by more than this under its best falls."""

STILL = 0.01
"""A score that rises by less than this stands still however smooth its course is; by more than FALL it rises."""

RISE_TIMES = 1.5
_SMOOTH = 3
_FEWEST_FALL = 3
_FEWEST_STILL = 6
_BLOCKS = 20
_LEAST_BLOCK = 5
_NOISES = 3.0
_ERRORS = 2.5


@dataclass(frozen=True)
class Move:
    """From which value to which a course went, and at which of its points the first was."""

    start: float
    end: float
    at: int = 0


def fall(values: Floats) -> Move | None:
    """Return from where a score [E] fell to its end, wherever its best was; None where it did not.

    From six evaluations on means of three neighbours are compared, and their noise counts too: the best of many
    evaluations lies above the others by chance alone.
    """
    if len(values) < _FEWEST_FALL:
        return None
    few = len(values) < 2 * _SMOOTH
    size, least = (1, FALL - 1e-9) if few else (_SMOOTH, max(FALL, _NOISES * noise(values) * math.sqrt(2 / _SMOOTH)))
    means = np.convolve(values, np.ones(size) / size, mode="valid")
    top = int(means.argmax())
    best = top + int(values[top : top + size].argmax())
    return Move(float(values[best]), float(means[-1]), best) if means[top] - means[-1] > least else None


def still(values: Floats) -> Move | None:
    """Return the means of the first and the last third of a score [E] that stands still; None where it does not.

    It does where the last third is no better than the first within the noise of neighbouring evaluations.
    """
    if len(values) < _FEWEST_STILL:
        return None
    size = len(values) // 3
    first, last = float(values[:size].mean()), float(values[-size:].mean())
    error = noise(values) * math.sqrt(2 / size)
    return Move(first, last) if last - first <= min(max(STILL, _ERRORS * error), FALL) else None


def rise(losses: Floats) -> Move | None:
    """Return from where a loss [N] rose to its end, and the step's place; None where it did not.

    Medians of neighbouring steps are compared: the last of them with the lowest. A loss that comes back by less than
    half of what it fell by has not risen; one that is not positive has no ratio.
    """
    medians, size = blocks(losses)
    if len(medians) < 3:
        return None
    low = int(medians.argmin())
    best, last, first = float(medians[low]), float(medians[-1]), float(medians[0])
    least = max((first - best) / 2, _NOISES * noise(medians))
    return Move(best, last, low * size) if best > 0 and last > RISE_TIMES * best and last - best > least else None


def blocks(values: Floats) -> tuple[Floats, int]:
    """Return the medians of neighbouring values, and how many each is of: the loss of one small batch says little."""
    size = max(_LEAST_BLOCK, math.ceil(len(values) / _BLOCKS))
    starts = range(0, len(values) - size + 1, size)
    medians: Floats = np.array([np.median(values[i : i + size]) for i in starts], np.float64)
    return medians, size


def noise(values: Floats) -> float:
    """Return the deviation of single values around their course, told by second differences (a slope is no noise)."""
    bends = np.abs(np.diff(values, 2))
    return float(1.4826 * np.median(bends) / math.sqrt(6)) if len(bends) else 0.0
