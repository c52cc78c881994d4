"""Flags of parts that score apart: validation and test, training and validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from affect.report.encoders import either
from affect.report.flag import Flag, worst
from affect.report.runs import Run
from affect.report.scores import MEAN, Scores, spread
from affect.report.tables import label, number, signed

GAP = 0.05
"""Largest difference between validation and test score that goes unflagged."""

FIT = 0.15
"""Largest train minus validation score that goes unflagged: three times GAP, for what a model was trained on it
always does better on. Report 000 calls a loss of .14 on unseen data severe."""

_OVERFIT_ADVICE = (
    "report 000's remedies (v3): dropout .3, weight_decay 1e-3, a smaller model (prosody_dim 64, mamba_layers 2), "
    "{encoder}patience 15; then augmentation (augmented)"
)
_ABOVE_ADVICE = "who is in which part, by chance: judge by the mean over folds, not by this fold"


def valid_and_test(scores: Scores) -> Iterator[Flag]:
    """Yield a flag for each fold whose validation and test scores (means of seeds) differ by more than GAP."""
    # Fold 0 is a mean whose folds are unknown.
    for fold in sorted({run.fold for run in scores.runs}):
        runs = [run for run in scores.runs if run.fold == fold]
        known = {target: _means(scores, runs, target) for target in [*scores.targets, MEAN]}
        gaps = {target: valid - test for target, (valid, test) in known.items()}
        wide = [target for target in scores.targets if abs(gaps[target]) > GAP]
        # The mean says more than the targets do only where none of them is over the limit.
        wide = wide or ([MEAN] if abs(gaps[MEAN]) > GAP else [])
        if not wide:
            continue
        most = max(wide, key=lambda target: abs(gaps[target]))
        words = [
            f"{_name(scores, t)}: valid {number(known[t][0])}, test {number(known[t][1])} ({signed(-gaps[t])})"
            for t in wide
        ]
        below = gaps[most] > 0
        advice = overfit_advice(runs) if below else _ABOVE_ADVICE
        where = runs[0].name if len(runs) == 1 else f"fold {fold}, {_alike(scores, runs, most, below)} seeds"
        kind = "valid above test" if below else "test above valid"
        yield Flag(kind, where, "; ".join(words), advice, abs(gaps[most]))


def train_and_valid(scores: Scores) -> list[Flag]:
    """Return one flag for all runs that score far higher on what they were trained on."""
    found: dict[str, tuple[float, str]] = {}
    for run in scores.runs:
        train, valid = scores.part(run, "train"), scores.part(run, "valid")
        gaps = {target: train[target] - valid[target] for target in scores.targets}
        wide = {target: gap for target, gap in gaps.items() if gap > FIT}
        if wide:
            words = [f"{_name(scores, t)}: train {number(train[t])}, valid {number(valid[t])}" for t in wide]
            found[run.name] = (max(wide.values()), "; ".join(words))
    return worst("train above valid", found, len(scores.runs), overfit_advice(scores.runs))


def overfit_advice(runs: Sequence[Run]) -> str:
    """Return what report 000 suggests against overfitting."""
    return _OVERFIT_ADVICE.format(encoder=either(runs, "encoder_lr 5e-6, "))


def _means(scores: Scores, runs: Sequence[Run], target: str) -> tuple[float, float]:
    """Return the validation and the test score, each the mean over seeds."""
    valid, test = (spread(scores.part(run, part)[target] for run in runs)[0] for part in ("valid", "test"))
    return valid, test


def _alike(scores: Scores, runs: Sequence[Run], target: str, below: bool) -> str:
    """Return in how many of the seeds the gap is as wide, to the same side."""
    gaps = [scores.part(run, "valid")[target] - scores.part(run, "test")[target] for run in runs]
    return f"{sum(abs(gap) > GAP and (gap > 0) == below for gap in gaps)} of {len(runs)}"


def _name(scores: Scores, target: str) -> str:
    if target != MEAN:
        return label(target, scores.targets)
    return "mean" if scores.targets.classes else "mean CCC"
