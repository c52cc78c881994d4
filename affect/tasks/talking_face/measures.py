"""The measures of talking-face quality: their means over the scores, and those of each score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from affect.metrics import measures
from affect.task import Measure

GENERATOR = "generator"
"""The column that names what made a clip."""
_CHALLENGE = "(SRCC + PLCC) / 2"


def _quality(score: str) -> Measure:
    """Return what the challenge of THQA-NTIRE ranks by."""
    both = [measures.srcc(score), measures.plcc(score)]
    return replace(measures.mean(f"quality_{score}", both, f"{_CHALLENGE} of {score}"), better=both[0].better)


KINDS: dict[str, tuple[str, Callable[[str], Measure]]] = {
    "srcc": ("SRCC", measures.srcc),
    "plcc": ("PLCC", measures.plcc),
    "within": (f"SRCC within a {GENERATOR}", lambda score: measures.within_srcc(score, GENERATOR)),
    "within_plcc": (f"PLCC within a {GENERATOR}", lambda score: measures.within_plcc(score, GENERATOR)),
    "krcc": ("KRCC", measures.krcc),
    "pearson": ("Pearson", measures.pearson),
    "r2": ("R2", measures.r2),
    "mse": ("MSE", lambda score: measures.mse(score, f"mse_{score}")),
    "mae": ("MAE", measures.mae),
    "rmse": ("RMSE", measures.rmse),
    "rmse_fitted": ("RMSE after the logistic", measures.rmse_fitted),
    "quality": (_CHALLENGE, _quality),
}
"""Titles and makers of the measures of a score by kind; the mean over the scores bears the kind's name."""
SOURCES = ("identity", "source")
"""Columns that say of how many people or recordings clips are: the first that there is."""
_MAIN = ("srcc", "plcc", "within", "mse")
"""Whose means stand in the main tables."""


def deviations(predictions: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sample deviation of several models' predictions of a clip, by score."""
    return {name: float(np.std([each[name] for each in predictions], ddof=1)) for name in predictions[0]}


def measures_of(scores: Sequence[str], split: str) -> list[Measure]:
    """Return the mean SRCC over the scores, by which the checkpoint is chosen, further means, and each score's own.

    A bootstrap draws the groups that the recipe's `split` holds out, else identities or sources.
    """
    held_out = () if split in ("auto", "own", GENERATOR) else (split,)
    groups = (*held_out, *(name for name in SOURCES if name not in held_out))
    means: dict[str, Measure] = {}
    own: list[Measure] = []
    for kind, (title, make) in KINDS.items():
        parts = [replace(make(score), groups=groups, headline=False) for score in scores]
        better, chance = parts[0].better, parts[0].chance
        mean = measures.mean(kind, parts, f"mean {title}" if len(scores) > 1 else title)
        means[kind] = replace(mean, groups=groups, better=better, chance=chance, headline=kind in _MAIN)
        own += parts if len(scores) > 1 else []
    return [*means.values(), *own]
