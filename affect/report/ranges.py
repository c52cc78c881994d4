"""Flags of predictions and labels that say nothing, or that do not lie where the corpus's scale has them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from affect.errors import first_few
from affect.findings import Flag, finite
from affect.report.rows import Record
from affect.report.study import Study
from affect.report.systems import Floats

COLLAPSED = 0.05
OUTSIDE = 0.01
"""Share of labels outside the scale that goes unflagged: a few means of several raters may lie slightly outside it."""

PART = 0.3
"""Share of the scale that labels use at least: labels of 0..1 read on a scale of 1..5 use a quarter of it."""

BEYOND = 0.05
BORDER = 0.2
_NEAR = 0.01
_FEWEST = 20

ONE_CLASS = 0.9
"""Largest share of predictions of one class that goes unflagged, where the labels are more varied."""


def predictions(study: Study) -> Iterator[Flag]:
    """Yield predictions that are no numbers, absent, or all (nearly) the same, of every run and target."""
    for run in study.finished if study.task is not None else ():
        for evaluation in (name for name in study.evaluations if name in run.predictions):
            rows = list(run.predictions[evaluation].values())
            where = f"{evaluation} " if len(study.evaluations) > 1 else ""
            for target in sorted({*study.numeric, *study.categorical}):
                labels = {type(row["target"].get(target)) for row in rows}
                find = _class_predictions if str in labels else _number_predictions if float in labels else None
                for flag in find(rows, target) if find else ():
                    yield replace(flag, where=run.name, evidence=f"{where}{target}: {flag.evidence}")


def averages(study: Study) -> Iterator[Flag]:
    """Yield what the mean of the folds' models has no prediction of, and classes that the data does not have."""
    for evaluation in (name for name in study.evaluations if study.task is not None and study.system(name).shared):
        rows = study.system(evaluation).rows()
        for target in study.categorical:
            wrong = sum(not isinstance(row["prediction"].get(target), str) for row in rows)
            if wrong:
                words = f"{target}: {wrong} of {len(rows)} rows have no mean prediction; there is no score"
                yield Flag("NaN predictions", evaluation, words, size=wrong)
    for run in study.finished if study.classes else ():
        for evaluation in (name for name in study.evaluations if name in run.predictions):
            labels = (label for row in run.predictions[evaluation].values() for label in row["target"].values())
            if strangers := sorted({label for label in labels if isinstance(label, str)} - set(study.classes)):
                words = f"predictions-{evaluation}.jsonl: no class is called {first_few(strangers)}"
                yield Flag("unreadable", run.name, words)


def _number_predictions(rows: list[Record], target: str) -> Iterator[Flag]:
    p, t = _numbers(rows, "prediction", target), _numbers(rows, "target", target)
    wrong = int((~np.isfinite(p)).sum())
    if wrong:
        yield Flag("NaN predictions", "", f"{wrong} of {len(rows)}; there is no score", size=wrong)
    # Without a finite label there is no deviation to compare.
    elif len(p) > 1 and np.isfinite(t).sum() > 1 and np.std(p) < COLLAPSED * np.nanstd(t):
        words = f"deviation {np.std(p):.2g}, the labels' is {np.nanstd(t):.2g}"
        yield Flag("constant predictions", "", words)


def _class_predictions(rows: list[Record], target: str) -> Iterator[Flag]:
    pairs = [(row["prediction"].get(target), row["target"].get(target)) for row in rows]
    labelled = [(p, t) for p, t in pairs if isinstance(t, str)]
    wrong = sum(not isinstance(p, str) for p, _ in labelled)
    if wrong:
        yield Flag("NaN predictions", "", f"{wrong} of {len(rows)}; there is no score", size=wrong)
        return
    predicted, labels = (Counter(side) for side in zip(*labelled, strict=True))
    name, count = predicted.most_common(1)[0]
    share, true = count / len(labelled), max(labels.values()) / len(labelled)
    if len(predicted) == 1 and len(labels) > 1:
        words = f"always {name}, the labels have {len(labels)} classes"
        yield Flag("constant predictions", "", words, size=share)
    elif share > ONE_CLASS and true <= ONE_CLASS:
        of_labels = 100 * labels[name] / len(labelled)
        words = f"{100 * share:.0f} % of predictions are {name}, of the labels {of_labels:.0f} %"
        yield Flag("collapse to one class", "", words, size=share)


def scales(study: Study) -> Iterator[Flag]:
    """Yield labels and predictions that lie outside environment.json's `scale`, use a bit of it, or stick to its ends.

    All runs of a scale count together. That runs have different scales is a flag of mixed runs.
    """
    by_scale: dict[tuple[float, float], list[Record]] = {}
    for run in study.finished:
        scale = run.environment.get("scale")
        if isinstance(scale, list) and len(scale) == 2 and all(map(finite, scale)) and scale[0] < scale[1]:
            rows = (row for name in study.tests for row in (run.predictions.get(name) or {}).values())
            by_scale.setdefault((float(scale[0]), float(scale[1])), []).extend(rows)
    for (low, high), members in by_scale.items():
        for target in study.numeric:
            p, t = _numbers(members, "prediction", target), _numbers(members, "target", target)
            # A prediction without a label is compared with nothing, but lies on the scale too.
            for flag in _off_scale(p[np.isfinite(p)], t[np.isfinite(t)], low, high):
                yield replace(flag, evidence=f"{target}: {flag.evidence}")


def _numbers(rows: list[Record], side: str, target: str) -> Floats:
    """Return predictions or labels [R] of a target that is a number, NaN where they are none."""
    values = (row[side].get(target) for row in rows)
    return np.array([v if isinstance(v, float) else math.nan for v in values], np.float64)


def _off_scale(p: Floats, t: Floats, low: float, high: float) -> Iterator[Flag]:
    beyond, usual = _outside(t, low, high), _border(t, low, high)
    if len(t) >= _FEWEST:
        share = float(np.ptp(t)) / (high - low)
        words = [f"{beyond:.0%} outside it"] if beyond > OUTSIDE else []
        words += [f"{share:.0%} of it used"] if share < PART else []
        if words:
            evidence = f"labels from {t.min():.3g} to {t.max():.3g} on a scale of {low:g} to {high:g}"
            yield Flag("label range", "test labels", f"{evidence}: {', '.join(words)}")
    if len(p) < _FEWEST:
        return
    if (outside := _outside(p, low, high)) > max(BEYOND, beyond):
        evidence = f"{outside:.0%} outside {low:g} to {high:g} (from {p.min():.3g} to {p.max():.3g})"
        yield Flag("predictions off the scale", "test predictions", evidence)
    if (border := _border(p, low, high)) > usual + BORDER:
        evidence = f"{border:.0%} at an end of {low:g} to {high:g}, where {usual:.0%} of the labels are"
        yield Flag("predictions at the border", "test predictions", evidence)


def _outside(values: Floats, low: float, high: float) -> float:
    margin = 1e-6 * (high - low)
    return float(np.mean((values < low - margin) | (values > high + margin))) if len(values) else 0.0


def _border(values: Floats, low: float, high: float) -> float:
    """Return the share of values at an end of the scale; those beyond it are counted elsewhere."""
    near = _NEAR * (high - low)
    at = (np.abs(values - low) <= near) | (np.abs(values - high) <= near)
    return float(np.mean(at)) if len(values) else 0.0
