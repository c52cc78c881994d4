"""The flag of a quick check: one fold of several, run to see whether the whole is worth its days (report 002)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from affect.report.encoders import either
from affect.report.flag import Flag
from affect.report.runs import Run
from affect.report.scores import CCC, Scores, section, spread
from affect.report.tables import label, number

PASSED = 0.62
"""Test CCC-V from which report 002 runs all folds."""

FAILED = 0.60
EPOCHS = 20
"""Report 002 calls a lower CCC-V a failure after this many epochs."""

_ROTATING = ("session", "speaker", "script")
"""Splits that hold out each group in turn, so that there is always more than one fold."""

_PASSED_ADVICE = "run the full one: all folds, 50 epochs (finetune_full)"
_FAILED_ADVICE = (
    "before any full run change encoder_lr: 5e-5 if it was too small to learn, 5e-6 if it spoilt the pretrained weights"
)
_FROZEN_ADVICE = "before any full run change lr, or the encoder: a trained or a larger one"


def check(runs: Sequence[Run]) -> Iterator[Flag]:
    """Yield whether a single fold of a corpus with more of them reached report 002's bar; nothing in between."""
    scores = Scores(runs=[run for run in runs if run.finished])
    folds = {run.fold for run in runs}
    if not scores.runs or len(folds) != 1 or "valence" not in scores.targets or scores.measure("valence") != CCC:
        return
    # A corpus's own split may have one test part in all.
    if any(section(run.recipe, "data").get("split") not in _ROTATING for run in scores.runs):
        return
    value = spread(scores.part(run, "test")["valence"] for run in scores.runs)[0]
    where = f"fold {min(folds)}"
    words = f"test {label('valence', scores.targets)} {number(value)} on this fold alone"
    if value >= PASSED:
        yield Flag("quick check passed", where, f"{words}; report 002 asks for {PASSED:.2f}", _PASSED_ADVICE)
    epochs = min(max((e["step"] for e in run.evals), default=0) * run.pace for run in scores.runs)
    if value < FAILED and epochs >= EPOCHS - 0.5:
        words += f" after {epochs:g} epochs; report 002 asks for {FAILED:.2f}"
        yield Flag("quick check failed", where, words, either(scores.runs, _FAILED_ADVICE, _FROZEN_ADVICE))
