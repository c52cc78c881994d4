"""Signs of trouble that a run folder shows by itself, each with its evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from affect.report.runs import Run
from affect.report.scores import MEAN, Scores, arrays, by_fold, recorded, section, spread
from affect.report.tables import flat, label, number, signed, text

GAP = 0.05
"""Largest difference between validation and test CCC that goes unflagged."""

DEVIATIONS = 2.0
WAITING = 0.10
STILL = 0.01
COLLAPSED = 0.05


@dataclass(frozen=True)
class Flag:
    """One sign of trouble: its kind in a word or two, where it shows, and the numbers that show it."""

    kind: str
    where: str
    evidence: str


def flags(runs: Sequence[Run]) -> list[Flag]:
    """Return everything that looks wrong in runs of one experiment, what weighs most first."""
    scores = Scores(runs=[run for run in runs if run.finished])
    found: list[Flag] = []
    for check in (_unfinished, _unreadable, _mixed):
        found += check(runs)
    for test in (_predictions, _outlying, _gap, _still, _recorded):
        found += test(scores)
    return [*found, *_losses(runs), *_waiting(runs)]


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
        if len(others) >= 3 and abs(value - mean) > max(DEVIATIONS * deviation, 1e-9):
            found[fold] = (mean, deviation)
    return found


def mapped(run: Run) -> bool:
    """Say whether a run's dimensional labels were derived from categories, not rated."""
    return any(key.split(".")[-1] == "mapped" and value is True for key, value in flat(run.environment).items())


def _unfinished(runs: Sequence[Run]) -> Iterator[Flag]:
    for run in runs:
        if not run.finished:
            step = max((record["step"] for record in [*run.steps, *run.evals]), default=0)
            yield Flag("unfinished", run.name, f"no end in metrics.jsonl (last step {step}); left out of every score")
    present = {(run.seed, run.fold) for run in runs}
    for seed in sorted({run.seed for run in runs}):
        missing = sorted({run.fold for run in runs} - {fold for other, fold in present if other == seed})
        if missing:
            yield Flag("missing folds", f"seed {seed}", f"fold {' '.join(map(str, missing))}, which another seed has")


def _unreadable(runs: Sequence[Run]) -> Iterator[Flag]:
    for run in runs:
        for problem in run.problems:
            yield Flag("unreadable", run.name, problem)
        if run.finished and not run.test:
            yield Flag("no predictions", run.name, "finished, but no readable predictions-test.jsonl")


def _mixed(runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield settings and corpus versions that differ between runs that are averaged."""
    # Folds differ by design, and what decides memory and speed alone may change between sessions.
    own = {"seed", "data.fold", *(f"train.{n}" for n in ("budget", "mode", "workers", "trackers", "world", "keep"))}
    for what, records in (("settings", [r.recipe for r in runs]), ("corpus", [_corpus(r) for r in runs])):
        known = [flat(record) for record in records if record]
        names = sorted({name for record in known for name in record} - own)
        for name in names:
            values = sorted({text(record.get(name)) for record in known})
            if len(values) > 1:
                yield Flag(f"mixed {what}", "across runs", f"{name} is {' or '.join(values)}")


def _corpus(run: Run) -> dict[str, object]:
    return {k: v for k, v in flat(run.environment).items() if k.split(".")[-1] in ("fingerprint", "mapped", "scale")}


def _predictions(scores: Scores) -> Iterator[Flag]:
    for run in scores.runs:
        for target in scores.targets:
            p, t = arrays(run.test.values(), target)
            wrong = int((~np.isfinite(p)).sum())
            if wrong:
                yield Flag("NaN predictions", run.name, f"{target}: {wrong} of {len(p)}; the fold has no score")
            elif len(p) > 1 and np.isfinite(t).sum() > 1 and np.std(p) < COLLAPSED * np.nanstd(t):
                evidence = f"{target}: deviation {np.std(p):.2g}, the labels' is {np.nanstd(t):.2g}"
                yield Flag("constant predictions", run.name, evidence)


def _outlying(scores: Scores) -> Iterator[Flag]:
    for target in scores.targets:
        values = by_fold(scores.runs, _value(scores, target))
        for fold, (mean, deviation) in outlying(values).items():
            others = f"the other folds have {number(mean)} ± {number(deviation)}"
            far = f" ({abs(values[fold] - mean) / deviation:.1f} deviations)" if deviation > 0 else ""
            name = label(target, scores.targets)
            yield Flag("outlying fold", f"fold {fold}", f"{name} {number(values[fold])}, {others}{far}")


def _value(scores: Scores, target: str) -> Callable[[Run], float]:
    return lambda run: scores.part(run, "test")[target]


def _gap(scores: Scores) -> Iterator[Flag]:
    for run in scores.runs:
        valid, test = scores.part(run, "valid"), scores.part(run, "test")
        wide = [target for target in scores.targets if abs(valid[target] - test[target]) > GAP]
        # The mean says more than the targets do only where none of them is over the limit.
        for target in wide or ([MEAN] if abs(valid[MEAN] - test[MEAN]) > GAP else []):
            gap = valid[target] - test[target]
            name = "mean CCC" if target == MEAN else label(target, scores.targets)
            kind = "valid above test" if gap > 0 else "test above valid"
            yield Flag(kind, run.name, f"{name}: valid {number(valid[target])}, test {number(test[target])} "
                                       f"({signed(-gap)})")  # fmt: skip


def _still(scores: Scores) -> Iterator[Flag]:
    for run in scores.runs:
        evals = [event for event in run.evals if event.get("split") == "valid"]
        for target in scores.targets:
            course = [section(event, "scores").get(f"ccc_{target}") for event in evals]
            values = [float(v) for v in course if isinstance(v, int | float) and math.isfinite(v)]
            if len(values) >= 4 and max(values) - values[0] < STILL:
                evidence = (
                    f"valid {label(target, scores.targets)} {number(values[0])} at first, {number(max(values))} at best"
                )
                yield Flag(
                    "stands still", run.name, f"{evidence}, {number(values[-1])} at last; check the learning rates"
                )


def _recorded(scores: Scores) -> Iterator[Flag]:
    for run in scores.runs:
        part = scores.part(run, "test")
        for target in scores.targets:
            written = recorded(run, "test", target)
            if abs(written - part[target]) > 1e-3:
                evidence = f"{target}: {number(written)} in metrics.jsonl, {number(part[target])} from the predictions"
                yield Flag("scores disagree", run.name, evidence)


def _losses(runs: Sequence[Run]) -> Iterator[Flag]:
    for run in runs:
        steps = [r["step"] for r in run.steps if not _finite(r.get("loss"))]
        if steps:
            yield Flag("NaN loss", run.name, f"{len(steps)} of {len(run.steps)} logged steps, the first is {steps[0]}")
        norms = [r["step"] for r in run.steps if "grad_norm" in r and not _finite(r["grad_norm"])]
        if norms:
            yield Flag("NaN gradient", run.name, f"{len(norms)} of {len(run.steps)} logged steps, first {norms[0]}")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _waiting(runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield one flag for all runs that wait for data: they share a machine and its cause."""
    shares: dict[str, float] = {}
    for run in runs:
        known = [r for r in run.timing if _finite(r.get("waiting"))]
        if not known:
            continue
        seconds = [r["seconds"] if _finite(r.get("seconds")) else 1.0 for r in known]
        share = float(np.average([r["waiting"] for r in known], weights=seconds)) if sum(seconds) > 0 else 0.0
        if share > WAITING:
            shares[run.name] = share
    if shares:
        worst = max(shares, key=lambda name: shares[name])
        where = worst if len(shares) == 1 else f"{len(shares)} of {len(runs)} runs, most in {worst}"
        yield Flag("data-bound", where, f"{shares[worst]:.0%} of the time spent waiting for data; more loader workers")
