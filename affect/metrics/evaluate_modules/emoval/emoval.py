"""MER2023's ranking score as a module of `evaluate`; self-contained, so it can be pushed as it is."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """
Emoval, by which MER2023 ranks predictions of an emotion and a valence: weighted F1 of the emotions - 0.25 * mean
squared error of the valences. It is 1 only where everything is right, and has no lower bound.
"""

_INPUTS = """
Args:
    predictions: list of {"emotion": name, "valence": number}.
    references: the same; an emotion of None or "" and a valence of None or NaN are missing labels and are left out.

Returns:
    emoval: weighted_f1 - 0.25 * mse; NaN where no emotion or no valence is known.
    weighted_f1: F1 of the classes, weighed by how many references each has.
    mse: mean squared error of valence.

Examples:
    >>> import evaluate
    >>> emoval = evaluate.load("affect/metrics/evaluate_modules/emoval")
    >>> emoval.compute(
    ...     predictions=[{"emotion": "happy", "valence": 1.0}, {"emotion": "sad", "valence": -2.0}],
    ...     references=[{"emotion": "happy", "valence": 2.0}, {"emotion": "sad", "valence": None}],
    ... )
    {'emoval': 0.75, 'weighted_f1': 1.0, 'mse': 1.0}
"""

_CITATION = """
@inproceedings{lian2023mer,
  title = {MER 2023: Multi-label Learning, Modality Robustness, and Semi-Supervised Learning},
  author = {Lian, Zheng and Sun, Haiyang and Sun, Licai and others},
  booktitle = {Proceedings of the 31st ACM International Conference on Multimedia},
  year = {2023}
}
"""


class Emoval(evaluate.Metric):  # type: ignore[misc]  # evaluate carries no types
    """Weighted F1 of emotions less a quarter of the squared error of valence."""

    def _info(self) -> Any:
        # large_string: of a plain string `evaluate` refuses None, a missing label, in the first row.
        row = {"emotion": datasets.Value("large_string"), "valence": datasets.Value("float64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": row, "references": row}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        f1 = _weighted_f1([row["emotion"] for row in predictions], [row["emotion"] for row in references])
        mse = _mse([row["valence"] for row in predictions], [row["valence"] for row in references])
        return {"emoval": f1 - 0.25 * mse, "weighted_f1": f1, "mse": mse}


def _weighted_f1(predictions: list[str | None], references: list[str | None]) -> float:
    pairs = [(x, y) for x, y in zip(predictions, references, strict=True) if y]
    if not all(x for x, _ in pairs):
        raise ValueError("a reference with an emotion needs a prediction with one")
    if not pairs:
        return float("nan")
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    score = 0.0
    for name in np.unique(y):
        labelled = y == name
        predicted = x == name
        f1 = 2 * np.sum(labelled & predicted) / (labelled.sum() + predicted.sum())
        score += float(f1) * int(labelled.sum()) / len(pairs)
    return score


def _mse(predictions: list[float | None], references: list[float | None]) -> float:
    # float64 makes NaN of None.
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if not np.isfinite(x).all() or np.isinf(y).any():
        raise ValueError("valences must be finite (a reference may be None or NaN: missing)")
    labelled = ~np.isnan(y)
    return float(np.mean((x[labelled] - y[labelled]) ** 2)) if labelled.any() else float("nan")
