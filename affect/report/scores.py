"""Scores of runs, recomputed from their predictions: by fold, pooled over folds, and against the baselines.

Legend: R rows (an utterance in a fold's test part), n resamples of the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from affect.metrics import bootstrap, classification
from affect.metrics.bootstrap import percentiles
from affect.metrics.regression import Floats, ccc
from affect.report.runs import Record, Run

NETWORK = "network"
MEAN = "mean"
"""The mean over its targets of a run's CCCs (of a categorical target: its unweighted accuracy)."""

CCC = "CCC"
UA = "UA"
_ORDER = ("valence", "arousal", "dominance")
Names = NDArray[np.str_]


class Targets(list[str]):
    """Names of targets in the report's order: valence, arousal, dominance, then others by name."""

    classes: frozenset[str]
    """Those of them that are categorical: their labels are names of classes."""

    def __init__(self, names: Iterable[str] = (), classes: Iterable[str] = ()):
        super().__init__(sorted(names, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n)))
        self.classes = frozenset(classes)


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its 95 % interval (NaN where there is none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Score of a system over all rows of its runs: the mean over seeds, with its bootstrap replicates [n]."""

    values: dict[str, float]
    samples: dict[str, Floats]

    def estimate(self, target: str) -> Estimate:
        """Return the score of a target (or MEAN) with its interval."""
        samples = self.samples.get(target)
        return Estimate(self.values[target], *(percentiles(samples) if samples is not None else ()))

    def above(self, other: Pool, target: str) -> Estimate:
        """Return this pool's score minus the other's with its paired interval."""
        first, second = self.samples.get(target), other.samples.get(target)
        bounds = () if first is None or second is None else percentiles(first - second)
        return Estimate(self.values[target] - other.values[target], *bounds)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Everything the report says of the finished runs' scores."""

    runs: list[Run]
    _parts: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict, repr=False)
    _pools: dict[tuple[str, str, tuple[str, ...]], Pool] = field(default_factory=dict, repr=False)

    @cached_property
    def targets(self) -> Targets:
        """Targets with a label in some test part, else (where no run has predictions) with a recorded test score."""
        rows = [row for run in self.runs for row in run.test.values()]
        labels = [(name, value) for row in rows for name, value in row["target"].items() if _is_known(value)]
        if labels:
            return Targets({n for n, _ in labels}, {n for n, value in labels if isinstance(value, str)})
        found = [name for run in self.runs for name in section(section(run.end, "scores"), "test")]
        named = {
            kind: {n.removeprefix(f"{kind}_") for n in found if n.startswith(f"{kind}_")} for kind in ("ccc", "ua")
        }
        return Targets(named["ccc"] | named["ua"], named["ua"] - named["ccc"])

    def measure(self, target: str) -> str:
        """Return what a target is scored by: "UA" where its labels are classes, else "CCC"."""
        return UA if target in self.targets.classes else CCC

    def score(self, rows: Iterable[Record], target: str) -> float:
        """Return the CCC or UA of rows (NaN where a labelled one has no prediction)."""
        return _score(*arrays(rows, target)) if self.measure(target) == CCC else _score(*names(rows, target))

    @cached_property
    def unit(self) -> str:
        """What the bootstrap draws: dialogue, else speaker, else session, else row.

        A key serves when all rows have it and it joins rows. Where each utterance, or all that a speaker says, is
        one dialogue, the corpus has none.
        """
        rows = [row for run in self.runs for row in run.test.values()]
        count = len({row["id"] for row in rows})
        known = {key: [_group(row, key) for row in rows] for key in ("dialogue", "speaker", "session")}
        spoken = len(set(zip(known["dialogue"], known["speaker"], strict=True)))
        for key, names in known.items():
            whole = all(row.get(key) not in (None, "") for row in rows)
            monologue = key == "dialogue" and spoken == len(set(names)) == len(set(known["speaker"]))
            if whole and not monologue and 1 < len(set(names)) < count:
                return key
        return "row"

    @cached_property
    def groups(self) -> int:
        """The number of groups the bootstrap draws from."""
        return len({_group(row, self.unit) for run in self.runs for row in run.test.values()})

    @cached_property
    def baselines(self) -> list[str]:
        """Baselines that some finished run has: mean, ridge, svr, then others by name."""
        order = ("mean", "ridge", "svr")
        names = {name for run in self.runs for name, rows in run.baselines.items() if rows}
        return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))

    def part(self, run: Run, split: str) -> dict[str, float]:
        """Return a run's scores by target and MEAN on a split: of its predictions, else as recorded (NaN: unknown)."""
        key = (run.name, split)
        if key not in self._parts:
            rows = run.predictions.get(split, {}).values()
            found = {t: self.score(rows, t) if rows else self.recorded(run, split, t) for t in self.targets}
            self._parts[key] = with_mean(found)
        return self._parts[key]

    def recorded(self, run: Run, split: str, target: str) -> float:
        """Return the score that the trainer (or the paper) wrote of a run (NaN: none)."""
        return recorded(run, split, target, self.measure(target))

    def covered(self, name: str) -> list[Run]:
        """Return the runs that `name` (NETWORK or a baseline) predicted rows of."""
        return [run for run in self.runs if _system(run, name)]

    def pool(self, name: str, runs: list[Run] | None = None, beside: str | None = None) -> Pool:
        """Return the pooled scores of NETWORK or a baseline over `runs`, on the rows that `beside` has too."""
        chosen = [run for run in (self.covered(name) if runs is None else runs) if _system(run, name)]
        key = (name, beside or name, tuple(run.name for run in chosen))
        if key not in self._pools:
            self._pools[key] = self._pool(name, chosen, beside)
        return self._pools[key]

    def _pool(self, name: str, chosen: list[Run], beside: str | None) -> Pool:
        others = {run.name: _system(run, beside or name) for run in chosen}
        rows = {run.name: {i: row for i, row in _system(run, name).items() if i in others[run.name]} for run in chosen}
        # One list of (fold, id) for all seeds and systems, so that the same resample means the same groups.
        known = {(run.fold, i): _group(row, self.unit) for run in self.runs for i, row in run.test.items()}
        keys = sorted(known)
        # Numbered once: names are slow to sort.
        groups = np.unique(np.array([known[key] for key in keys]), return_inverse=True)[1]
        values: dict[str, list[float]] = {target: [] for target in self.targets}
        samples: dict[str, list[Floats]] = {target: [] for target in self.targets}
        for seed in sorted({run.seed for run in chosen}):
            merged = {(r.fold, i): row for r in chosen if r.seed == seed for i, row in rows[r.name].items()}
            for target in self.targets:
                value, sample = self._resampled(groups, [merged.get(key, _ABSENT) for key in keys], target)
                values[target].append(value)
                samples[target] += sample
        return _pooled(values, samples)

    def _resampled(self, groups: NDArray[np.intp], rows: list[Record], target: str) -> tuple[float, list[Floats]]:
        """Return the score of rows, and its replicates where there are groups to draw from."""
        several = len(groups) > 0 and bool(groups.max() > 0)
        if self.measure(target) == CCC:
            p, t = arrays(rows, target)
            # A row of another seed's or system's is no prediction that failed.
            p = np.where([row is _ABSENT for row in rows], 0.0, p)
            value = _score(p, t)
            return value, [bootstrap.replicates(groups, p, t)] if several and np.isfinite(p).all() else []
        x, y = names(rows, target)
        value = _score(x, y)
        return value, [classification.replicates(groups, x, y)] if several and not math.isnan(value) else []


def recorded(run: Run, split: str, target: str, measure: str = CCC) -> float:
    """Return the score by a measure that a run has recorded in its end (NaN: none)."""
    value = section(section(run.end, "scores"), split).get(f"{measure.lower()}_{target}")
    return float(value) if isinstance(value, int | float) else math.nan


def section(record: Record, name: str) -> Record:
    """Return a nested object of a record, empty where there is none."""
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def with_mean(values: dict[str, float]) -> dict[str, float]:
    """Return scores by target with their mean added as MEAN (NaN where one is missing)."""
    return values | {MEAN: float(np.mean(list(values.values()))) if values else math.nan}


def spread(values: Iterable[float]) -> tuple[float, float]:
    """Return mean and standard deviation (of a sample; NaN for one value) of the values that are known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan


def by_fold(runs: list[Run], value: Callable[[Run], float]) -> dict[int, float]:
    """Return a value of each fold, averaged over the seeds where it is known.

    Fold 0, a mean whose folds are unknown, is left out, unless it is all there is.
    """
    folds = sorted({run.fold for run in runs} - {0}) or sorted({run.fold for run in runs})
    return {fold: spread(value(run) for run in runs if run.fold == fold)[0] for fold in folds}


def arrays(rows: Iterable[Record], target: str) -> tuple[Floats, Floats]:
    """Return predictions [R] and targets [R] (NaN: missing) of a target whose labels are numbers."""
    known = list(rows)
    p, t = (
        np.array([v if isinstance(v := row[side].get(target), float) else math.nan for row in known], np.float64)
        for side in ("prediction", "target")
    )
    return p, t


def names(rows: Iterable[Record], target: str) -> tuple[Names, Names]:
    """Return predicted and labelled classes [R] (empty: missing) of a categorical target."""
    known = list(rows)
    x, y = (
        np.array([v if isinstance(v := row[side].get(target), str) else "" for row in known], np.str_)
        for side in ("prediction", "target")
    )
    return x, y


def held_out(run: Run) -> str:
    """Return which session or speaker a run's test part holds, as the recipe's split has it."""
    rows = run.test.values()
    split = str(section(run.recipe, "data").get("split", ""))
    keys = ("speaker", "session") if "speaker" in split else ("session", "speaker")
    for key in keys:
        names = sorted({str(row[key]) for row in rows if row.get(key) not in (None, "")})
        if 0 < len(names) <= 2:
            return " ".join(names)
        if names and key == keys[-1]:
            return f"{len(names)} {key}s"
    return ""


_ABSENT: Record = {"prediction": {}, "target": {}}
"""Stands for a row that a run does not have."""


def _system(run: Run, name: str) -> dict[str, Record]:
    return run.test if name == NETWORK else run.baselines.get(name, {})


def _group(row: Record, unit: str) -> str:
    if unit == "row":
        return str(row["id"])
    # Dialogues of different sessions may bear the same name.
    return f"{row.get('session', '')}/{row.get(unit)}" if unit == "dialogue" else str(row.get(unit))


def _is_known(value: float | str) -> bool:
    return isinstance(value, str) or not math.isnan(value)


def _score(p: Floats | Names, t: Floats | Names) -> float:
    """Return CCC or UA; NaN where a prediction that it needs is missing (the flags name it)."""
    if p.dtype.kind == "U":
        return math.nan if ((p == "") & (t != "")).any() else classification.unweighted_accuracy(p, t)
    return ccc(p, t) if np.isfinite(np.asarray(p, np.float64)).all() else math.nan


def _pooled(values: dict[str, list[float]], samples: dict[str, list[Floats]]) -> Pool:
    means = {target: float(np.mean(v)) if v else math.nan for target, v in values.items()}
    complete = {t: np.mean(s, axis=0) for t, s in samples.items() if s and len(s) == len(values[t])}
    if len(complete) == len(means) and complete:
        complete[MEAN] = np.mean(list(complete.values()), axis=0)
    return Pool(values=with_mean(means), samples=complete)
