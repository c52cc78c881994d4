"""Scores of quality prediction as a module of `evaluate`; self-contained, so it can be pushed as it is."""

from __future__ import annotations

import math
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import kendalltau, rankdata

_FEWEST = 10

_DESCRIPTION = """
How well predicted quality scores follow mean opinion scores: rank correlations (SRCC; KRCC, tau-b), Pearson's
correlation and the root mean squared error as they are and after a monotone logistic curve of four parameters, fitted
to the same pairs, which is never worse than a line. The curve finds some relation in noise, and turns a negative one
positive: read its scores beside SRCC.
"""

_INPUTS = """
Args:
    predictions: list of numbers; one that is NaN or infinite raises ValueError.
    references: list of numbers; NaN marks a missing label and is left out.

Returns:
    srcc, krcc, pearson: numbers from -1 to 1; NaN where either side is constant or fewer than two labels are known.
    plcc: Pearson's correlation after the curve; NaN of fewer than ten labels.
    rmse, rmse_fitted: in the references' unit, as the predictions are and after the curve.
    quality: (srcc + plcc) / 2, by which challenges rank.
    curve: 1.0 where the logistic was taken, 0.0 where a line was as good, NaN where there is neither.
    n: how many labels are known.

Examples:
    >>> import evaluate
    >>> quality = evaluate.load("affect/metrics/evaluate_modules/quality")
    >>> scores = quality.compute(predictions=[1, 3, 2, 7], references=[1, 3, 5, 4])
    >>> round(scores["srcc"], 6), round(scores["krcc"], 6), scores["n"]
    (0.4, 0.333333, 4)
"""

_CITATION = """
@techreport{vqeg2003,
  title = {Final report from the Video Quality Experts Group on the validation of objective models of video quality
           assessment, phase II},
  author = {{Video Quality Experts Group}},
  year = {2003}
}
"""


class Quality(evaluate.Metric):  # type: ignore[misc]  # evaluate carries no types
    """Rank correlations, and correlation and error before and after a logistic curve."""

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            # float64: the default float of `evaluate` (32 bits) makes ties of near scores.
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
        fitted, curved = _fitted(x, y)
        srcc, plcc = _pearson(rankdata(x), rankdata(y)), _pearson(fitted, y)
        return {
            "srcc": srcc,
            "krcc": float(kendalltau(x, y, variant="b").statistic) if x.size > 1 else math.nan,
            "pearson": _pearson(x, y),
            "plcc": plcc,
            "rmse": _rmse(x, y),
            "rmse_fitted": _rmse(fitted, y),
            "quality": (srcc + plcc) / 2,
            "curve": curved,
            "n": x.size,
        }


def _pearson(x: Any, y: Any) -> float:
    if x.size < 2 or not np.ptp(x) > 0 or not np.ptp(y) > 0:
        return math.nan
    x, y = (x - x.mean()) / np.ptp(x), (y - y.mean()) / np.ptp(y)
    return float(np.clip(np.mean(x * y) / np.sqrt(np.mean(x * x) * np.mean(y * y)), -1.0, 1.0))


def _rmse(x: Any, y: Any) -> float:
    return float(np.sqrt(np.mean((x - y) ** 2))) if x.size else math.nan


def _fitted(x: Any, y: Any) -> tuple[Any, float]:
    """Return predictions on the references' scale (NaN where no curve can be had), and whether the logistic was taken.

    The best two ends of a curve are a line in its share of 1, which leaves its slope and its place to be searched.
    """
    if x.size < _FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.full(x.shape, np.nan), math.nan
    z, centred = (x - x.mean()) / x.std(), y - y.mean()

    def line(values: Any) -> Any:
        """Return the centred references by the best line in `values`, and the values centred."""
        values = values - values.mean()
        size = values @ values
        return (values @ centred / size if size > 0 else 0.0) * values, values, size

    def slopes(at: Any) -> Any:
        share = expit(at[0] * z + at[1])
        _, values, size = line(share)
        steep = (values @ centred / size if size > 0 else 0.0) * share * (1 - share)
        change = np.stack([steep * z, steep], axis=1)
        change -= change.mean(0)
        return change - np.outer(values, values @ change / size) if size > 0 else change

    def error(at: Any) -> Any:
        return line(expit(at[0] * z + at[1]))[0] - centred

    solution = least_squares(error, (1.5, 0.0), slopes, method="lm", max_nfev=200)
    straight = line(z)[0]
    curved = float(np.sum(solution.fun**2) < np.sum((straight - centred) ** 2))
    return y.mean() + (solution.fun + centred if curved else straight), curved
