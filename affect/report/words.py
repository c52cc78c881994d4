"""The result in words: what was reached, how sure that is, and whether the network beats the trivial baselines."""

from __future__ import annotations

import math

import numpy as np

from affect.metrics.regression import Floats
from affect.report.compare import sign_flips
from affect.report.judgement import counted, few, judge
from affect.report.runs import Run
from affect.report.scores import MEAN, NETWORK, Estimate, Scores, by_fold, spread
from affect.report.tables import between, label, number, over_folds, signed


def result(scores: Scores) -> str:
    """Return one paragraph: pooled score, spread over folds and seeds, and the comparison with the baselines."""
    if not any(run.test for run in scores.runs):
        return _reported(scores)
    sentences = [_reached(scores), *_spreads(scores)]
    sentences += [_against(scores)] if scores.baselines else ["No baseline was run beside it."]
    return " ".join(sentences)


def verdict(
    difference: Estimate,
    name: str,
    *,
    groups: int,
    unit: str,
    single: bool = False,
    p: float = math.nan,
    pairs: int = 0,
) -> str:
    """Return in words what a paired difference to baseline `name` means (see `judgement.judge`)."""
    found = judge(difference, groups=groups, unit=unit, single=single, p=p, pairs=pairs)
    if found.strength == "unknown":
        return found.said(name)
    if found.strength == "no interval":
        return f"{signed(difference.value)} against {name} (one group, so no interval: not shown to be real)"
    return f"{found.said(name)}: {between(difference, signed)}"


def resampling(scores: Scores) -> str:
    """Return what the intervals stand for, in a sentence or two."""
    if scores.groups < 2:
        return "There is only one group of utterances, so there are no intervals."
    words = (
        f"Intervals are 95 % percentile intervals of 1,000 resamples of the {scores.groups} "
        f"{_plural(scores.unit)}; they say how much the choice of test {_plural(scores.unit)} matters, not that "
        "of the seed. Differences are paired: both systems on the same resamples."
    )
    words += f" {few(scores.groups, scores.unit)}".rstrip()
    if scores.unit == "row":
        words += (
            " The rows name neither dialogue, speaker nor session, so rows were drawn: the intervals are too narrow."
        )
    return words


def _reported(scores: Scores) -> str:
    """Return the means of numbers reported elsewhere; there is nothing to pool or to compare with baselines."""
    folds = {run.fold for run in scores.runs} - {0}
    pairs = [(label(t, scores.targets), *over_folds(scores, "test", t)) for t in [*scores.targets, MEAN]]
    if len(folds) > 1:
        return f"Reported, mean ± deviation over {len(folds)} folds: **{_listed(pairs)}**."
    values = ", ".join(f"{name} {number(mean)}" for name, mean, _ in pairs)
    return f"Reported for {'one fold' if folds else 'the mean alone'}: **{values}**."


def _reached(scores: Scores) -> str:
    pool = scores.pool(NETWORK)
    rows = len({(run.fold, name) for run in scores.runs for name in run.test})
    found = [f"{label(t, scores.targets)} {between(pool.estimate(t))}" for t in [*scores.targets, MEAN]]
    seeds = len({run.seed for run in scores.runs})
    over = f"{counted(len({run.fold for run in scores.runs}), 'fold')}, {counted(rows, 'utterance')}"
    over += f", the mean of {seeds} seeds" if seeds > 1 else ""
    return f"On the pooled test parts ({over}) the network reaches **{', '.join(found)}**."


def _spreads(scores: Scores) -> list[str]:
    columns = [*scores.targets, MEAN]
    seeds = sorted({run.seed for run in scores.runs})
    said = []
    if len({run.fold for run in scores.runs}) > 1:
        pairs = [(label(t, scores.targets), *over_folds(scores, "test", t)) for t in columns]
        said.append("Mean ± deviation over folds: " + _listed(pairs) + ".")
    if len(seeds) > 1:
        pairs = []
        for target in columns:
            means = [_fold_mean(scores, seed, target) for seed in seeds]
            pairs.append((label(target, scores.targets), *spread(means)))
        said.append(f"Over the {len(seeds)} seeds' means of folds: " + _listed(pairs) + ".")
    return said


def _fold_mean(scores: Scores, seed: int, target: str) -> float:
    runs = [run for run in scores.runs if run.seed == seed]
    return spread(by_fold(runs, lambda run: scores.part(run, "test")[target]).values())[0]


def _against(scores: Scores) -> str:
    """Return the comparison with the better baseline, for the mean and target by target."""
    pools = {name: scores.pool(name) for name in scores.baselines}
    single = len({run.seed for run in scores.runs}) == 1
    said = []
    for target in [MEAN, *scores.targets]:
        values = {name: pool.values[target] for name, pool in pools.items() if not math.isnan(pool.values[target])}
        if not values:
            continue
        best = max(values, key=lambda name: values[name])
        runs = scores.covered(best)
        theirs = scores.pool(best, runs, NETWORK)
        difference = scores.pool(NETWORK, runs, best).above(theirs, target)
        pairs = _pairs(scores, best, target)
        words = verdict(
            difference, f"{best}'s {number(theirs.values[target])}", groups=scores.groups, unit=scores.unit,
            single=single, p=sign_flips(pairs), pairs=len(pairs),
        )  # fmt: skip
        said.append((target, words))
    if not said:
        return "No baseline has a score to compare with."
    (_, overall), *others = said
    return f"Against the best baseline: mean **{overall}**; " + "; ".join(f"{t} {words}" for t, words in others) + "."


def _pairs(scores: Scores, name: str, target: str) -> Floats:
    """Return the folds' differences [n] of the network minus a baseline, seeds averaged first."""
    targets = scores.targets if target == MEAN else [target]

    def minus(run: Run) -> float:
        theirs = [scores.score(run.baselines[name].values(), t) for t in targets]
        return scores.part(run, "test")[target] - float(np.mean(theirs))

    values = np.array(list(by_fold(scores.covered(name), minus).values()), np.float64)
    known: Floats = values[~np.isnan(values)]
    return known


def _listed(pairs: list[tuple[str, float, float]]) -> str:
    return ", ".join(f"{name} {number(mean)} ± {number(deviation)}" for name, mean, deviation in pairs)


def _plural(unit: str) -> str:
    return unit + "s"
