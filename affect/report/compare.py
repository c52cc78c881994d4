"""Two experiments compared on what they have in common: the same rows, else the same folds, else a mean.

Legend: n pairs (the folds of both sides, seeds averaged first), F folds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from affect.errors import AffectError
from affect.metrics.paired import sign_flip
from affect.metrics.regression import Floats
from affect.report.common import Common, common
from affect.report.experiment import Experiment
from affect.report.runs import Run
from affect.report.scores import MEAN, NETWORK, Estimate, Scores, Targets, by_fold, spread

Basis = Literal["rows", "folds", "mean"]
"""What a difference is taken over: paired rows, paired folds, or the folds of one side against a mean."""

_LEAST = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One target (or MEAN) of two experiments, on what they have in common.

    `estimate` is ours minus theirs with its 95 % interval (NaN: none); `p` that of the paired test over `pairs`
    (NaN where there are fewer than two).
    """

    target: str
    ours: float
    theirs: float
    estimate: Estimate
    p: float
    pairs: int

    @property
    def percent(self) -> float:
        """The difference in percent of theirs (NaN where theirs is under .05: percent of nearly nothing mislead)."""
        return 100 * self.estimate.value / self.theirs if self.theirs >= _LEAST else math.nan


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two experiments differ by, target by target and in their mean, and what that rests on."""

    name: str
    basis: Basis
    differences: dict[str, Difference]
    targets: Targets
    folds: list[int]
    unit: str = ""
    rows: int = 0
    groups: int = 0
    single: bool = False
    """Whether a side has one seed alone."""
    ours_known: bool = True
    notes: list[str] = field(default_factory=list)


def compare(ours: Experiment, theirs: Experiment) -> Comparison:
    """Compare two experiments; raises AffectError where they have nothing in common."""
    pair = f"{ours.name} and {theirs.name}"
    first, second = ours.scores, theirs.scores
    for experiment, scores in ((ours, first), (theirs, second)):
        if not scores.runs:
            raise AffectError(f"{experiment.name} has no finished run to compare")
    if ours.corpus and theirs.corpus and ours.corpus != theirs.corpus:
        raise AffectError(f"{pair} have nothing in common: one is of {ours.corpus}, the other of {theirs.corpus}")
    targets = _targets(first, second)
    if not targets:
        words = " and ".join(", ".join(scores.targets) or "nothing" for scores in (first, second))
        raise AffectError(f"{pair} have no target in common ({words})")
    notes = [f"Only in one of them, left out: {', '.join(left)}."] if (left := _alone(first, second, targets)) else []
    if all(run.test for scores in (first, second) for run in scores.runs):
        found = common(first, second, targets, pair)
        return _over_rows(theirs.name, found, notes)
    return _over_folds(theirs.name, first, second, targets, notes, pair)


def sign_flips(differences: Floats) -> float:
    """Return the two-sided p of paired differences [n] by the sign-flip permutation test; NaN of a single one."""
    values = np.asarray(differences, np.float64)
    return sign_flip(values) if len(values) > 1 else math.nan


def fold_scores(scores: Scores, target: str) -> dict[int, float]:
    """Return the test score of each fold, averaged over seeds."""
    return by_fold(scores.runs, lambda run: scores.part(run, "test")[target])


def t_interval(values: Floats) -> Estimate:
    """Return the mean of values [F] with the 95 % interval of Student's t (NaN bounds for fewer than two)."""
    mean, deviation = spread(values)
    if math.isnan(deviation):
        return Estimate(mean)
    # Loaded where it is needed: it takes a second, which a report without a comparison need not wait for.
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach)


def _targets(first: Scores, second: Scores) -> Targets:
    both = [t for t in first.targets if t in second.targets and first.measure(t) == second.measure(t)]
    return Targets(both, first.targets.classes & set(both))


def _alone(first: Scores, second: Scores, targets: Targets) -> list[str]:
    return list(Targets((set(first.targets) | set(second.targets)) - set(targets)))


def _over_rows(name: str, found: Common, notes: list[str]) -> Comparison:
    ours, theirs = found.ours.pool(NETWORK), found.theirs.pool(NETWORK)
    targets = found.ours.targets
    differences = {}
    folds = sorted({run.fold for run in found.ours.runs} & {run.fold for run in found.theirs.runs})
    for target in [*targets, MEAN]:
        pairs = _paired(found.ours, found.theirs, target)
        differences[target] = Difference(
            target=target,
            ours=ours.values[target],
            theirs=theirs.values[target],
            estimate=ours.above(theirs, target),
            p=sign_flips(pairs),
            pairs=len(pairs),
        )
    rows = len({(run.fold, name) for run in found.ours.runs for name in run.test})
    return Comparison(
        name=name, basis="rows", differences=differences, targets=targets, folds=folds, unit=found.ours.unit,
        rows=rows, groups=found.ours.groups, single=_single(found), notes=[*notes, *found.notes],
    )  # fmt: skip


def _over_folds(name: str, first: Scores, second: Scores, targets: Targets, notes: list[str], pair: str) -> Comparison:
    numbers = [sorted({run.fold for run in scores.runs} - {0}) for scores in (first, second)]
    folds = [fold for fold in numbers[0] if fold in numbers[1]]
    if all(numbers) and not folds:
        raise AffectError(f"{pair} have no fold in common ({_listed(numbers[0])} and {_listed(numbers[1])})")
    if all(numbers):
        left = sorted(set(numbers[0]) ^ set(numbers[1]))
        notes = notes + ([f"Only one of them has fold {_listed(left)}: left out."] if left else [])
        first, second = (Scores(runs=[run for run in s.runs if run.fold in folds]) for s in (first, second))
    differences = {}
    for target in [*targets, MEAN]:
        a, b = (_fold_values(scores, target, targets) for scores in (first, second))
        ours, theirs = spread(a.values())[0], spread(b.values())[0]
        if all(numbers):
            values = np.array([a[fold] - b[fold] for fold in folds])
            values = values[~np.isnan(values)]
            estimate = t_interval(values)
        else:
            # One of them is a mean alone: the folds of the other say how much such a mean varies.
            values = np.array([])
            known, sign = (a, 1.0) if numbers[0] else (b, -1.0)
            around = t_interval(np.array([v for v in known.values() if not math.isnan(v)]))
            bounds = sorted(sign * bound for bound in (around.low, around.high))
            other = theirs if numbers[0] else -ours
            estimate = Estimate(ours - theirs, bounds[0] - other, bounds[1] - other)
        differences[target] = Difference(
            target=target, ours=ours, theirs=theirs, estimate=estimate, p=sign_flips(values), pairs=len(values)
        )
    return Comparison(
        name=name, basis="folds" if all(numbers) else "mean", differences=differences, targets=targets,
        folds=folds if all(numbers) else numbers[0] or numbers[1], ours_known=bool(numbers[0]), notes=notes,
    )  # fmt: skip


def _fold_values(scores: Scores, target: str, targets: Targets) -> dict[int, float]:
    """Return a score of each fold; the mean is that of `targets` alone."""

    def value(run: Run) -> float:
        part = scores.part(run, "test")
        return float(np.mean([part[t] for t in targets])) if target == MEAN else part[target]

    return by_fold(scores.runs, value)


def _single(found: Common) -> bool:
    return any(len({run.seed for run in scores.runs}) == 1 for scores in (found.ours, found.theirs))


def _paired(first: Scores, second: Scores, target: str) -> Floats:
    """Return the differences [n] of the folds that both have.

    Seeds are averaged first: those of one fold share its test part, so they are no pairs of their own.
    """
    a, b = (fold_scores(scores, target) for scores in (first, second))
    values = np.array([a[fold] - b[fold] for fold in sorted(a) if fold in b])
    known: Floats = values[~np.isnan(values)]
    return known


def _listed(folds: list[int]) -> str:
    return ", ".join(map(str, folds))
