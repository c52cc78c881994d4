"""What the models of an experiment (or a trivial one beside them) say of an evaluation, scored and resampled.

Legend: R rows of an evaluation, G groups of them, n resamples of the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError
from affect.metrics.bootstrap import draws, percentiles
from affect.report.rows import Record, Rows
from affect.task import Measure

Floats = NDArray[np.float64]
Cell = tuple[int, int]
"""A seed and a fold (0: all folds together)."""
Key = tuple[int, str]
"""A row's fold and id; fold 0 where an id alone is enough."""
Samples = dict[int, Floats]
"""Replicates [n] by seed."""

COUNT = 1000
ROW = "row"
_ABSENT: Record = {"id": "", "prediction": {}, "target": {}}
"""Stands for a row that a model does not have."""


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its 95 % interval (NaN where there is none)."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def bounded(self) -> bool:
        """Whether it has an interval."""
        return not math.isnan(self.low)

    def shown(self, shape: Callable[[float], str]) -> str:
        """Return the value with its interval, each formed by `shape`."""
        return f"{shape(self.value)} {self.bounds(shape)}".rstrip()

    def bounds(self, shape: Callable[[float], str]) -> str:
        """Return the interval alone, "" where there is none."""
        return f"[{shape(self.low)}, {shape(self.high)}]" if self.bounded and not math.isnan(self.value) else ""


@dataclass(frozen=True)
class Scored:
    """A score of each seed and fold."""

    cells: Mapping[Cell, float]

    @cached_property
    def by_fold(self) -> dict[int, float]:
        """The score of each fold, averaged over the seeds where it is known; fold 0 only where it is all there is."""
        means = self._means(1)
        return {fold: value for fold, value in means.items() if fold} or means

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """The mean over folds of each seed."""
        return self._means(0)

    @staticmethod
    def together(each: Sequence[Scored]) -> Scored:
        """Return the mean of the scores of several evaluations, by seed."""
        return Scored({(seed, 0): float(mean) for seed, mean in _means_by_seed([one.by_seed for one in each]).items()})

    def _means(self, axis: int) -> dict[int, float]:
        names = sorted({cell[axis] for cell in self.cells})
        return {name: spread(v for cell, v in self.cells.items() if cell[axis] == name)[0] for name in names}

    @property
    def mean(self) -> float:
        """The mean over folds, seeds averaged first."""
        return spread(self.by_fold.values())[0]

    @property
    def over_seeds(self) -> float:
        """The deviation (of a sample) over seeds."""
        return spread(self.by_seed.values())[1]

    @property
    def over_folds(self) -> float:
        """The deviation (of a sample) over folds, seeds averaged first."""
        return spread(self.by_fold.values())[1]


@dataclass(frozen=True)
class Sampled:
    """A score (of all rows together, or the mean over folds), that of each seed and fold, and its replicates."""

    value: float
    scored: Scored
    samples: Samples

    @property
    def estimate(self) -> Estimate:
        """The score with its interval."""
        return interval(self.value, _average(self.samples))

    @staticmethod
    def together(each: Sequence[Sampled]) -> Sampled:
        """Return the mean of the scores of several evaluations."""
        value, scored = float(np.mean([one.value for one in each])), Scored.together([one.scored for one in each])
        return Sampled(value, scored, _means_by_seed([one.samples for one in each]))

    def of(self, seeds: Collection[int]) -> Sampled:
        """Return the mean over folds of these seeds alone."""
        scored = Scored({cell: value for cell, value in self.scored.cells.items() if cell[0] in seeds})
        samples = {seed: values for seed, values in self.samples.items() if seed in seeds}
        return Sampled(spread(scored.by_seed.values())[0], scored, samples)

    def minus(self, other: Sampled, pooled: bool) -> tuple[Estimate, dict[int, float]]:
        """Return the difference with its interval, and the known differences of folds (`pooled`) or else seeds."""
        a, b = _average(self.samples), _average(other.samples)
        here, there = ((s.by_fold if pooled else s.by_seed) for s in (self.scored, other.scored))
        pairs = {name: here[name] - there[name] for name in here if name in there}
        difference = interval(self.value - other.value, None if a is None or b is None else a - b)
        return difference, {name: value for name, value in pairs.items() if not math.isnan(value)}


@dataclass(frozen=True, kw_only=True)
class System:
    """Rows by seed and fold; where all folds predict the same rows, their mean as fold 0 (`shared`)."""

    units: Mapping[Cell, Rows]
    shared: bool = False

    @cached_property
    def repeated(self) -> bool:
        """Whether an id is in several folds of a seed, so that it takes the fold to name a row."""
        return any(a[0] == b[0] and self.units[a].keys() & self.units[b].keys() for a, b in combinations(self.units, 2))

    def keyed(self, repeated: bool) -> dict[int, dict[Key, Record]]:
        """Return the rows by seed and key."""
        by_seed: dict[int, dict[Key, Record]] = {}
        for (seed, fold), rows in self.units.items():
            by_seed.setdefault(seed, {}).update({(fold if repeated else 0, i): row for i, row in rows.items()})
        return by_seed

    def keys(self, repeated: bool) -> dict[Key, Record]:
        """Return a row for each key that some seed has."""
        return {key: row for rows in self.keyed(repeated).values() for key, row in rows.items()}

    @cached_property
    def by_seed(self) -> dict[int, list[Record]]:
        """The rows of all folds of each seed."""
        return {seed: list(rows.values()) for seed, rows in self.keyed(True).items()}

    def rows(self) -> list[Record]:
        """Return the rows of all seeds and folds."""
        return [row for rows in self.units.values() for row in rows.values()]

    @property
    def size(self) -> int:
        """How many rows one seed predicts."""
        return max(map(len, self.by_seed.values()), default=0)

    def cut(self, change: Callable[[Cell, Record], Record | None]) -> System:
        """Return the rows as `change` has them by seed and fold, without those of which it makes None."""
        cut = {
            cell: {i: kept for i, row in rows.items() if (kept := change(cell, row)) is not None}
            for cell, rows in self.units.items()
        }
        return System(units={cell: rows for cell, rows in cut.items() if rows}, shared=self.shared)

    def within(self, other: System) -> System:
        """Return the rows that another one has of the same seed and fold; itself where that has all of them."""
        if all(rows.keys() <= other.units.get(cell, {}).keys() for cell, rows in self.units.items()):
            return self
        return self.cut(lambda cell, row: row if row["id"] in other.units.get(cell, {}) else None)

    def scored(self, measure: Measure) -> Scored:
        """Return the score of each seed and fold."""
        return Scored({cell: score(measure, list(rows.values())) for cell, rows in self.units.items()})

    def pooled(self, measure: Measure) -> float:
        """Return the score of all rows of a seed together, the mean over seeds."""
        each = [score(measure, rows) for rows in self.by_seed.values()]
        return float(np.mean(each)) if each else math.nan

    def sampled(self, measure: Measure, groups: Groups, pooled: bool) -> Sampled:
        """Return the score of all rows together (`pooled`), else the mean over folds, with its replicates."""
        scored = self.scored(measure)
        value = self.pooled(measure) if pooled else scored.mean
        return Sampled(value, scored, groups.samples(self, measure, pooled))


@dataclass(frozen=True)
class Groups:
    """What the bootstrap draws: all rows of an evaluation in order, each one's group [R] and what groups are."""

    keys: list[Key]
    index: NDArray[np.intp]
    unit: str
    repeated: bool

    @property
    def count(self) -> int:
        """The number of groups."""
        return int(self.index.max()) + 1 if len(self.index) else 0

    @classmethod
    def of(cls, rows: Mapping[Key, Record], kinds: Sequence[str], repeated: bool) -> Groups:
        """Return the groups of rows by the first of `kinds` that joins them."""
        unit = unit_of(list(rows.values()), kinds)
        keys = sorted(rows)
        names = np.array([_group(rows[key], unit) for key in keys], np.str_)
        # The same groups give the same resamples, in whatever order rows lie.
        return cls(keys, np.unique(names, return_inverse=True)[1], unit, repeated)

    def samples(self, system: System, measure: Measure, pooled: bool) -> Samples:
        """Return the replicates of a measure by seed, of pooled rows or the mean over folds; {}: none."""
        if self.count < 2:
            return {}
        # A row that this model, or this fold, does not have takes part in the drawing all the same.
        parts = [system] if pooled else [System(units={cell: rows}) for cell, rows in system.units.items()]
        by_seed: dict[int, list[Floats]] = {}
        for seed, rows in (item for part in parts for item in part.keyed(self.repeated).items()):
            values = self._replicates([rows.get(key, _ABSENT) for key in self.keys], measure)
            if values is None:
                return {}
            by_seed.setdefault(seed, []).append(values)
        return {seed: np.mean(values, axis=0) for seed, values in by_seed.items()}

    def _replicates(self, rows: list[Record], measure: Measure) -> Floats | None:
        """Return the replicates [n] of rows [R]; None where the rows have no score."""
        try:
            if measure.replicates is not None:
                return measure.replicates(rows, self.index)
            members = np.split(np.argsort(self.index, kind="stable"), np.cumsum(np.bincount(self.index))[:-1])
            there = [[rows[int(k)] for k in places if rows[int(k)] is not _ABSENT] for places in members]
            # Drawn as the measures with replicates of their own draw, so that differences of both are paired.
            return np.array([
                measure.score([row for g in np.flatnonzero(counts) for row in there[g] * int(counts[g])])
                for counts in draws(len(members), COUNT, 0)
            ])  # fmt: skip
        except (AffectError, ValueError, ZeroDivisionError):
            return None


def unit_of(rows: Sequence[Record], kinds: Sequence[str]) -> str:
    """Return what the bootstrap draws: the first of `kinds` that all rows have and that joins rows, else `ROW`.

    Where each utterance, or all that a speaker says, is one dialogue, the corpus has none.
    """
    count = len({row["id"] for row in rows})
    for kind in kinds:
        if any(row.get(kind) in (None, "") for row in rows):
            continue
        names = {_group(row, kind) for row in rows}
        spoken = {(_group(row, kind), str(row.get("speaker"))) for row in rows}
        monologue = kind == "dialogue" and len(spoken) == len(names) == len({str(row.get("speaker")) for row in rows})
        if not monologue and 1 < len(names) < count:
            return kind
    return ROW


def score(measure: Measure, rows: Sequence[Record]) -> float:
    """Return the score of rows, NaN where they have none: no label, or a prediction that is no number."""
    try:
        return float(measure.score(rows))
    except (AffectError, ValueError, KeyError, TypeError, ZeroDivisionError):
        # Which predictions are missing is a flag of its own.
        return math.nan


def interval(value: float, samples: Floats | None) -> Estimate:
    """Return a value with the percentile interval of replicates [n]; without bounds where one is unknown."""
    if samples is None or math.isnan(value) or np.isnan(samples).any():
        return Estimate(value)
    return Estimate(value, *percentiles(samples))


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation (of a sample; NaN for one value) of the values that are known."""
    present = [value for value in values if not math.isnan(value)]
    if not present:
        return math.nan, math.nan
    return float(np.mean(present)), float(np.std(present, ddof=1)) if len(present) > 1 else math.nan


def _means_by_seed(each: Sequence[Mapping[int, Any]]) -> dict[int, Any]:
    """Return the means of numbers, or of replicates [n], for each seed that all have."""
    seeds = sorted(set.intersection(*map(set, each)))
    return {seed: np.mean([one[seed] for one in each], axis=0) for seed in seeds}


def _average(samples: Samples) -> Floats | None:
    """Return the mean over seeds of replicates [n]."""
    return np.mean(list(samples.values()), axis=0) if samples else None


def _group(row: Record, unit: str) -> str:
    if unit == ROW:
        return str(row["id"])
    # Dialogues of different sessions may bear the same name.
    return f"{row.get('session', '')}/{row.get(unit)}" if unit == "dialogue" else str(row.get(unit))
