"""The result in words: what was reached, how sure that is, and whether the network beats the trivial baselines."""

from __future__ import annotations

import math

from affect.report.scores import MEAN, NETWORK, Estimate, Scores, by_fold, spread
from affect.report.tables import between, label, number, over_folds, signed

_FEW = 10
"""With fewer groups than this a bootstrap interval is too narrow to be taken at its word."""


def result(scores: Scores) -> str:
    """Return one paragraph: pooled score, spread over folds and seeds, and the comparison with the baselines."""
    sentences = [_reached(scores), *_spreads(scores)]
    sentences += [_against(scores)] if scores.baselines else ["No baseline was run beside it."]
    return " ".join(sentences)


def verdict(difference: Estimate, name: str) -> str:
    """Return in words what a paired difference to baseline `name` means."""
    if math.isnan(difference.value):
        return f"can't be compared with {name}"
    if math.isnan(difference.low):
        return f"{signed(difference.value)} against {name} (one group, so no interval: not shown to be real)"
    shown = between(difference, signed)
    if difference.low > 0:
        return f"really better than {name} ({shown})"
    if difference.high < 0:
        return f"really worse than {name} ({shown})"
    return f"within noise of {name} ({shown})"


def resampling(scores: Scores) -> str:
    """Return what the intervals stand for, in a sentence or two."""
    if scores.groups < 2:
        return "There is only one group of utterances, so there are no intervals."
    words = (
        f"Intervals are 95 % percentile intervals of 1,000 resamples of the {scores.groups} "
        f"{_plural(scores.unit)}; they say how much the choice of test {_plural(scores.unit)} matters, not that "
        "of the seed. Differences are paired: both systems on the same resamples."
    )
    if scores.groups < _FEW:
        words += f" {scores.groups} {_plural(scores.unit)} are few: the intervals are rough, and rather too narrow."
    if scores.unit == "row":
        words += (
            " The rows name neither dialogue, speaker nor session, so rows were drawn: the intervals are too narrow."
        )
    return words


def _reached(scores: Scores) -> str:
    pool = scores.pool(NETWORK)
    rows = len({(run.fold, name) for run in scores.runs for name in run.test})
    found = [f"{label(t, scores.targets)} {between(pool.estimate(t))}" for t in [*scores.targets, MEAN]]
    seeds = len({run.seed for run in scores.runs})
    over = f"{_count(len({run.fold for run in scores.runs}), 'fold')}, {_count(rows, 'utterance')}"
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
    said = []
    for target in [MEAN, *scores.targets]:
        values = {name: pool.values[target] for name, pool in pools.items() if not math.isnan(pool.values[target])}
        if not values:
            continue
        best = max(values, key=lambda name: values[name])
        runs = scores.covered(best)
        theirs = scores.pool(best, runs, NETWORK)
        difference = scores.pool(NETWORK, runs, best).above(theirs, target)
        said.append((target, verdict(difference, f"{best}'s {number(theirs.values[target])}")))
    if not said:
        return "No baseline has a score to compare with."
    (_, overall), *others = said
    return f"Against the best baseline: mean **{overall}**; " + "; ".join(f"{t} {words}" for t, words in others) + "."


def _listed(pairs: list[tuple[str, float, float]]) -> str:
    return ", ".join(f"{name} {number(mean)} ± {number(deviation)}" for name, mean, deviation in pairs)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _plural(unit: str) -> str:
    return unit + "s"
