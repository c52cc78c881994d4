"""Two experiments compared evaluation by evaluation and measure by measure, on what they have in common.

Where both have predictions: on the rows that both have and label alike. Where one gives numbers alone: on the same
folds, else on a mean. Legend: n resamples, F folds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from affect.errors import AffectError
from affect.metrics.paired import sign_flip
from affect.report import asking
from affect.report.common import Side, Sides, common
from affect.report.judgement import PAIRS, Judgement, judge
from affect.report.study import Study, identities
from affect.report.systems import Estimate, Floats, interval, spread
from affect.task import Measure

Basis = Literal["rows", "folds", "mean", "reported"]
"""What a difference is taken over: paired rows, paired folds, the folds of one side against a mean, the rows of one."""

_LEAST = 0.05


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score of two experiments: `estimate` is ours minus theirs with its 95 % interval (NaN: none).

    `pairs` are the differences by fold (seeds averaged first) or by seed, as `per` says; `p` is that of the sign-flip
    test over them (NaN where there are fewer than two).
    """

    evaluation: str
    measure: Measure
    ours: float
    theirs: float
    estimate: Estimate
    basis: Basis
    pairs: dict[int, float] = field(default_factory=dict)
    per: Literal["fold", "seed"] = "fold"
    rows: int = 0
    groups: int = 0
    unit: str = "fold"
    single: bool = False
    """Whether a side has one seed alone."""
    doubt: str = ""
    folds: int = 0

    @property
    def p(self) -> float:
        """The two-sided p of the pairs by the sign-flip permutation test; NaN of a single one."""
        return sign_flips(np.array(list(self.pairs.values())))

    @property
    def percent(self) -> float:
        """The difference in percent of theirs (NaN where theirs is under .05: percent of nearly nothing mislead)."""
        return 100 * self.estimate.value / self.theirs if self.theirs >= _LEAST else math.nan

    @property
    def improved(self) -> bool:
        """Whether ours is the better number."""
        return self.measure.sign * self.estimate.value > 0

    @property
    def judged(self) -> Judgement:
        """How sure the difference is; words and colours follow it."""
        found = judge(
            self.estimate, groups=self.groups, unit=self.unit, single=self.single, p=self.p, pairs=len(self.pairs),
            doubt=self.doubt, sign=self.measure.sign,
        )  # fmt: skip
        if self.basis == "mean" and found.strength == "not confirmed":
            # How much the other mean varies is unknown, so that the interval is too narrow by as much.
            return replace(found, tail=" than the folds vary (how the other side's do is unknown)")
        return found


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two experiments differ by, and what is to be said of it."""

    name: str
    differences: list[Difference]
    notes: list[str] = field(default_factory=list)

    def of(self, evaluation: str, measure: Measure | None) -> Difference | None:
        """Return one of the differences; None where it was not taken."""
        named = measure.name if measure else ""
        return next((d for d in self.differences if (d.evaluation, d.measure.name) == (evaluation, named)), None)


def compare(ours: Study, theirs: Study, main_only: bool = False) -> Comparison:
    """Compare two experiments (`main_only`: by the main measure); AffectError where they have nothing in common."""
    pair = f"{ours.name} and {theirs.name}"
    for study in (ours, theirs):
        if not study.finished:
            raise AffectError(f"{study.name} has no finished run to compare")
    _same_data(ours, theirs, pair)
    measures = [m for m in ours.headline if _theirs(theirs, m) and (not main_only or m is ours.main)]
    if not measures:
        words = " and ".join(", ".join(m.shown for m in study.headline) or "nothing" for study in (ours, theirs))
        raise AffectError(f"{pair} have no measure in common ({words})")
    evaluations = [name for name in ours.evaluations if name in theirs.evaluations]
    if not evaluations:
        raise AffectError(f"{pair} have no evaluation in common")
    notes = _left(ours, theirs)
    found: list[Difference] = []
    summaries = [name for name in ours.summaries if name in theirs.summaries]
    for evaluation in [*evaluations, *summaries]:
        for measure in measures if evaluation in evaluations else [m for m in measures if m is ours.main]:
            if all(_has_rows(study, evaluation) for study in (ours, theirs)):
                sides = [
                    common(ours, theirs, name, measure, notes) for name in ours.summaries.get(evaluation, [evaluation])
                ]
                made = _over_rows(evaluation, measure, [s for s in sides if s is not None], notes)
            else:
                made = _over_folds(evaluation, measure, ours, theirs, notes)
            found += [made] if made is not None else []
    if not any(not math.isnan(difference.estimate.value) for difference in found):
        raise AffectError(f"{pair} have no labelled row or fold in common{': ' + notes[-1] if notes else ''}")
    return Comparison(name=theirs.name, differences=found, notes=list(dict.fromkeys(notes)))


def sign_flips(differences: Floats) -> float:
    """Return the two-sided p of paired differences [n] by the sign-flip permutation test; NaN of a single one."""
    values = np.asarray(differences, np.float64)
    return sign_flip(values) if len(values) > 1 else math.nan


def t_interval(values: Floats) -> Estimate:
    """Return the mean of values [F] with the 95 % interval of Student's t (NaN bounds for fewer than two)."""
    mean, deviation = spread(values)
    if math.isnan(deviation):
        return Estimate(mean)
    # Loaded where it is needed: it takes a second, which a report without a comparison need not wait for.
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return Estimate(mean, mean - reach, mean + reach)


def _same_data(ours: Study, theirs: Study, pair: str) -> None:
    """Raise AffectError for experiments of different corpora, or of labels on different scales."""
    here, there = identities(ours), identities(theirs)
    # A recipe calls a corpus by a shorter name than the corpus itself; papers know that one.
    short = [str((study.recipe.get("data") or {}).get("corpus") or "") for study in (ours, theirs)]
    for kind, value in here.items():
        other = there.get(kind, "")
        alike = kind == "corpus" and (ours.reported or theirs.reported) and {here[kind], short[0]} & {other, short[1]}
        if value and other and value != other and not alike:
            what = "" if kind == "corpus" else f"{kind} "
            raise AffectError(f"{pair} have nothing in common: one is of {what}{value}, the other of {what}{other}")


def _left(ours: Study, theirs: Study) -> list[str]:
    """Return what differs between the experiments and is left out."""
    notes = []
    for study in (ours, theirs):
        seeds = sorted({run.seed for run in study.runs} - set(study.seeds))
        notes += [f"Seed {', '.join(map(str, seeds))} of {study.name} is not complete and left out."] if seeds else []
    alone = [m.shown for m in ours.headline if not _theirs(theirs, m)]
    alone += [m.shown for m in theirs.headline if not _theirs(ours, m)]
    notes += [f"Only in one of them, left out: {', '.join(alone)}."] if alone else []
    prints = [study.environment.get("fingerprint") for study in (ours, theirs)]
    if all(prints) and prints[0] != prints[1]:
        notes.append(
            f"Their data differ (fingerprints {prints[0]} and {prints[1]}: other features, files or labels): rows that "
            "are labelled alike are compared."
        )
    return notes


def _theirs(study: Study, measure: Measure) -> Measure | None:
    """Return the measure of a study that is this one, under whichever of its names, made of the same measures."""
    found = asking.named(study.measures, measure.name)
    found = found or next((m for m in study.measures if asking.named([measure], m.name)), None)
    return found if found is not None and [p.name for p in found.parts] == [p.name for p in measure.parts] else None


def _has_rows(study: Study, evaluation: str) -> bool:
    members = study.summaries.get(evaluation, [evaluation])
    return study.task is not None and all(any(name in run.predictions for run in study.finished) for name in members)


def _over_rows(evaluation: str, measure: Measure, sides: list[Sides], notes: list[str]) -> Difference | None:
    if not sides:
        return None
    pooled = sides[0].pooled
    seeds = [[seed for seed in side.scored.by_seed] for side in (sides[0].ours, sides[0].theirs)]
    both = [seed for seed in seeds[0] if seed in seeds[1]]
    left = sorted(set(seeds[0]) ^ set(seeds[1]))
    if not pooled and left:
        several = "s" if len(left) > 1 else ""
        notes.append(
            f"Only one of them has seed{several} {', '.join(map(str, left))}: left out." if both
            else "They have no seed in common, so there are no pairs and no test."
        )  # fmt: skip
    chosen = None if pooled or not both else both
    (ours, a), (theirs, b) = (_mean([getattr(s, name) for s in sides], pooled, chosen) for name in ("ours", "theirs"))
    samples = a - b if a is not None and b is not None else None
    if pooled:
        here, there = sides[0].ours.scored.by_fold, sides[0].theirs.scored.by_fold
        pairs = {fold: here[fold] - there[fold] for fold in here if fold in there}
    else:
        each = [{s: side.ours.scored.by_seed[s] - side.theirs.scored.by_seed[s] for s in both} for side in sides]
        pairs = {seed: float(np.mean([one[seed] for one in each])) for seed in both}
    doubt = ""
    if not pooled and len(both) < PAIRS:
        doubt = f"{len(both)} of {PAIRS} seeds" if both else "no seed in common"
    return Difference(
        evaluation=evaluation, measure=measure, ours=ours, theirs=theirs, estimate=interval(ours - theirs, samples),
        basis="rows", pairs={k: v for k, v in pairs.items() if not math.isnan(v)}, per="fold" if pooled else "seed",
        rows=sides[0].rows, groups=sides[0].groups, unit=sides[0].unit, doubt=doubt,
        single=any(len(one) == 1 for one in ([both, both] if both and not pooled else seeds)),
        folds=len(sides[0].ours.scored.by_fold),
    )  # fmt: skip


def _mean(sides: list[Side], pooled: bool, seeds: list[int] | None) -> tuple[float, Floats | None]:
    """Return the mean score of evaluations over seeds, and its replicates [n]."""
    values, samples = [], []
    for side in sides:
        chosen = seeds if seeds is not None else list(side.scored.by_seed)
        values.append(side.pooled if pooled else spread(side.scored.by_seed[seed] for seed in chosen)[0])
        samples += [side.samples[seed] for seed in chosen if seed in side.samples]
        if len(side.samples) < len(side.scored.by_seed):
            return float(np.mean(values)), None
    return float(np.mean(values)), np.mean(samples, axis=0) if samples else None


def _over_folds(evaluation: str, measure: Measure, ours: Study, theirs: Study, notes: list[str]) -> Difference | None:
    """Compare with numbers alone: fold by fold, the folds of one with a mean, or a mean with its own interval."""
    other = _theirs(theirs, measure)
    assert other is not None
    a, b = (s.scored(evaluation, m).by_fold for s, m in ((ours, measure), (theirs, other)))
    here, there = spread(a.values())[0], spread(b.values())[0]
    if math.isnan(here - there):
        return None
    difference = Difference(
        evaluation=evaluation, measure=measure, ours=here, theirs=there, estimate=Estimate(here - there), basis="mean",
        doubt="seeds unknown",
    )  # fmt: skip
    measured = ours if _has_rows(ours, evaluation) else theirs if _has_rows(theirs, evaluation) else None
    sign, folds = (1.0, a) if 0 not in a else (-1.0, b)
    if 0 not in a and 0 not in b and not (measured and measured.system(evaluation).shared):
        same = [fold for fold in a if fold in b]
        left = sorted(set(a) ^ set(b))
        notes += [f"Only one of them has fold {', '.join(map(str, left))}: left out."] if left and same else []
        if not same:
            raise AffectError(
                f"{ours.name} and {theirs.name} have no fold in common "
                f"({', '.join(map(str, a))} and {', '.join(map(str, b))})"
            )
        pairs = {fold: a[fold] - b[fold] for fold in same if not math.isnan(a[fold] - b[fold])}
        here, there = spread(a[fold] for fold in same)[0], spread(b[fold] for fold in same)[0]
        estimate = t_interval(np.array(list(pairs.values())))
        return replace(
            difference, ours=here, theirs=there, estimate=estimate, basis="folds", pairs=pairs, groups=len(same),
            folds=len(same),
        )  # fmt: skip
    if measured is not None and not measured.pooled(evaluation, measure):
        around = measured.estimate(evaluation, measure)
        sign = 1.0 if measured is ours else -1.0
        groups = measured.groups(evaluation, measure)
        return replace(
            difference, estimate=_moved(around, here - there, sign), basis="reported", groups=groups.count,
            unit=groups.unit, doubt="how much the reported number varies is unknown",
        )  # fmt: skip
    known = [value for fold, value in folds.items() if fold and not math.isnan(value)]
    around = t_interval(np.array(known)) if known else Estimate(math.nan)
    return replace(difference, estimate=_moved(around, here - there, sign), groups=len(known), folds=len(known))


def _moved(around: Estimate, value: float, sign: float) -> Estimate:
    """Return a difference with the interval that one of its sides has around its own value."""
    if not around.bounded:
        return Estimate(value)
    low, high = sorted(sign * (bound - around.value) for bound in (around.low, around.high))
    return Estimate(value, value + low, value + high)
