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

from affect.metrics.bootstrap import percentiles, replicates
from affect.metrics.regression import Floats, ccc
from affect.report.runs import Record, Run

NETWORK = "network"
MEAN = "mean"
"""The mean of a run's CCCs over its targets."""

_ORDER = ("valence", "arousal", "dominance")


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its 95 % interval (NaN where there is none)."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Pool:
    """CCC of a system over all rows of its runs: the mean over seeds, with its bootstrap replicates [n]."""

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
    def targets(self) -> list[str]:
        """Targets with a label in some test part: valence, arousal, dominance, then others by name."""
        rows = (row for run in self.runs for row in run.test.values())
        names = {name for row in rows for name, value in row["target"].items() if not math.isnan(value)}
        return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))

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
        """Return a run's CCC by target and MEAN on a split, from its predictions, else as recorded (NaN: unknown)."""
        key = (run.name, split)
        if key not in self._parts:
            rows = run.predictions.get(split, {}).values()
            found = {t: _score(rows, t) if rows else recorded(run, split, t) for t in self.targets}
            self._parts[key] = with_mean(found)
        return self._parts[key]

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
        groups = np.array([known[key] for key in keys])
        values: dict[str, list[float]] = {target: [] for target in self.targets}
        samples: dict[str, list[Floats]] = {target: [] for target in self.targets}
        for seed in sorted({run.seed for run in chosen}):
            merged = {(r.fold, i): row for r in chosen if r.seed == seed for i, row in rows[r.name].items()}
            for target in self.targets:
                p, t = _aligned(merged, keys, target)
                # A NaN prediction has no score; the flags name it.
                finite = bool(np.isfinite(p).all())
                values[target].append(ccc(p, t) if finite else math.nan)
                if finite and len(np.unique(groups)) > 1:
                    samples[target].append(replicates(groups, p, t))
        return _pooled(values, samples)


def recorded(run: Run, split: str, target: str) -> float:
    """Return the CCC that the trainer wrote at a run's end (NaN: none)."""
    value = section(section(run.end, "scores"), split).get(f"ccc_{target}")
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
    """Return a value of each fold, averaged over the seeds where it is known."""
    folds = sorted({run.fold for run in runs})
    return {fold: spread(value(run) for run in runs if run.fold == fold)[0] for fold in folds}


def arrays(rows: Iterable[Record], target: str) -> tuple[Floats, Floats]:
    """Return predictions [R] and targets [R] (NaN: missing) of a target."""
    pairs = [(row["prediction"].get(target, math.nan), row["target"].get(target, math.nan)) for row in rows]
    both: NDArray[np.float64] = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


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


def _system(run: Run, name: str) -> dict[str, Record]:
    return run.test if name == NETWORK else run.baselines.get(name, {})


def _group(row: Record, unit: str) -> str:
    if unit == "row":
        return str(row["id"])
    # Dialogues of different sessions may bear the same name.
    return f"{row.get('session', '')}/{row.get(unit)}" if unit == "dialogue" else str(row.get(unit))


def _score(rows: Iterable[Record], target: str) -> float:
    p, t = arrays(rows, target)
    return ccc(p, t) if np.isfinite(p).all() else math.nan


def _aligned(rows: dict[tuple[int, str], Record], keys: list[tuple[int, str]], target: str) -> tuple[Floats, Floats]:
    """Return predictions and targets in the order of `keys`; a row that is absent has no label."""
    absent: Record = {"prediction": {target: 0.0}, "target": {}}
    return arrays((rows.get(key, absent) for key in keys), target)


def _pooled(values: dict[str, list[float]], samples: dict[str, list[Floats]]) -> Pool:
    means = {target: float(np.mean(v)) if v else math.nan for target, v in values.items()}
    complete = {t: np.mean(s, axis=0) for t, s in samples.items() if s and len(s) == len(values[t])}
    if len(complete) == len(means) and complete:
        complete[MEAN] = np.mean(list(complete.values()), axis=0)
    return Pool(values=with_mean(means), samples=complete)
