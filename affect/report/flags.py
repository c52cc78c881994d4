"""Signs of trouble (and of success) that run folders show by themselves, each with its evidence and what to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from affect.recipe import FREE
from affect.report import courses, gaps, leaks, outliers, quick, ranges
from affect.report.flag import Flag, gathered
from affect.report.outliers import outlying
from affect.report.runs import Run
from affect.report.scores import Scores, by_fold, spread
from affect.report.tables import flat, label, number, text

__all__ = ["Flag", "flags", "mapped", "outlying"]

_SEVERITY = (
    # The numbers are wrong, or not all there.
    "unreadable", "no predictions", "scores disagree", "mixed settings", "mixed corpus", "leaking split",
    "NaN predictions", "constant predictions", "label range", "NaN loss", "NaN gradient", "exploding loss",
    "exploding gradient", "unfinished", "missing folds",
    # They are right, but could be better, or say less than they seem to.
    "rising loss", "outlying fold", "valid above test", "train above valid", "falling score", "stands still",
    "predictions off the scale", "predictions at the border", "seeds differ more than folds", "test above valid",
    "sharing allowed", "data-bound", "memory nearly full", "quick check failed", "quick check passed",
)  # fmt: skip
"""All kinds of flags, what weighs most first."""

_UNFINISHED_ADVICE = "give the same command again: it goes on from the last checkpoint and skips what is finished"
_MIXED_ADVICE = "average only runs of one recipe and corpus: another --name, or --overwrite the odd ones"
_SEEDS_ADVICE = (
    "the folds tell less than chance does: more seeds before any comparison, their ensemble, weight averaging"
)
_DISAGREE_ADVICE = "one of the two files is of another run: train that fold again with --overwrite"


def flags(runs: Sequence[Run]) -> list[Flag]:
    """Return everything that looks wrong (or, last, promising) in runs of one experiment, what weighs most first."""
    # Of a paper there is nothing to read but its scores.
    own = [run for run in runs if not run.reported]
    scores = Scores(runs=[run for run in runs if run.finished or run.reported])
    trained = Scores(runs=[run for run in own if run.finished])
    found = [
        *_unfinished(own),
        *_unreadable(own),
        *_mixed(own),
        *leaks.leaks(own),
        *ranges.empty_predictions(trained),
        *courses.losses(own),
        *ranges.label_ranges(trained),
        *courses.scores_over_epochs(trained),
        *_seeds(scores),
        *_recorded(trained),
        *courses.waiting(own),
        *courses.memory(own),
        *quick.check(own),
    ]
    # What depends on who is in a fold stays fold by fold; all else is a row a kind.
    by_fold = [*outliers.odd_folds(scores), *gaps.valid_and_test(scores), *gaps.train_and_valid(scores)]
    together = [*gathered(found, {run.name for run in runs}), *by_fold]
    return sorted(together, key=lambda flag: (_SEVERITY.index(flag.kind), -flag.size))


def mapped(run: Run) -> bool:
    """Say whether a run's dimensional labels were derived from categories, not rated."""
    return any(key.split(".")[-1] == "mapped" and value is True for key, value in flat(run.environment).items())


def _unfinished(runs: Sequence[Run]) -> Iterator[Flag]:
    for run in runs:
        if not run.finished:
            step = max((record["step"] for record in [*run.steps, *run.evals]), default=0)
            yield Flag("unfinished", run.name, f"no end in metrics.jsonl (last step {step}); left out of every score",
                       _UNFINISHED_ADVICE)  # fmt: skip
    present = {(run.seed, run.fold) for run in runs}
    for seed in sorted({run.seed for run in runs}):
        missing = sorted({run.fold for run in runs} - {fold for other, fold in present if other == seed})
        if missing:
            yield Flag(
                "missing folds",
                f"seed {seed}",
                f"fold {' '.join(map(str, missing))}, which another seed has",
                _UNFINISHED_ADVICE,
            )


def _unreadable(runs: Sequence[Run]) -> Iterator[Flag]:
    for run in runs:
        for problem in run.problems:
            yield Flag("unreadable", run.name, problem)
        if run.finished and not run.test:
            yield Flag("no predictions", run.name, "finished, but no readable predictions-test.jsonl")


def _mixed(runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield settings and corpus versions that differ between runs that are averaged."""
    # Folds differ by design, and what decides no result may change between sessions.
    own = {"seed", "data.fold", *FREE}
    for what, records in (("settings", [r.recipe for r in runs]), ("corpus", [_corpus(r) for r in runs])):
        known = [flat(record) for record in records if record]
        names = sorted({name for record in known for name in record} - own)
        for name in names:
            values = sorted({text(record.get(name)) for record in known})
            if len(values) > 1:
                yield Flag(f"mixed {what}", "across runs", f"{name} is {' or '.join(values)}", _MIXED_ADVICE)


def _corpus(run: Run) -> dict[str, object]:
    return {k: v for k, v in flat(run.environment).items() if k.split(".")[-1] in ("fingerprint", "mapped", "scale")}


def _seeds(scores: Scores) -> Iterator[Flag]:
    """Yield a flag where the same fold differs more between seeds than folds differ."""
    found = []
    for target in scores.targets:
        known = [(run.fold, scores.part(run, "test")[target]) for run in scores.runs if run.fold]
        within = [spread(v for f, v in known if f == fold)[1] for fold in sorted({f for f, _ in known})]
        within = [deviation for deviation in within if not math.isnan(deviation)]
        means = by_fold(scores.runs, lambda run, t=target: scores.part(run, "test")[t])  # type: ignore[misc]
        among = spread(means.values())[1]
        # Of two folds, or two values in all, a deviation says nothing.
        seeds = float(np.sqrt(np.mean(np.square(within)))) if within else math.nan
        if len(within) >= 3 and seeds > among:
            found.append(f"{label(target, scores.targets)}: ± {number(seeds)} over seeds, ± {number(among)} over folds")
    if found:
        yield Flag("seeds differ more than folds", "across runs", "; ".join(found), _SEEDS_ADVICE)


def _recorded(scores: Scores) -> Iterator[Flag]:
    for run in scores.runs:
        part = scores.part(run, "test")
        for target in scores.targets:
            written = scores.recorded(run, "test", target)
            if abs(written - part[target]) > 1e-3:
                evidence = f"{target}: {number(written)} in metrics.jsonl, {number(part[target])} from the predictions"
                yield Flag("scores disagree", run.name, evidence, _DISAGREE_ADVICE)
