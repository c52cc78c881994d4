"""What the parts, modalities, conditions and scores of a multimodal emotion experiment are called."""

from __future__ import annotations

from collections.abc import Sequence

from affect.report.runs import Run

TASK = "multimodal_emotion"
"""What recipe.json calls the task."""

CV = "valid"
TESTS = ("test1", "test2", "test3")
PARTS = (CV, *TESTS)
SCORES = ("f1", "acc", "val")
"""The columns of report 001's table: weighted F1, accuracy, mean squared error of valence."""

MODALITIES = ("audio", "text", "video")
LETTERS = "ATV"
WHOLE = "ATV"
INCOMPLETE = ("A", "T", "V", "AT", "AV", "TV")
SUBSETS = (*INCOMPLETE, WHOLE)
RATES = tuple(f"missing=0.{tenth}" for tenth in range(8))
NOISES = ("snr=20", "snr=10", "snr=5", "snr=0")
SHUFFLES = tuple(f"shuffle={letter}" for letter in LETTERS)

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
"""MER2023's emotions, where environment.json names none."""

SEEDS = 6
"""Seeds that a claim needs: of fewer the sign-flip test can't reach p .05."""

LOWER = frozenset({"val"})
"""Scores that are errors: lower is better."""


def is_multimodal(runs: Sequence[Run]) -> bool:
    """Tell whether runs are of this task, as their recipes say."""
    return any(run.recipe.get("task") == TASK for run in runs)


def shown(part: str) -> str:
    """Return what a part is called on the page: the folds' validation parts together are cv."""
    return "cv" if part == CV else part
