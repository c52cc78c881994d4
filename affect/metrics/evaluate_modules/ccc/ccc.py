"""Concordance correlation coefficient as a module of `evaluate`; self-contained, so it can be pushed as it is."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
Lin's concordance correlation coefficient: 2 cov / (var + var + (mean - mean)^2) with population moments. It is 1
only for predictions equal to the references; a wrong mean or scale lowers it, unlike Pearson's correlation.
"""

_INPUTS = """
Args:
    predictions: list of numbers; one that is NaN or infinite raises ValueError.
    references: list of numbers; NaN marks a missing label and is left out.

Returns:
    ccc: a number from -1 to 1; 0.0 where predictions are constant, NaN where labels are, or fewer than two are known.

Examples:
    >>> import evaluate
    >>> evaluate.load("affect/metrics/evaluate_modules/ccc").compute(predictions=[1, 2, 4], references=[1, 2, 3])
    {'ccc': 0.8571428571428571}
"""

_CITATION = """
@article{lin1989,
  title = {A concordance correlation coefficient to evaluate reproducibility},
  author = {Lin, Lawrence I-Kuei},
  journal = {Biometrics},
  volume = {45},
  number = {1},
  pages = {255--268},
  year = {1989}
}
"""


class ConcordanceCorrelation(evaluate.Metric):  # type: ignore[misc]  # evaluate carries no types
    """The concordance correlation coefficient of `predictions` and `references`."""

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            # float64: the default float of `evaluate` (32 bits) already costs digits on a 1..100 scale.
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        x = np.asarray(predictions, dtype=np.float64)
        y = np.asarray(references, dtype=np.float64)
        if not np.isfinite(x).all() or np.isinf(y).any():
            raise ValueError("predictions and references must be finite (a reference may be NaN: missing)")
        x, y = x[~np.isnan(y)], y[~np.isnan(y)]
        if y.size < 2 or np.ptp(y) == 0:
            return {"ccc": float("nan")}
        if np.ptp(x) == 0:
            return {"ccc": 0.0}
        gap = x.mean() - y.mean()
        unit = max(np.ptp(x), np.ptp(y), abs(gap))
        x, y, gap = (x - x.mean()) / unit, (y - y.mean()) / unit, gap / unit
        score = 2 * np.mean(x * y) / (np.mean(x * x) + np.mean(y * y) + gap**2)
        return {"ccc": float(np.clip(score, -1.0, 1.0))}
