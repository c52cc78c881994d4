"""The part of the page on categorical targets: accuracies, recalls and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from affect.metrics.classification import Names, confusion, macro_f1, unweighted_accuracy, weighted_accuracy
from affect.report.runs import Run
from affect.report.scores import Scores, by_fold, names, recorded, spread
from affect.report.tables import grid, number

MEASURES: dict[str, tuple[str, Callable[[Names, Names], float]]] = {
    "WA": ("wa", weighted_accuracy),
    "UA": ("ua", unweighted_accuracy),
    "macro F1": ("f1", macro_f1),
}
"""By the name in the table: how the trainer calls it, and how it is computed."""

_LEGEND = (
    "WA: share of utterances that are right. UA: mean recall of the classes that occur in the labels. Macro F1: mean "
    "F1 of the classes that occur in labels or predictions. Utterances without a label are left out; the deviation "
    "is that of a sample, over folds (seeds averaged first)."
)


def section(scores: Scores) -> str:
    """Return the tables of every categorical target in Markdown, with subheadings and a legend; "" without one."""
    targets = [target for target in scores.targets if target in scores.targets.classes]
    parts = []
    for target in targets:
        parts += [f"### {target}", accuracies(scores, target)]
        matrix = confusions(scores, target)
        seeds = len({run.seed for run in scores.runs if run.test})
        counted = f", the {seeds} seeds together" if seeds > 1 else ""
        parts += [f"All test parts{counted}: rows are labels, columns predictions.", matrix] if matrix else []
    return "\n\n".join([*parts, _LEGEND]) if parts else ""


def accuracies(scores: Scores, target: str) -> str:
    """Return a line a fold with WA, UA and macro F1, then their mean and deviation, and the scores of all rows."""
    folds = {m: by_fold(scores.runs, lambda run, m=m: measured(run, target, m)) for m in MEASURES}  # type: ignore[misc]
    numbers = list(next(iter(folds.values())))
    # Fold 0 is a mean whose folds nobody knows.
    rows = [[str(fold), *(number(folds[m][fold]) for m in MEASURES)] for fold in numbers if fold]
    spreads = [spread(folds[m].values()) for m in MEASURES]
    rows.append(["mean", *(number(mean) for mean, _ in spreads)])
    rows.append(["std", *(number(deviation) for _, deviation in spreads)])
    rows.append(["all rows", *(number(pooled(scores, target, m)) for m in MEASURES)])
    return grid(["fold", *MEASURES], rows)


def confusions(scores: Scores, target: str) -> str:
    """Return the confusion matrix over all test parts with the recall of each class; "" without predictions."""
    x, y = _predicted(scores.runs, target)
    known = (x != "") & (y != "")
    if not known.any():
        return ""
    labels = [str(name) for name in np.union1d(x[known], y[known])]
    table = confusion(x[known], y[known], labels)
    rows = []
    for i, name in enumerate(labels):
        count = int(table[i].sum())
        recall = table[i, i] / count if count else math.nan
        rows.append([name, *(str(n) for n in table[i]), str(count), number(float(recall))])
    return grid(["label", *labels, "n", "recall"], rows)


def measured(run: Run, target: str, measure: str) -> float:
    """Return a measure of a run's test part, from its predictions, else as recorded (NaN: unknown)."""
    key, score = MEASURES[measure]
    if not run.test:
        return recorded(run, "test", target, key)
    return _score(score, *names(run.test.values(), target))


def pooled(scores: Scores, target: str, measure: str) -> float:
    """Return a measure over all rows of all folds, averaged over seeds (NaN without predictions)."""
    seeds = sorted({run.seed for run in scores.runs})
    found = [_predicted([run for run in scores.runs if run.seed == seed], target) for seed in seeds]
    return spread(_score(MEASURES[measure][1], x, y) for x, y in found)[0]


def _predicted(runs: Sequence[Run], target: str) -> tuple[Names, Names]:
    return names((row for run in runs for row in run.test.values()), target)


def _score(score: Callable[[Names, Names], float], x: Names, y: Names) -> float:
    """Return a score; NaN where a labelled row has no prediction, which the flags name."""
    return math.nan if ((x == "") & (y != "")).any() else score(x, y)
