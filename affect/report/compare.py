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
from affect.metrics.average_predictions import missing
from affect.metrics.paired import sign_flip
from affect.recipe import FREE
from affect.report import asking
from affect.report.rows import Record
from affect.report.significance import PAIRS, Judgement, judge
from affect.report.study import Study, called, identities
from affect.report.systems import Cell, Estimate, Floats, Groups, Key, Sampled, System, spread
from affect.tables import flat
from affect.task import Measure

Basis = Literal["rows", "folds", "mean", "reported"]
"""What a difference is taken over: paired rows, paired folds, the folds of one side against a mean, the rows of one."""

_HARDWARE = ("device", "world", "engine", "threads")
"""Facts of a run's environment that no result depends on, beyond rounding."""
_LEAST = 0.05
_SAME = 1e-6


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

    @property
    def p(self) -> float:
        """The two-sided p of the pairs by the sign-flip permutation test; NaN of a single one."""
        return sign_flips(np.array(list(self.pairs.values())))

    @property
    def percent(self) -> float:
        """The difference in percent of theirs (NaN where theirs is under .05: percent of nearly nothing mislead)."""
        return 100 * self.estimate.value / self.theirs if self.theirs >= _LEAST else math.nan

    @property
    def judged(self) -> Judgement:
        """How sure the difference is; words and colours follow it."""
        judgement = judge(
            self.estimate, groups=self.groups, unit=self.unit, single=self.single, p=self.p, pairs=len(self.pairs),
            doubt=self.doubt, sign=self.measure.sign,
        )  # fmt: skip
        if self.basis == "mean" and judgement.strength == "not confirmed":
            # How much the other mean varies is unknown, so that the interval is too narrow by as much.
            return replace(judgement, tail=" than the folds vary (how the other side's do is unknown)")
        return judgement


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
    scores = [(name, m) for name in evaluations for m in measures]
    # Of a summary the main measure alone: each of its members is resampled for it.
    scores += [(name, m) for name in ours.summaries if name in theirs.summaries for m in measures if m is ours.main]
    results = []
    for name, measure in scores:
        over = _over_rows if _has_rows(ours, name) and _has_rows(theirs, name) else _over_folds
        results.append(over(name, measure, ours, theirs, notes))
    differences = [difference for difference in results if difference is not None]
    if all(math.isnan(difference.estimate.value) for difference in differences):
        raise AffectError(f"{pair} have no labelled row or fold in common{': ' + notes[-1] if notes else ''}")
    return Comparison(name=theirs.name, differences=differences, notes=list(dict.fromkeys(notes)))


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
    for kind, value in here.items():
        other = there.get(kind, "")
        alike = kind == "corpus" and (ours.reported or theirs.reported) and called(ours) & called(theirs)
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
    elif one := _one_run(ours, theirs):
        notes.append(one)
    return notes


def _one_run(ours: Study, theirs: Study) -> str:
    """Return that two experiments are the same run on other hardware, which changes no result; "" where they differ."""
    free = {"experiment", "data.fold", "seed", *FREE}
    recipes, facts = [], []
    for study in (ours, theirs):
        recipes.append({name: value for name, value in flat(study.recipe).items() if name not in free})
        facts.append({name: study.environment.get(name) for name in ("fingerprint", "precision")} | _packages(study))
    if not recipes[0] or recipes[0] != recipes[1] or facts[0] != facts[1] or not {*ours.seeds} & {*theirs.seeds}:
        return ""
    values = [[study.environment.get(name) for study in (ours, theirs)] for name in _HARDWARE]
    told = [f"{name} {a} and {b}" for name, (a, b) in zip(_HARDWARE, values, strict=True) if a != b]
    where = f" on other hardware ({', '.join(told)})" if told else ""
    if names := [str(name) for study in (ours, theirs) for name in study.environment.get("not_keyed") or ()]:
        return (
            f"They are one recipe{where}, but what {names[0]} draws is not keyed by example, and follows how a batch "
            "is cut: their differences may be chance."
        )
    return f"They are the same run{where}: no setting that decides a result differs, and hardware decides none."


def _packages(study: Study) -> dict[str, str]:
    """Return the versions of packages, without the build (`+cpu`, `+cu130`): that follows the hardware."""
    packages = study.environment.get("packages") or {}
    return {name: str(version).partition("+")[0] for name, version in packages.items()}


def _theirs(study: Study, measure: Measure) -> Measure | None:
    """Return the measure of a study that is this one, under whichever of its names, made of the same measures."""
    match = asking.named(study.measures, measure.name)
    match = match or next((m for m in study.measures if asking.named([measure], m.name)), None)
    return match if match is not None and [p.name for p in match.parts] == [p.name for p in measure.parts] else None


def _has_rows(study: Study, evaluation: str) -> bool:
    members = study.summaries.get(evaluation, [evaluation])
    return study.task is not None and all(any(name in run.predictions for run in study.finished) for name in members)


def _over_rows(evaluation: str, measure: Measure, ours: Study, theirs: Study, notes: list[str]) -> Difference | None:
    sides = common(ours, theirs, evaluation, measure, notes)
    if sides is None:
        return None
    here, there, pooled = sides.ours, sides.theirs, sides.pooled
    seeds = [set(side.scored.by_seed) for side in (here, there)]
    both, left = seeds[0] & seeds[1], sorted(seeds[0] ^ seeds[1])
    doubt = ""
    if not pooled:
        if left and both:
            notes.append(f"Only one of them has seed{'s' * (len(left) > 1)} {', '.join(map(str, left))}: left out.")
            here, there = here.of(both), there.of(both)
        elif left:
            notes.append("They have no seed in common, so there are no pairs and no test.")
        if len(both) < PAIRS:
            doubt = f"{len(both)} of {PAIRS} seeds" if both else "no seed in common"
    estimate, pairs = here.minus(there, pooled)
    return Difference(
        evaluation=evaluation, measure=measure, ours=here.value, theirs=there.value, estimate=estimate, basis="rows",
        pairs=pairs, per="fold" if pooled else "seed", rows=len(sides.groups.keys), groups=sides.groups.count,
        unit=sides.groups.unit, doubt=doubt, single=1 in map(len, [both] if both and not pooled else seeds),
    )  # fmt: skip


def _over_folds(evaluation: str, measure: Measure, ours: Study, theirs: Study, notes: list[str]) -> Difference | None:
    """Compare with numbers alone: fold by fold, the folds of one with a mean, or a mean with its own interval."""
    other = _theirs(theirs, measure)
    assert other is not None
    a, b = ours.scored(evaluation, measure).by_fold, theirs.scored(evaluation, other).by_fold
    here, there = spread(a.values())[0], spread(b.values())[0]
    value = here - there
    if math.isnan(value):
        return None
    difference = Difference(
        evaluation=evaluation, measure=measure, ours=here, theirs=there, estimate=Estimate(value), basis="mean",
        doubt="seeds unknown",
    )  # fmt: skip
    measured = next((study for study in (ours, theirs) if _has_rows(study, evaluation)), None)
    if 0 not in a and 0 not in b and not (measured and measured.system(evaluation).shared):
        same, left = [fold for fold in a if fold in b], sorted(set(a) ^ set(b))
        if not same:
            lists = " and ".join(", ".join(map(str, folds)) for folds in (a, b))
            raise AffectError(f"{ours.name} and {theirs.name} have no fold in common ({lists})")
        notes += [f"Only one of them has fold {', '.join(map(str, left))}: left out."] if left else []
        pairs = {fold: a[fold] - b[fold] for fold in same if not math.isnan(a[fold] - b[fold])}
        here, there = (spread(folds[fold] for fold in same)[0] for folds in (a, b))
        return replace(
            difference, ours=here, theirs=there, estimate=t_interval(np.array(list(pairs.values()))), basis="folds",
            pairs=pairs, groups=len(same),
        )  # fmt: skip
    if measured is not None and not measured.pooled(evaluation, measure):
        groups = measured.groups(evaluation, measure)
        estimate = _moved(measured.estimate(evaluation, measure), value, 1.0 if measured is ours else -1.0)
        return replace(
            difference, estimate=estimate, basis="reported", groups=groups.count, unit=groups.unit,
            doubt="how much the reported number varies is unknown",
        )  # fmt: skip
    sign, folds = (1.0, a) if 0 not in a else (-1.0, b)
    scores = [score for fold, score in folds.items() if fold and not math.isnan(score)]
    return replace(difference, estimate=_moved(t_interval(np.array(scores)), value, sign), groups=len(scores))


def _moved(around: Estimate, value: float, sign: float) -> Estimate:
    """Return a difference with the interval that one of its sides has around its own value."""
    # Without an interval the bounds stay NaN.
    low, high = sorted(sign * (bound - around.value) for bound in (around.low, around.high))
    return Estimate(value, value + low, value + high)


@dataclass(frozen=True)
class Sides:
    """Both experiments on their common rows: all of them together (`pooled`), or the mean over folds."""

    ours: Sampled
    theirs: Sampled
    pooled: bool
    groups: Groups


def common(ours: Study, theirs: Study, evaluation: str, measure: Measure, notes: list[str]) -> Sides | None:
    """Return both sides on the rows that they share, cut to these; None where there are none, or none labelled alike.

    `notes` gets a sentence for everything that differs. Our groups count for both. Of a summary the mean is taken.
    """
    if members := ours.summaries.get(evaluation):
        each = [sides for name in members if (sides := common(ours, theirs, name, measure, notes))]
        here, there = [sides.ours for sides in each], [sides.theirs for sides in each]
        return Sides(Sampled.together(here), Sampled.together(there), False, each[0].groups) if each else None
    pooled = ours.pooled(evaluation, measure)
    if ours.signature(evaluation) == theirs.signature(evaluation):
        first, second = (study.sampled(evaluation, measure) for study in (ours, theirs))
        return Sides(first, second, pooled, ours.groups(evaluation, measure))
    both = [ours.system(evaluation), theirs.system(evaluation)]
    pooled = pooled and not both[1].shared
    seeds = set(both[0].by_seed) & set(both[1].by_seed)
    if not pooled and seeds:
        # Seeds are the pairs: what only one side has is no part of them.
        both = [system.cut(lambda cell, row: row if cell[0] in seeds else None) for system in both]
    repeated = any(system.repeated for system in both)
    cut = _cut(both, repeated, evaluation, pooled, notes)
    if cut is None:
        return None
    groups = Groups.of(cut[0].keys(repeated), measure.groups, repeated)
    first, second = (system.sampled(measure, groups, pooled) for system in cut)
    return Sides(first, second, pooled, groups)


def _cut(both: list[System], repeated: bool, name: str, pooled: bool, notes: list[str]) -> list[System] | None:
    """Return both systems with the rows that all seeds of both have, and with the labels that both give them."""
    rows = [system.keys(repeated) for system in both]
    keyed = [system.keyed(repeated) for system in both]
    # Seeds that are pooled must have the same rows; of others each is compared with its like.
    sets = [list(map(set, seeds.values())) for seeds in keyed]
    shared = set.intersection(*(set.intersection(*s) if pooled and s else set[Key]().union(*s) for s in sets))
    if not shared:
        notes.append(f"{name}: no row in common ({len(rows[0]):,} and {len(rows[1]):,} rows).")
        return None
    here, there = (len(side) - len(shared) for side in rows)
    if here or there:
        notes.append(
            f"{name}: {len(shared):,} rows are in both; {here:,} are only here and {there:,} only there, and left out."
        )
    if pooled and not repeated:
        folds = [{i: fold for (_, fold), each in system.units.items() for i in each} for system in both]
        if moved := sum(folds[0].get(i) != folds[1].get(i) for _, i in shared):
            notes.append(
                f"{name}: {moved:,} common rows are tested in different folds: the two were trained on different "
                "splits."
            )
    alike = _labels(rows[0], rows[1], sorted(shared), name, notes)

    def change(cell: Cell, row: Record) -> Record | None:
        key = (cell[1] if repeated else 0, row["id"])
        if key not in shared or not pooled and any(key not in seeds.get(cell[0], shared) for seeds in keyed):
            return None
        labels = {t: label if key in alike.get(t, ()) else None for t, label in row["target"].items()}
        # What joins rows to groups is ours.
        return {**rows[0][key], **row, "target": labels}

    return [system.cut(change) for system in both] if any(alike.values()) else None


def _labels(
    ours: dict[Key, Record], theirs: dict[Key, Record], keys: list[Key], name: str, notes: list[str]
) -> dict[str, set[Key]]:
    """Return by target the rows that both label alike; a sentence says of each target how many they don't."""
    alike: dict[str, set[Key]] = {}
    for target in sorted({t for key in keys for t in ours[key]["target"]}):
        pairs = {key: (ours[key]["target"].get(target), theirs[key]["target"].get(target)) for key in keys}
        labelled = {key: pair for key, pair in pairs.items() if not any(map(missing, pair))}
        wrong = {key: pair for key, pair in labelled.items() if not _same(*pair)}
        alike[target] = labelled.keys() - wrong.keys()
        if wrong:
            first, second = next(iter(wrong.values()))
            notes.append(
                f"{name}: {target} of {len(wrong):,} of {len(keys):,} common rows is labelled differently "
                f"(the first {first} and {second}), and left out."
            )
    return alike


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME)
    return a == b
