"""Where the fusion looks, and how often modalities were dropped while it learnt.

Legend: M modalities.
"""

from __future__ import annotations

import math

import numpy as np

from affect.metrics.regression import Floats
from affect.report.multimodal.names import LETTERS, SUBSETS, shown
from affect.report.multimodal.study import Study
from affect.report.scores import section as inside
from affect.report.tables import NONE, grid

_SUM = 1e-3


def section(study: Study) -> list[str]:
    """Return the table of attention by modality and subset in Markdown; [] for models without attention."""
    if not any(weights(study, part, subset) is not None for part in study.parts for subset in SUBSETS):
        return []
    said = (
        "Mean weight of audio, text and video (in this order) in the fusion, over utterances, folds and seeds, by the "
        "subset that the model was given."
    )
    return [" ".join(filter(None, [said, _wasted(study), _scale(study)])), table(study)]


def table(study: Study) -> str:
    """Return a line a subset: the three weights on each part."""
    rows = [[subset, *(_cell(weights(study, part, subset)) for part in study.parts)] for subset in SUBSETS]
    return grid(["given", *(f"{shown(part)} (A T V)" for part in study.parts)], rows)


def weights(study: Study, part: str, subset: str) -> Floats | None:
    """Return the mean weight of each modality [M] under a subset."""
    return study.attention(part, f"subset={subset}")


def normalised(study: Study) -> bool:
    """Tell whether the weights are shares: none is under 0 and they sum to 1."""
    known = [w for part in study.parts for s in SUBSETS if (w := weights(study, part, s)) is not None]
    return all((w >= -_SUM).all() and abs(w.sum() - 1) <= _SUM for w in known)


def effective_dropout(study: Study) -> dict[int, float]:
    """Return the probability of modality dropout by epoch (from 1), the mean over steps and runs; {} without it."""
    known: dict[int, list[float]] = {}
    for run in study.finished:
        for step in run.steps:
            value = inside(step, "schedule").get("modality_dropout")
            if isinstance(value, int | float) and math.isfinite(value) and isinstance(step.get("epoch"), int):
                known.setdefault(step["epoch"] + 1, []).append(float(value))
    found = {epoch: float(np.mean(values)) for epoch, values in sorted(known.items())}
    return found if any(found.values()) else {}


def _wasted(study: Study) -> str:
    """Return how much of the attention goes to what is missing, in words ("": it can't be told)."""
    if not normalised(study):
        return ""
    shares = []
    for part in study.parts:
        for subset in SUBSETS[:-1]:
            found = weights(study, part, subset)
            if found is not None:
                shares.append(sum(found[i] for i, letter in enumerate(LETTERS) if letter not in subset))
    if not shares:
        return ""
    return f"On incomplete subsets {100 * float(np.mean(shares)):.0f} % of it goes to what is missing."


def _scale(study: Study) -> str:
    return "" if normalised(study) else "These weights have no softmax: they don't sum to 1 and may be under 0."


def _cell(found: Floats | None) -> str:
    return NONE if found is None else " ".join(f"{value:.2f}" for value in found)
