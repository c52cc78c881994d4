"""Folds that differ from the others, and how much chance alone would make them.

Legend: n draws, F folds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

from affect.findings import Flag
from affect.report.gaps import tests
from affect.report.study import Study
from affect.report.systems import spread
from affect.tables import number, probability

DEVIATIONS = 2.0
_FEWEST = 3
_DRAWS = 20_000
_WORDS = {4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}

_BETTER_ADVICE = (
    "an easy fold, or one whose rows training has seen: look at who is in it and what it shares with the others; "
    "give the mean without it too"
)


def outlying(values: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """Return the folds more than two deviations from the mean of the *other* folds, with that mean and deviation.

    Against all folds none of five could pass 1.8 deviations. The deviation is that of a sample; fewer than three
    other folds have none worth the name.
    """
    known = {fold: value for fold, value in values.items() if not math.isnan(value)}
    if len(known) <= _FEWEST:
        return {}
    others = {fold: spread(other for name, other in known.items() if name != fold) for fold in known}
    return {
        fold: (mean, deviation)
        for fold, (mean, deviation) in others.items() if abs(known[fold] - mean) > max(DEVIATIONS * deviation, 1e-9)
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
            words = "; ".join([*(words for words, _, _ in shown), _rarely(folds)])
            worse = any(worse for _, _, worse in shown)
            advice = "" if worse else _BETTER_ADVICE
            yield Flag("outlying fold", f"fold {fold}", words, advice, 1 - min(p for _, p, _ in shown))


def _rarely(folds: int) -> str:
    tenths = round(10 * by_chance(folds))
    return f"chance alone makes some fold odd in about {tenths} of 10 {_WORDS.get(folds, folds)}-fold runs"
