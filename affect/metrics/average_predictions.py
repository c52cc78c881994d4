"""The mean of several models' predicted rows of the same examples: of folds, of seeds, of an ensemble's members.

Legend: N examples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError, first_line
from affect.metrics.classification import softmax

if TYPE_CHECKING:
    from affect.task import Row

_BESIDE = ("attention", "spread")
"""What rows say by name beside predictions."""


def combine(members: Mapping[str, Sequence[Row]], average: Callable[[Sequence[Sequence[Row]]], list[Row]]) -> list[Row]:
    """Return the members' mean rows, by id, in the order of the first; `average` is the task's.

    Raises AffectError naming the first id or label in which members differ.
    """
    (first, rows), *others = members.items()
    ids = [row["id"] for row in rows]
    aligned = [rows]
    for member, theirs in others:
        by_id = {row["id"]: row for row in theirs}
        for name in sorted(by_id.keys() ^ set(ids)):
            owner = member if name in by_id else first
            raise AffectError(f"{first} and {member} predict different examples: {name} is in {owner} alone")
        aligned.append([by_id[name] for name in ids])
        for row, other in zip(rows, aligned[-1], strict=True):
            _agree(first, row, member, other)
    return average(aligned)


def mean_rows(models: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the mean of several models' rows of the same examples, in the same order.

    Numbers, and lists of them, are averaged. A class is the one of the highest mean logit where rows have `logits`, and
    its probability the softmax of their mean (the public protocol of MER2023); else probabilities are averaged.
    Attention and spreads are averaged where all models have them. Raises AffectError for what has no mean.
    """
    lacking = {"logits" not in row for rows in models for row in rows}
    if len(lacking) > 1:
        raise AffectError("a model gives no logits, of which the mean is taken, and another does: run it again")
    mixed = []
    for same in zip(*models, strict=True):
        try:
            logits = (
                np.mean([np.array(row["logits"], np.float64) for row in same], axis=0) if False in lacking else None
            )
            kept = {name: value for name, value in same[0].items() if name not in _BESIDE}
            mixed.append({**kept, **_mean(same, logits), **_beside(same)})
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Rows of files, which may be damaged.
            why = f"they differ in what they hold, or are damaged ({first_line(error)})"
            raise AffectError(f"{same[0].get('id')}: its predicted rows have no mean: {why}") from error
    return mixed


def _agree(first: str, row: Row, member: str, other: Row) -> None:
    names = [*dict.fromkeys((*row["target"], *other["target"], *row["prediction"], *other["prediction"]))]
    for name in names:
        if (name in row["prediction"]) != (name in other["prediction"]):
            owner = first if name in row["prediction"] else member
            raise AffectError(f"{first} and {member} predict different targets: {name} is in {owner} alone")
        ours, theirs = row["target"].get(name), other["target"].get(name)
        if ours != theirs and not (missing(ours) and missing(theirs)):
            raise AffectError(f"{row['id']}: its {name} is {ours} in {first} and {theirs} in {member}")
    if row.get("present") != other.get("present"):
        raise AffectError(
            f"{row['id']}: {first} was given the modalities {row.get('present')} and {member} {other.get('present')}: "
            "take members that read the same modalities"
        )


def _mean(same: Sequence[Row], logits: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return `prediction` (of classes `probability` and `logits`) averaged over rows of one example."""
    prediction: dict[str, Any] = {}
    probability: dict[str, dict[str, float]] = {}
    for name, value in same[0]["prediction"].items():
        if not isinstance(value, str):
            prediction[name] = _number([row["prediction"][name] for row in same], same[0]["id"])
            continue
        classes = _classes(same, name, ordered=logits is not None)
        if logits is None:
            shares = [float(np.mean([row["probability"][name][c] for row in same])) for c in classes]
        else:
            shares = softmax(logits).tolist()
        probability[name] = dict(zip(classes, shares, strict=True))
        sizes = shares if logits is None else logits
        prediction[name] = classes[int(np.argmax(sizes))] if np.isfinite(sizes).all() else None
    mean: dict[str, Any] = {"prediction": prediction}
    if probability:
        mean["probability"] = probability
    if logits is not None:
        mean["logits"] = logits.tolist()
    return mean


def _number(values: Sequence[Any], name: str) -> Any:
    """Return the mean of numbers, or of lists of them element by element."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return float(np.mean(values))
    if all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [_number(items, name) for items in zip(*values, strict=True)]
    raise AffectError(f"{name}: its predictions are no numbers or classes, of which a mean could be taken")


def _classes(same: Sequence[Row], name: str, *, ordered: bool) -> list[str]:
    """Return the classes that all models choose from, where `ordered` in the same order: that of their logits."""
    for row in same:
        if name not in row.get("probability", {}):
            raise AffectError(f"a model gives no probability of {name}, of which the mean is taken")
        ours, theirs = list(same[0]["probability"][name]), list(row["probability"][name])
        if set(ours) != set(theirs):
            raise AffectError(f"the models have different classes of {name}")
        if ordered and ours != theirs:
            raise AffectError(f"the models have the classes of {name} in different orders")
    return list(same[0]["probability"][name])


def _beside(same: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the mean attention and spread; none where a model has none, or of other names."""
    means = {}
    for what in _BESIDE:
        each = [row.get(what) or {} for row in same]
        if each[0] and all(one.keys() == each[0].keys() for one in each):
            means[what] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return means


def missing(value: object) -> bool:
    """Tell whether a label is missing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
