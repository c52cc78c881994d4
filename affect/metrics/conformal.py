"""Split conformal intervals: how far a prediction may be from its label, at a level that holds whatever the model.

Source: Vovk, Gammerman and Shafer 2005, Algorithmic learning in a random world; by group (Mondrian) as its section 4.5.
The level is that of new rows like those of the calibration: where rows of a group share an error, the number of groups
counts, not of rows (of 5 groups a 90 % interval covers 87 %, and in one case of ten 74 % or less). Legend: N
calibration rows, M new rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from affect.errors import AffectError
from affect.metrics.regression import Floats, valid


def fewest(level: float) -> int:
    """Return the calibration rows that an interval of `level` (.9) needs: with fewer it would be the whole line.

    Raises AffectError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise AffectError(f"the level of an interval lies between 0 and 1, not at {level:g}")
    # Rounded before, as 1 / (1 - .9) is 10.000000000000002.
    return math.ceil(round(1 / (1 - level), 9)) - 1


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Half widths of intervals at a level, of all calibration rows and of each group that has enough of them.

    Of normalised ones a half width is a multiple of the prediction's own spread.
    """

    level: float
    half_width: float
    rows: int
    groups: Mapping[str, float] = field(default_factory=dict)
    normalised: bool = False
    scale: tuple[float, float] | None = None
    """What intervals are clipped to."""
    sources: int | None = None
    """How many recordings, people or pictures the calibration rows are of, which is what the level rests on."""

    def __call__(
        self, prediction: ArrayLike, *, groups: Sequence[str] | None = None, spread: ArrayLike | None = None
    ) -> Floats:
        """Return the bounds [M, 2] of `prediction` [M]; a group that was not calibrated has the width of all rows.

        `spread` [M] is what the model says of its own error. Raises AffectError where it is missing or is no positive
        number.
        """
        x = np.asarray(prediction, dtype=np.float64)
        half = np.full(x.shape, self.half_width)
        if groups is not None:
            half = np.array([self.groups.get(group, self.half_width) for group in groups], np.float64)
        if self.normalised:
            half = half * _positive(spread, len(x))
        bounds: Floats = np.stack([x - half, x + half], axis=1)
        return bounds if self.scale is None else np.clip(bounds, *self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, from which `from_dict` makes it again."""
        return {**vars(self), "groups": dict(self.groups), "scale": self.scale and list(self.scale)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Return what `to_dict` gave."""
        return cls(**{**stored, "scale": stored["scale"] and tuple(stored["scale"])})


def calibrate(
    prediction: ArrayLike, target: ArrayLike, level: float = 0.9, *, groups: Sequence[str] | None = None,
    spread: ArrayLike | None = None, scale: tuple[float, float] | None = None, sources: Sequence[str] | None = None,
) -> Intervals:  # fmt: skip
    """Return intervals that hold a share `level` of new rows, by the errors of `prediction` [N] (NaN label: left out).

    Half a width is the ceil((n + 1) level)-th smallest error. `groups` [N] have widths of their own where they have
    enough rows; others, and unseen ones, have that of all rows. With the model's `spread` [N] errors are in its units.
    `sources` [N] (people, pictures) are counted. Raises AffectError for a level outside (0, 1), for too few rows and as
    `Intervals` does.
    """
    least = fewest(level)
    labelled = ~np.isnan(np.asarray(target, dtype=np.float64))
    x, y = valid(prediction, target)
    errors = np.abs(y - x)
    if spread is not None:
        errors = errors / _positive(spread, len(labelled))[labelled]
    if len(errors) < least:
        raise AffectError(
            f"an interval of {100 * level:g} % needs {least} calibration rows with a label, not {len(errors)}"
        )
    names = np.full(len(errors), "") if groups is None else np.asarray(groups, dtype=np.str_)[labelled]
    parts = {} if groups is None else {str(name): errors[names == name] for name in np.unique(names)}
    counted = None if sources is None else len(np.unique(np.asarray(sources, dtype=np.str_)[labelled]))
    return Intervals(
        level=level, half_width=_quantile(errors, level), rows=len(errors), normalised=spread is not None, scale=scale,
        sources=counted,
        groups={name: _quantile(part, level) for name, part in parts.items() if len(part) >= least},
    )  # fmt: skip


def coverage(bounds: ArrayLike, target: ArrayLike) -> float:
    """Return the share of labels `target` [M] (NaN: missing) within `bounds` [M, 2]; NaN without a label."""
    (low, high), y = np.asarray(bounds, dtype=np.float64).T, np.asarray(target, dtype=np.float64)
    inside = ((low <= y) & (y <= high))[~np.isnan(y)]
    return float(inside.mean()) if inside.size else math.nan


def _quantile(errors: Floats, level: float) -> float:
    # Rounded before, as a product just over a whole number would take the next one.
    place = math.ceil(round((len(errors) + 1) * level, 9))
    return float(np.sort(errors)[place - 1])


def _positive(spread: ArrayLike | None, rows: int) -> Floats:
    values = np.full(rows, np.nan) if spread is None else np.asarray(spread, dtype=np.float64)
    wrong = ~((values > 0) & np.isfinite(values))
    if values.shape != (rows,) or wrong.any():
        raise AffectError(
            f"normalised intervals need a positive spread of each of {rows} rows, not of {rows - wrong.sum()}"
        )
    return values
