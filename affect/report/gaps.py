"""Flags of parts that score apart: validation and test, training and validation."""

from __future__ import annotations

from collections.abc import Iterator

from affect.findings import Flag, worst
from affect.report.runs import TRAIN, VALID
from affect.report.study import Study
from affect.report.systems import spread
from affect.tables import number, signed
from affect.task import Measure

GAP = 0.05
"""Largest difference between validation and test score that goes unflagged."""

FIT = 0.15
"""Largest train minus validation score that goes unflagged: three times GAP, for what a model was trained on it
always does better on. Report 000 calls a loss of .14 on unseen data severe."""

CHOSEN_FIT = 0.2
"""The same of the measure that chooses: its validation score is the best of several."""


def unit(measure: Measure, value: float) -> float:
    """Return what a difference of a measure is told in: 1 of a score, of an error over 1 its size."""
    return 1.0 if measure.sign > 0 else max(1.0, abs(value))


def tests(study: Study) -> list[str]:
    """Return the tests whose rows are each fold's own, so that fold and validation part belong together."""
    return [name for name in study.tests if study.reported or name in study.crossed]


def valid_and_test(study: Study) -> Iterator[Flag]:
    """Yield a flag for each fold whose validation and test scores (means of seeds) differ by more than GAP."""
    for evaluation in tests(study) if VALID in study.evaluations else ():
        # Fold 0 is a mean whose folds are unknown.
        for fold in sorted({run.fold for run in study.finished}):
            yield from _of_fold(study, evaluation, fold)


def _of_fold(study: Study, evaluation: str, fold: int) -> Iterator[Flag]:
    runs = [run for run in study.finished if run.fold == fold]
    scores = {m: [(study.of_run(r, VALID, m), study.of_run(r, evaluation, m)) for r in runs] for m in study.headline}
    means = {m: tuple(spread(side)[0] for side in zip(*each, strict=True)) for m, each in scores.items()}
    gaps = {m: m.sign * (valid - test) / unit(m, valid) for m, (valid, test) in means.items()}
    # A measure made of others says more than they do only where none of them is over the limit.
    wide = [m for m in gaps if not m.parts and abs(gaps[m]) > GAP] or [m for m in gaps if abs(gaps[m]) > GAP]
    if not wide:
        return
    most = max(wide, key=lambda m: abs(gaps[m]))
    words = [f"{m.shown}: valid {number(means[m][0])}, {evaluation} {number(means[m][1])} "
             f"({signed(means[m][1] - means[m][0])})"
             for m in wide]  # fmt: skip
    below = gaps[most] > 0
    each = [most.sign * (valid - test) / unit(most, means[most][0]) for valid, test in scores[most]]
    alike = f"{sum(abs(gap) > GAP and (gap > 0) == below for gap in each)} of {len(runs)}"
    where = runs[0].name if len(runs) == 1 else f"fold {fold}, {alike} seeds"
    kind = "valid above test" if below else "test above valid"
    yield Flag(kind, where, "; ".join(words), size=abs(gaps[most]))


def train_and_valid(study: Study) -> list[Flag]:
    """Return one flag for all runs that score far higher on what they were trained on."""
    found: dict[str, tuple[float, str]] = {}
    singles = [m for m in study.headline if not m.parts]
    for run in study.finished:
        for measures, limit in ((study.measures[:1], CHOSEN_FIT), (singles, FIT)):
            pairs = {m: (run.recorded(TRAIN, m.name), study.of_run(run, VALID, m)) for m in measures}
            gaps = {m: m.sign * (train - valid) / unit(m, valid) for m, (train, valid) in pairs.items()}
            if wide := {m: gap for m, gap in gaps.items() if gap > limit}:
                words = [f"{m.shown}: train {number(pairs[m][0])}, valid {number(pairs[m][1])}" for m in wide]
                # The singles, which come last, say more than the one that chooses.
                found[run.name] = (max(wide.values()), "; ".join(words))
    return worst("train above valid", found, len(study.finished))
