"""Flags of predictions and labels that say nothing, or that do not lie where the corpus's scale has them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from affect.metrics.regression import Floats
from affect.report.flag import Flag, finite
from affect.report.scores import CCC, Scores, arrays, names

COLLAPSED = 0.05
OUTSIDE = 0.01
"""Share of labels outside the scale that goes unflagged: a few of IEMOCAP's means lie slightly outside 1..5."""

PART = 0.3
"""Share of the scale that labels use at least: labels of 0..1 read on a scale of 1..5 use a quarter of it."""

BEYOND = 0.05
BORDER = 0.2
_NEAR = 0.01
_FEWEST = 20

_RANGE_ADVICE = "data.scale (or the corpus's columns) is not that of the labels; CCC needs both sides on one scale"
_BEYOND_ADVICE = "bound the outputs to the scale (--model.sigmoid True)"
_BORDER_ADVICE = "the sigmoid is saturated, its gradient gone: lower lr, or unbounded outputs (--model.sigmoid False)"
_CONSTANT_ADVICE = (
    "nothing is learned: a higher lr for the head, a larger batch (CCC of few says nothing), no NaN inputs"
)
_NAN_ADVICE = "look at those utterances (silence? a broken file?), then clip at .3 and lower the rates"


def empty_predictions(scores: Scores) -> Iterator[Flag]:
    """Yield predictions that are no numbers, absent, or all (nearly) the same."""
    for run in scores.runs:
        rows = run.test.values()
        for target in scores.targets:
            if scores.measure(target) == CCC:
                p, t = arrays(rows, target)
                wrong = int((~np.isfinite(p)).sum())
                # Without a finite prediction or label there is no deviation to compare.
                known = wrong == 0 and len(p) > 1 and np.isfinite(t).sum() > 1
                same = bool(known and np.std(p) < COLLAPSED * np.nanstd(t))
                evidence = f"{target}: deviation {np.std(p):.2g}, the labels' is {np.nanstd(t):.2g}" if same else ""
            else:
                x, y = names(rows, target)
                wrong = int(((x == "") & (y != "")).sum())
                kinds = len(set(y[y != ""]))
                same = wrong == 0 and kinds > 1 and len(set(x[y != ""])) == 1
                evidence = f"{target}: always {x[y != ''][0]}, the labels have {kinds} classes" if same else ""
            if wrong:
                words = f"{target}: {wrong} of {len(rows)}; the fold has no score"
                yield Flag("NaN predictions", run.name, words, _NAN_ADVICE)
            elif same:
                yield Flag("constant predictions", run.name, evidence, _CONSTANT_ADVICE)


def label_ranges(scores: Scores) -> Iterator[Flag]:
    """Yield labels and predictions that lie outside environment.json's `scale`, use a bit of it, or stick to its ends.

    All runs of a scale count together. That runs have different scales is a flag of mixed runs.
    """
    by_scale: dict[tuple[float, float], list[str]] = {}
    for run in scores.runs:
        scale = run.environment.get("scale")
        if isinstance(scale, list) and len(scale) == 2 and all(finite(end) for end in scale) and scale[0] < scale[1]:
            by_scale.setdefault((float(scale[0]), float(scale[1])), []).append(run.name)
    for (low, high), members in by_scale.items():
        rows = [row for run in scores.runs if run.name in set(members) for row in run.test.values()]
        for target in (t for t in scores.targets if scores.measure(t) == CCC):
            p, t = arrays(rows, target)
            # A prediction without a label is compared with nothing, but lies on the scale too.
            p, t = p[np.isfinite(p)], t[np.isfinite(t)]
            yield from _labels(target, t, low, high)
            yield from _predictions(target, p, t, low, high)


def _labels(target: str, t: Floats, low: float, high: float) -> Iterator[Flag]:
    if len(t) < _FEWEST:
        return
    found = f"{target}: labels from {t.min():.3g} to {t.max():.3g} on a scale of {low:g} to {high:g}"
    outside, share = _outside(t, low, high), float(np.ptp(t)) / (high - low)
    words = [f"{outside:.0%} outside it"] if outside > OUTSIDE else []
    words += [f"{share:.0%} of it used"] if share < PART else []
    if words:
        yield Flag("label range", "test labels", f"{found}: {', '.join(words)}", _RANGE_ADVICE)


def _predictions(target: str, p: Floats, t: Floats, low: float, high: float) -> Iterator[Flag]:
    if len(p) < _FEWEST:
        return
    outside = _outside(p, low, high)
    if outside > max(BEYOND, _outside(t, low, high)):
        words = f"{target}: {outside:.0%} outside {low:g} to {high:g} (from {p.min():.3g} to {p.max():.3g})"
        yield Flag("predictions off the scale", "test predictions", words, _BEYOND_ADVICE)
    border, usual = _border(p, low, high), _border(t, low, high)
    if border > usual + BORDER:
        words = f"{target}: {border:.0%} at an end of {low:g} to {high:g}, where {usual:.0%} of the labels are"
        yield Flag("predictions at the border", "test predictions", words, _BORDER_ADVICE)


def _outside(values: Floats, low: float, high: float) -> float:
    margin = 1e-6 * (high - low)
    return float(np.mean((values < low - margin) | (values > high + margin))) if len(values) else 0.0


def _border(values: Floats, low: float, high: float) -> float:
    """Return the share of values at an end of the scale; those beyond it are counted elsewhere."""
    near = _NEAR * (high - low)
    at = (np.abs(values - low) <= near) | (np.abs(values - high) <= near)
    return float(np.mean(at)) if len(values) else 0.0
