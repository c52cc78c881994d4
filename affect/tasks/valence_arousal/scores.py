"""Rows of predictions on the corpus's own scale, and their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect.errors import AffectError
from affect.metrics import classification, regression
from affect.task import Batch, Outputs, Row
from affect.tasks.valence_arousal.recipe import EMOTION

_NAMED = 5
"""Ids that an error names."""


def rows_of(
    outputs: Outputs, batch: Batch, targets: Sequence[str], classes: Sequence[str], scale: tuple[float, float]
) -> list[Row]:
    """Return a row an utterance: id, prediction and label of each target, probabilities of classes, group keys."""
    low, high = scale
    numbers = [name for name in targets if name != EMOTION]
    raw = {name: (outputs[name].double() * (high - low) + low).tolist() for name in numbers}
    rows: list[Row] = []
    shares = outputs[EMOTION].double().softmax(-1).tolist() if EMOTION in targets else []
    for k, name in enumerate(batch.ids):
        labels = {key: value for key, value in batch.rows[k].items() if key in targets}
        keys = {key: value for key, value in batch.rows[k].items() if key not in targets}
        predicted: dict[str, object] = {target: raw[target][k] for target in numbers}
        row: Row = {"id": name, "prediction": predicted, "target": {t: labels[t] for t in targets}, **keys}
        if shares:
            predicted[EMOTION] = classes[int(np.argmax(shares[k]))] if np.isfinite(shares[k]).all() else None
            row["probability"] = {EMOTION: dict(zip(classes, shares[k], strict=True))}
        rows.append(row)
    return rows


def metrics(rows: Sequence[Row], targets: Sequence[str]) -> dict[str, float]:
    """Return CCC, Pearson and RMSE of each number, UA, WA and macro F1 of `emotion`, and the means that choose.

    `ccc` is the mean CCC of the numbers; with `emotion` beside them, `mean` is the mean of their CCCs and its UA.
    Raises AffectError naming the first ids whose prediction is NaN or infinite.
    """
    scores: dict[str, float] = {}
    for target in targets:
        _refuse_unfinite(rows, target)
        predicted = [row["prediction"][target] for row in rows]
        true = [row["target"][target] for row in rows]
        if target == EMOTION:
            labels = [label or "" for label in true]
            scores[f"ua_{target}"] = classification.unweighted_accuracy(predicted, labels)
            scores[f"wa_{target}"] = classification.weighted_accuracy(predicted, labels)
            scores[f"f1_{target}"] = classification.macro_f1(predicted, labels)
        else:
            values = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
            scores[f"ccc_{target}"] = regression.ccc(*values)
            scores[f"pearson_{target}"] = regression.pearson(*values)
            scores[f"rmse_{target}"] = regression.rmse(*values)
    cccs = [scores[f"ccc_{target}"] for target in targets if target != EMOTION]
    summary = {"ccc": float(np.mean(cccs))} if cccs else {}
    if EMOTION in targets and cccs:
        summary["mean"] = float(np.mean([*cccs, scores[f"ua_{EMOTION}"]]))
    return {**summary, **scores}


def chosen_by(targets: Sequence[str]) -> str:
    """Return the score that chooses checkpoints: `ccc`, `ua_emotion`, or `mean` of both kinds."""
    if EMOTION not in targets:
        return "ccc"
    return f"ua_{EMOTION}" if len(targets) == 1 else "mean"


def _refuse_unfinite(rows: Sequence[Row], target: str) -> None:
    values = [row["prediction"][target] for row in rows]
    wrong = [
        row["id"]
        for row, value in zip(rows, values, strict=True)
        if value is None or (not isinstance(value, str) and not np.isfinite(value))
    ]
    if wrong:
        first = ", ".join(wrong[:_NAMED]) + (" ..." if len(wrong) > _NAMED else "")
        raise AffectError(f"{len(wrong)} of {len(rows)} predictions of {target} are not finite: {first}")
