"""What the models of an experiment (or a trivial one beside them) say of an evaluation, scored and resampled.

Legend: R rows of an evaluation, G groups of them, n resamples of the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError
from affect.metrics.bootstrap import draws, percentiles
from affect.report.rows import Record, Rows
from affect.task import Measure

Floats = NDArray[np.float64]
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
    """A score of each seed and fold (fold 0: of all folds together)."""

    cells: Mapping[tuple[int, int], float]

    @cached_property
    def by_fold(self) -> dict[int, float]:
        """The score of each fold, averaged over the seeds where it is known; fold 0 only where it is all there is."""
        folds = sorted({fold for _, fold in self.cells} - {0}) or sorted({fold for _, fold in self.cells})
        return {fold: spread(v for (_, f), v in self.cells.items() if f == fold)[0] for fold in folds}

    @cached_property
    def by_seed(self) -> dict[int, float]:
        """The mean over folds of each seed."""
        seeds = sorted({seed for seed, _ in self.cells})
        return {seed: spread(v for (s, _), v in self.cells.items() if s == seed)[0] for seed in seeds}

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


@dataclass(frozen=True, kw_only=True)
class System:
    """Rows by seed, fold and id; where all folds predict the same rows, their mean as fold 0 (`shared`)."""

    units: Mapping[int, Mapping[int, Rows]]
    shared: bool = False
    _keyed: dict[tuple[int, bool], dict[Key, Record]] = field(default_factory=dict, repr=False)

    @cached_property
    def repeated(self) -> bool:
        """Whether an id is in several folds of a seed, so that it takes the fold to name a row."""
        return any(a.keys() & b.keys() for folds in self.units.values() for a, b in combinations(folds.values(), 2))

    def keyed(self, seed: int, repeated: bool) -> dict[Key, Record]:
        """Return the rows of a seed by key."""
        if (seed, repeated) not in self._keyed:
            folds = self.units[seed].items()
            self._keyed[seed, repeated] = {
                (f if repeated else 0, i): row for f, rows in folds for i, row in rows.items()
            }
        return self._keyed[seed, repeated]

    def keys(self, repeated: bool) -> dict[Key, Record]:
        """Return a row for each key that some seed has."""
        return {key: row for seed in self.units for key, row in self.keyed(seed, repeated).items()}

    def rows(self) -> list[Record]:
        """Return the rows of all seeds and folds."""
        return [row for folds in self.units.values() for rows in folds.values() for row in rows.values()]

    @property
    def size(self) -> int:
        """How many rows one seed predicts."""
        return max((sum(map(len, folds.values())) for folds in self.units.values()), default=0)

    def cut(
        self, keep: Callable[[int, int, str], bool], change: Callable[[Key, Record], Record] | None = None
    ) -> System:
        """Return the rows of which `keep` says yes by seed, fold and id, changed where `change` is given."""
        units: dict[int, dict[int, Rows]] = {}
        for seed, folds in self.units.items():
            for fold, rows in folds.items():
                kept = {i: change((fold, i), row) if change else row for i, row in rows.items() if keep(seed, fold, i)}
                if kept:
                    units.setdefault(seed, {})[fold] = kept
        return System(units=units, shared=self.shared)

    def scored(self, measure: Measure) -> Scored:
        """Return the score of each seed and fold."""
        return Scored(
            {
                (s, f): score(measure, list(rows.values()))
                for s, folds in self.units.items()
                for f, rows in folds.items()
            }
        )

    def pooled(self, measure: Measure) -> float:
        """Return the score of all rows of a seed together, the mean over seeds."""
        merged = [[row for rows in folds.values() for row in rows.values()] for folds in self.units.values()]
        return float(np.mean([score(measure, rows) for rows in merged])) if merged else math.nan


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
        found = {}
        for seed, folds in system.units.items():
            # A row that this model, or this fold, does not have takes part in the drawing all the same.
            sets = [system.keyed(seed, self.repeated)] if pooled else [
                {(fold if self.repeated else 0, i): row for i, row in rows.items()} for fold, rows in folds.items()
            ]  # fmt: skip
            each = [self._replicates([rows.get(key, _ABSENT) for key in self.keys], measure) for rows in sets]
            known = [values for values in each if values is not None]
            if len(known) < len(each) or not known:
                return {}
            found[seed] = np.mean(known, axis=0)
        return found

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


def estimate(value: float, samples: Samples) -> Estimate:
    """Return a value (a mean over seeds) with the interval of its replicates."""
    return interval(value, np.mean(list(samples.values()), axis=0) if samples else None)


def interval(value: float, samples: Floats | None) -> Estimate:
    """Return a value with the percentile interval of replicates [n]; without bounds where one is unknown."""
    if samples is None or math.isnan(value) or np.isnan(samples).any():
        return Estimate(value)
    return Estimate(value, *percentiles(samples))


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation (of a sample; NaN for one value) of the values that are known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan


def _group(row: Record, unit: str) -> str:
    if unit == ROW:
        return str(row["id"])
    # Dialogues of different sessions may bear the same name.
    return f"{row.get('session', '')}/{row.get(unit)}" if unit == "dialogue" else str(row.get(unit))
