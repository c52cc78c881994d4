"""The measures of talking-face quality: of each score, and their means over the scores."""

from __future__ import annotations

from collections.abc import Sequence

from affect.metrics import measures
from affect.task import Measure

GROUPS = ("identity", "source")
"""What a bootstrap draws."""


def measures_of(scores: Sequence[str]) -> list[Measure]:
    """Return the mean of Pearson over the scores, by which the checkpoint is chosen, and the measures of each."""
    pearson = [measures.pearson(score) for score in scores]
    return [measures.mean("pearson", pearson, "mean Pearson"), *pearson, *(measures.rmse(score) for score in scores)]
