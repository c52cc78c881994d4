"""Flags of what scores apart: validation and test, training and validation, a fold and the others.

Legend: n draws, F folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

from affect.findings import Flag
from affect.report.runs import TRAIN, VALID
from affect.report.study import Study
from affect.report.systems import spread
from affect.tables import number, probability, signed
from affect.task import Measure

GAP = 0.05
"""Largest difference between validation and test score that goes unflagged."""

FIT = 0.15
"""Largest train minus validation score that goes unflagged: three times GAP, for what a model was trained on it
always does better on. Report 000 calls a loss of .14 on unseen data severe."""

CHOSEN_FIT = 0.2
"""The same of the measure that chooses: its validation score is the best of several."""

DEVIATIONS = 2.0
_FEWEST = 3
_DRAWS = 20_000
_WORDS = {4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}

_BETTER_ADVICE = (
    "an easy fold, or one whose rows training has seen: look at who is in it and what it shares with the others; "
    "give the mean without it too"
)


def unit(measure: Measure, value: float) -> float:
    """Return what a difference of a measure is told in: 1 of a score, of an error over 1 its size."""
    return 1.0 if measure.sign > 0 else max(1.0, abs(value))


def tests(study: Study) -> list[str]:
    """Return the tests whose rows are each fold's own, so that fold and validation part belong together."""
    return [name for name in study.tests if study.reported or name in study.crossed]


def valid_and_test(study: Study) -> Iterator[Flag]:
    """Yield a flag for each fold whose validation and test scores (means of seeds) differ by more than GAP.

    Tests of a fold on both sides of validation differ in how hard they are, which is no gap.
    """
    gaps = list(_apart(study))
    for fold in dict.fromkeys(fold for fold, _ in gaps):
        flags = [flag for other, flag in gaps if other == fold]
        if len({flag.kind for flag in flags}) == 1:
            yield from flags


def _apart(study: Study) -> Iterator[tuple[int, Flag]]:
    # Fold 0 is a mean whose folds are unknown.
    places = [(e, f) for e in tests(study) for f in sorted({run.fold for run in study.finished})]
    for test, fold in places if VALID in study.evaluations else ():
        runs = [run for run in study.finished if run.fold == fold]
        scores = {m: [(study.of_run(r, VALID, m), study.of_run(r, test, m)) for r in runs] for m in study.headline}
        means = {m: [spread(side)[0] for side in zip(*each, strict=True)] for m, each in scores.items()}
        gaps = {m: m.sign * (valid - tested) / unit(m, valid) for m, (valid, tested) in means.items()}
        # A measure made of others says more than they do only where none of them is over the limit.
        wide = [m for m in gaps if not m.parts and abs(gaps[m]) > GAP] or [m for m in gaps if abs(gaps[m]) > GAP]
        if not wide:
            continue
        most = max(wide, key=lambda m: abs(gaps[m]))
        below = gaps[most] > 0
        shown = [(m.shown, means[m]) for m in wide]
        words = [f"{m}: valid {number(v)}, {test} {number(t)} ({signed(t - v)})" for m, (v, t) in shown]
        each = [most.sign * (valid - tested) / unit(most, means[most][0]) for valid, tested in scores[most]]
        alike = f"{sum(abs(gap) > GAP and (gap > 0) == below for gap in each)} of {len(runs)}"
        where = runs[0].name if len(runs) == 1 else f"fold {fold}, {alike} seeds"
        kind = "valid above test" if below else "test above valid"
        yield fold, Flag(kind, where, "; ".join(words), size=abs(gaps[most]))


def train_and_valid(study: Study) -> Iterator[Flag]:
    """Yield runs that score far higher on what they were trained on."""
    singles = [m for m in study.headline if not m.parts]
    for run in study.finished:
        # The singles say more than the measure that chooses.
        for measures, limit in ((singles, FIT), (study.measures[:1], CHOSEN_FIT)):
            pairs = {m: (run.recorded(TRAIN, m.name), study.validated(run, m)) for m in measures}
            gaps = {m: m.sign * (train - valid) / unit(m, valid) for m, (train, valid) in pairs.items()}
            if wide := {m: gap for m, gap in gaps.items() if gap > limit}:
                words = [f"{m.shown}: train {number(pairs[m][0])}, valid {number(pairs[m][1])}" for m in wide]
                yield Flag("train above valid", run.name, "; ".join(words), size=max(wide.values()))
                break


def outlying(values: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """Return the folds more than two deviations from the mean of the *other* folds, with that mean and deviation.

    Against all folds none of five could pass 1.8 deviations. The deviation is that of a sample; fewer than three
    other folds have none worth the name.
    """
    scores = {fold: value for fold, value in values.items() if not math.isnan(value)}
    if len(scores) <= _FEWEST:
        return {}
    others = {fold: spread(other for name, other in scores.items() if name != fold) for fold in scores}
    return {
        fold: (mean, deviation)
        for fold, (mean, deviation) in others.items() if abs(scores[fold] - mean) > max(DEVIATIONS * deviation, 1e-9)
    }  # fmt: skip


def surprise(value: float, mean: float, deviation: float, others: int) -> float:
    """Return the two-sided p of a fold beside the mean and deviation of `others`, by Student's t.

    A new value differs from the mean of others by more than they differ among themselves: by sqrt(1 + 1/others).
    """
    if deviation <= 0:
        return 0.0
    # Loaded where it is needed: it takes a second, which a report without an odd fold need not wait for.
    from scipy.stats import t

    return float(2 * t.sf(abs(value - mean) / (deviation * math.sqrt(1 + 1 / others)), others - 1))


@cache
def by_chance(folds: int) -> float:
    """Return how often some fold of `folds` that differ by chance alone (normally) is called odd in one score."""
    x = np.random.default_rng(0).normal(size=(_DRAWS, folds))
    others = folds - 1
    means = (x.sum(1, keepdims=True) - x) / others
    squares = (np.square(x).sum(1, keepdims=True) - np.square(x)) - others * np.square(means)
    return float((np.abs(x - means) > DEVIATIONS * np.sqrt(squares / (others - 1))).any(1).mean())


def odd_folds(study: Study) -> Iterator[Flag]:
    """Yield one flag for each odd fold of a test, whatever the measures (none made of others) that show it."""
    folds = len({run.fold for run in study.finished} - {0})
    for evaluation in tests(study):
        # By fold: the words of each measure, its p and whether it is worse.
        odd: dict[int, list[tuple[str, float, bool]]] = {}
        for measure in (m for m in study.headline if not m.parts):
            values = {fold: v for fold, v in study.scored(evaluation, measure).by_fold.items() if fold}
            others = sum(not math.isnan(value) for value in values.values()) - 1
            for fold, (mean, deviation) in outlying(values).items():
                value, gap = values[fold], abs(values[fold] - mean)
                p = surprise(value, mean, deviation, others)
                words = f"{measure.shown} {number(value)}, the other folds have {number(mean)} ± {number(deviation)}"
                words += f" ({gap / deviation:.1f} deviations, {probability(p)})" if p > 0 else ""
                odd.setdefault(fold, []).append((words, p, measure.sign * (value - mean) < 0))
        for fold, shown in odd.items():
            words = "; ".join(words for words, _, _ in shown)
            words += f"; chance alone makes some fold odd in about {round(10 * by_chance(folds))} of 10 "
            words += f"{_WORDS.get(folds, folds)}-fold runs"
            advice = "" if any(worse for _, _, worse in shown) else _BETTER_ADVICE
            yield Flag("outlying fold", f"fold {fold}", words, advice, 1 - min(p for _, p, _ in shown))


def below_trivial(study: Study) -> Iterator[Flag]:
    """Yield evaluations in which a trivial model is better than the network, whatever the interval says."""
    main = study.main
    # The mean of one measure says what that one says.
    main = main.parts[0] if main is not None and len(main.parts) == 1 else main
    for name in study.evaluations if study.task is not None else ():
        words, size = [], 0.0
        for measure in (m for m in study.headline if m is main or not m.parts):
            best, value = study.best_trivial(name, measure)
            if best is None:
                continue
            difference, _ = study.above(name, measure, best)
            low = measure.sign * difference.value
            noise = difference.bounded and difference.low <= 0 <= difference.high
            # Of many measures some are below by chance.
            if low < 0 and (measure is main or not noise):
                told = f"{measure.shown} {number(study.estimate(name, measure).value)}, {best} {number(value)}"
                words.append(f"{told} ({difference.shown(signed)}{', within noise' if noise else ''})")
                size = max(size, -low / unit(measure, value))
        if words:
            yield Flag("below a trivial model", name, "; ".join(words), size=size)
