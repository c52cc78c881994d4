"""Folds that differ from the others, and how much chance alone would make them.

Legend: n draws, F folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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

_WORSE_ADVICE = "look at who is in that fold, and repeat it with other seeds: data, or chance?"
_BETTER_ADVICE = (
    "an easy fold, or one whose rows training has seen: look at who is in it and what it shares with the others; "
    "give the mean without it too"
)


def outlying(values: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """Return the folds more than two deviations from the mean of the *other* folds, with that mean and deviation.

    Against all folds none of five could pass 1.8 deviations. The deviation is that of a sample; fewer than three
    other folds have none worth the name.
    """
    found = {}
    known = {fold: value for fold, value in values.items() if not math.isnan(value)}
    for fold, value in known.items():
        others = [other for name, other in known.items() if name != fold]
        mean, deviation = spread(others)
        if len(others) >= _FEWEST and abs(value - mean) > max(DEVIATIONS * deviation, 1e-9):
            found[fold] = (mean, deviation)
    return found


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


def odd_folds(study: Study) -> list[Flag]:
    """Return one flag for each odd fold of a test, whatever the measures (none made of others) that show it."""
    found: list[Flag] = []
    for evaluation in tests(study):
        said: dict[int, list[str]] = {}
        least: dict[int, float] = {}
        worse: set[int] = set()
        for measure in (m for m in study.headline if not m.parts):
            values = {fold: v for fold, v in study.scored(evaluation, measure).by_fold.items() if fold}
            known = sum(not math.isnan(value) for value in values.values())
            for fold, (mean, deviation) in outlying(values).items():
                p = surprise(values[fold], mean, deviation, known - 1)
                words = (
                    f"{measure.shown} {number(values[fold])}, the other folds have {number(mean)} ± {number(deviation)}"
                )
                words += f" ({abs(values[fold] - mean) / deviation:.1f} deviations, {probability(p)})" if p > 0 else ""
                said.setdefault(fold, []).append(words)
                least[fold] = min(p, least.get(fold, 1.0))
                worse |= {fold} if measure.sign * (values[fold] - mean) < 0 else set()
        folds = len({run.fold for run in study.finished} - {0})
        advice = study.advice("outlying fold", _WORSE_ADVICE)
        found += [
            Flag(
                "outlying fold", f"fold {fold}", "; ".join([*words, _rarely(folds)]),
                advice if fold in worse else _BETTER_ADVICE, 1 - least[fold],
            )
            for fold, words in said.items()
        ]  # fmt: skip
    return found


def _rarely(folds: int) -> str:
    tenths = round(10 * by_chance(folds))
    return f"chance alone makes some fold odd in about {tenths} of 10 {_WORDS.get(folds, folds)}-fold runs"
