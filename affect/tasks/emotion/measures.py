"""Rows of predictions and their measures: CCC of each number, unweighted accuracy of the class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from affect.metrics import measures
from affect.task import Batch, Measure, Outputs, Row
from affect.tasks.emotion.config import EMOTION, UNIT, numbers_of


def measures_of(targets: tuple[str, ...]) -> list[Measure]:
    """Return the measures of these targets; the first chooses: the mean of all CCCs and UA, or the only class's UA."""
    numbers = numbers_of(targets)
    cccs = []
    for target in numbers:
        # CCC-V, or the name in full where two targets begin alike.
        alone = sum(other[:1] == target[:1] for other in numbers) == 1
        short = target[:1].upper() if alone else target
        cccs.append(measures.ccc(target, f"CCC-{short}", (target, short)))
    further = [make(target) for target in numbers for make in (measures.pearson, measures.rmse)]
    if EMOTION not in targets:
        return [measures.mean("ccc", cccs), *cccs, *further]
    each = [*cccs, measures.unweighted_accuracy(EMOTION)]
    first = [measures.mean("mean", each), measures.combined("ccc", cccs, np.mean, headline=False)] if cccs else []
    return [
        *first, *each, *further, measures.accuracy(EMOTION, f"wa_{EMOTION}", "WA", headline=False),
        measures.macro_f1(EMOTION, f"f1_{EMOTION}", "macro F1"),
    ]  # fmt: skip


def rows_of(
    outputs: Outputs, batch: Batch, targets: tuple[str, ...], classes: Sequence[str], scale: tuple[float, float]
) -> list[Row]:
    """Return a row an utterance: id, prediction and label of each target on the corpus's own scale, group keys.

    Of classes it also has the probabilities.
    """
    low, high = scale
    raw = {name: (outputs[name + UNIT].double() * (high - low) + low).tolist() for name in numbers_of(targets)}
    shares = outputs[EMOTION].double().softmax(-1).tolist() if EMOTION in targets else []
    rows: list[Row] = []
    for k, (name, fields) in enumerate(zip(batch.ids, batch.rows, strict=True)):
        keys = {key: value for key, value in fields.items() if key not in targets}
        predicted: dict[str, object] = {target: values[k] for target, values in raw.items()}
        row: Row = {"id": name, "prediction": predicted, "target": {t: fields[t] for t in targets}, **keys}
        if shares:
            predicted[EMOTION] = classes[int(np.argmax(shares[k]))] if np.isfinite(shares[k]).all() else None
            row["probability"] = {EMOTION: dict(zip(classes, shares[k], strict=True))}
        rows.append(row)
    return rows
