"""Two experiments compared part by part and score by score, on the utterances and seeds that they share.

Legend: n resamples, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from affect.errors import AffectError
from affect.metrics.paired import sign_flip
from affect.metrics.regression import Floats
from affect.report.judgement import Judgement, judge
from affect.report.multimodal.measures import MEASURES, System, by_seed
from affect.report.multimodal.names import INCOMPLETE, LOWER, SCORES, SEEDS, shown
from affect.report.multimodal.resampling import Resamples, interval
from affect.report.multimodal.result import gain, points
from affect.report.multimodal.rows import Names, joined, same_labels
from affect.report.multimodal.study import Study
from affect.report.scores import Estimate, spread
from affect.report.tables import number

REST = "incomplete"
"""Stands for weighted F1, the mean over the six incomplete subsets."""

Basis = Literal["seeds", "unpaired", "reported"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One score on one part: `estimate` is ours minus theirs with its interval, `seeds` the differences by seed.

    `p` is that of the exact sign-flip test over the seeds (NaN: none).
    """

    part: str
    score: str
    ours: float
    theirs: float
    estimate: Estimate
    p: float = math.nan
    seeds: dict[int, float] = field(default_factory=dict)
    utterances: int = 0
    doubt: str = ""

    @property
    def judged(self) -> Judgement:
        """How sure the difference is; of an error `better` still means a greater number (see `improved`)."""
        return judge(
            self.estimate, groups=self.utterances, unit="utterance", single=len(self.seeds) == 1, p=self.p,
            pairs=len(self.seeds), doubt=self.doubt,
        )  # fmt: skip

    @property
    def improved(self) -> bool:
        """Whether ours is the better number: a greater score, a smaller error."""
        return (self.estimate.value > 0) != (self.score in LOWER)

    def change(self) -> str:
        """Return the difference with its sign and interval, as a score's points or an error's units."""
        found = self.estimate
        if math.isnan(found.low):
            return gain(found.value, self.score)
        return f"{gain(found.value, self.score)} [{gain(found.low, self.score)}, {gain(found.high, self.score)}]"

    def verdict(self) -> str:
        """Return the judgement in a word or two, for a table of many."""
        strength = self.judged.strength
        if strength == "really":
            return "better" if self.improved else "worse"
        return strength

    def said(self) -> str:
        """Return what the difference means: better or worse only where seeds, interval and test allow it."""
        strength = self.judged.strength
        if strength == "unknown":
            return "can't be compared"
        if strength == "no interval":
            return "no interval, so not shown to be real"
        if strength == "within noise":
            return "within noise"
        size = number(abs(self.estimate.value)) if self.score in LOWER else points(abs(self.estimate.value))
        if strength == "really":
            return f"{'better' if self.improved else 'worse'} by {size}"
        side = "higher" if self.estimate.value > 0 else "lower"
        return f"{size} {side}, not confirmed ({self.doubt or self._refusal()})"

    def _refusal(self) -> str:
        return f"p {self.p:.2g} over seeds" if self.p > 0.05 else f"{self.utterances} utterances are few"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two experiments differ by, and what that rests on."""

    name: str
    basis: Basis
    differences: list[Difference]
    notes: list[str] = field(default_factory=list)

    def of(self, part: str, score: str) -> Difference | None:
        """Return one of the differences; None where it was not taken."""
        return next((d for d in self.differences if (d.part, d.score) == (part, score)), None)


def compare(first: Study, second: Study, scores: Sequence[str] = (*SCORES, REST)) -> Comparison:
    """Compare an experiment with a second one; raises AffectError where they have nothing in common."""
    pair = f"{first.name} and {second.name}"
    for study in (first, second):
        if not study.parts:
            raise AffectError(f"{study.name} has no finished run to compare")
    if first.corpus and second.corpus and first.corpus != second.corpus:
        raise AffectError(f"{pair} have nothing in common: one is of {first.corpus}, the other of {second.corpus}")
    if first.classes != second.classes and not (first.reported or second.reported):
        raise AffectError(f"{pair} have nothing in common: they tell different classes apart")
    parts = [part for part in first.parts if part in second.parts]
    if not parts:
        raise AffectError(f"{pair} have no part in common")
    if first.reported or second.reported:
        return _with_reported(first, second, parts, scores)
    return _measured(first, second, parts, scores)


def _measured(first: Study, second: Study, parts: list[str], scores: Sequence[str]) -> Comparison:
    seeds = [seed for seed in first.seeds if seed in second.seeds]
    left = sorted(set(first.seeds) ^ set(second.seeds))
    several = "s" if len(left) > 1 else ""
    notes = [f"Only one of them has seed{several} {_listed(left)}: left out."] if left and seeds else []
    notes += [] if seeds else ["They have no seed in common, so there are no pairs and no test."]
    doubt = "no seed in common" if not seeds else f"{len(seeds)} of {SEEDS} seeds" if len(seeds) < SEEDS else ""
    found: list[Difference] = []
    for part in parts:
        chosen = seeds or None
        for score in scores:
            a, b = (_systems(study, part, score, chosen) for study in (first, second))
            if not a or not b:
                continue
            a, b, note = _shared(a, b, part)
            notes += [note] if note and note not in notes else []
            if a:
                found.append(_difference(part, score, a, b, doubt, bool(seeds)))
    if not found:
        raise AffectError(f"{first.name} and {second.name} have no labelled utterance in common")
    return Comparison(name=second.name, basis="seeds" if seeds else "unpaired", differences=found, notes=notes)


def _systems(study: Study, part: str, score: str, seeds: list[int] | None) -> list[System]:
    """Return what a score is the mean of: the predictions as they are, or those under the incomplete subsets."""
    held = study.incomplete(part) if score == REST else [study.system(part)]
    cut: list[System] = [{seed: units for seed, units in s.items() if seeds is None or seed in seeds} for s in held]
    return cut if all(cut) and len(cut) == (len(INCOMPLETE) if score == REST else 1) else []


def _shared(a: list[System], b: list[System], part: str) -> tuple[list[System], list[System], str]:
    """Return both sides with the utterances that all of both have and label alike, and a note where some were left."""
    ids = [_ids(system) for system in (*a, *b)]
    common = set.intersection(*ids)
    note = ""
    if any(len(held) > len(common) for held in ids):
        note = f"{shown(part)}: {len(common):,} utterances are in both, others are left out."
        keep = np.array(sorted(common), np.str_)
        a, b = ([_cut(system, keep) for system in side] for side in (a, b))
    first, second = (joined(next(iter(side[0].values()))) for side in (a, b))
    if not common or not same_labels(first, second):
        return [], [], f"{shown(part)}: the common utterances are labelled differently, so nothing is compared."
    return a, b, note


def _difference(part: str, score: str, a: list[System], b: list[System], doubt: str, paired: bool) -> Difference:
    kind = "f1" if score == REST else score
    draws = Resamples.of([rows for system in (*a, *b) for units in system.values() for rows in units])
    ours, theirs = (_mean([by_seed(system, MEASURES[kind]) for system in side]) for side in (a, b))
    mine, other = spread(ours.values())[0], spread(theirs.values())[0]
    samples = _samples(draws, a, kind) - _samples(draws, b, kind)
    pairs = {s: ours[s] - theirs[s] for s in ours if s in theirs and paired and not math.isnan(ours[s] - theirs[s])}
    p = sign_flip(list(pairs.values())) if len(pairs) > 1 else math.nan
    return Difference(
        part=part, score=score, ours=mine, theirs=other, estimate=interval(mine - other, samples), p=p, seeds=pairs,
        utterances=len(draws.ids), doubt=doubt,
    )  # fmt: skip


def _with_reported(first: Study, second: Study, parts: list[str], scores: Sequence[str]) -> Comparison:
    """Compare with numbers from a paper: the interval is that of the measured side alone."""
    found = []
    for part in parts:
        for score in (score for score in scores if score != REST):
            ours, theirs = (study.scored(part, score)[0] for study in (first, second))
            if math.isnan(ours - theirs):
                continue
            known = first if not first.reported else second
            estimate = Estimate(ours - theirs)
            size = 0
            if not known.reported:
                around = known.estimate(part, score)
                low, high = around.low - around.value, around.high - around.value
                low, high = (low, high) if known is first else (-high, -low)
                estimate = Estimate(ours - theirs, ours - theirs + low, ours - theirs + high)
                size = len(known.resamples(part).ids)
            found.append(
                Difference(
                    part=part,
                    score=score,
                    ours=ours,
                    theirs=theirs,
                    estimate=estimate,
                    utterances=size,
                    doubt="how much the reported number varies is unknown",
                )  # fmt: skip
            )
    return Comparison(name=second.name, basis="reported", differences=found)


def _samples(draws: Resamples, side: list[System], kind: str) -> Floats:
    found: Floats = np.mean([draws.samples(system, kind) for system in side], axis=0)
    return found


def _mean(values: list[dict[int, float]]) -> dict[int, float]:
    seeds = set.intersection(*(set(one) for one in values))
    return {seed: float(np.mean([one[seed] for one in values])) for seed in sorted(seeds)}


def _ids(system: System) -> set[str]:
    return {str(name) for units in system.values() for rows in units for name in rows.ids}


def _cut(system: System, ids: Names) -> System:
    return {seed: [rows.of(ids) for rows in units] for seed, units in system.items()}


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values))
