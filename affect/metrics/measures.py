"""Measures of predicted rows: what a task hands to training and reports alike.

A row holds `prediction` and `target` by name; a target that is None, NaN or absent is missing. Legend: R rows,
G groups, n resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError
from affect.metrics import bootstrap, classification, emotion, regression
from affect.metrics.regression import Floats
from affect.task import Measure, Replicates, Row

_NAMED = 5
"""Ids that an error names."""


def numbers(rows: Sequence[Row], target: str) -> tuple[Floats, Floats]:
    """Return predictions [R] and targets [R] (NaN: missing) of a target that is a number.

    A prediction that no target asks for is 0 where it is missing. Raises AffectError naming the first ids whose
    prediction is not finite.
    """
    predicted = np.array([_number(row["prediction"].get(target)) for row in rows], np.float64)
    true = np.array([_number(row["target"].get(target)) for row in rows], np.float64)
    absent = np.array([not row["prediction"] for row in rows], bool) & np.isnan(true)
    predicted[absent] = 0.0
    _refuse(rows, ~np.isfinite(predicted), target)
    return predicted, true


def names(rows: Sequence[Row], target: str) -> tuple[list[str], list[str]]:
    """Return predicted and labelled classes [R] ("": missing) of a target that is a class.

    Raises AffectError naming the first ids that have a label and no prediction.
    """
    predicted = [value if isinstance(value := row["prediction"].get(target), str) else "" for row in rows]
    true = [value if isinstance(value := row["target"].get(target), str) else "" for row in rows]
    absent = [not p and (bool(t) or bool(row["prediction"])) for p, t, row in zip(predicted, true, rows, strict=True)]
    _refuse(rows, np.array(absent, bool), target)
    return predicted, true


def ccc(target: str, title: str, aliases: tuple[str, ...] = ()) -> Measure:
    """Return the concordance correlation coefficient of a number."""

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        return bootstrap.replicates(groups, *numbers(rows, target))

    return Measure(
        name=f"ccc_{target}", title=title, score=_of_numbers(regression.ccc, target), chance=0.0,
        replicates=replicates, aliases=aliases,
    )  # fmt: skip


def pearson(target: str) -> Measure:
    """Return Pearson's correlation of a number."""
    return Measure(
        name=f"pearson_{target}", score=_of_numbers(regression.pearson, target), chance=0.0, headline=False
    )  # fmt: skip


def rmse(target: str) -> Measure:
    """Return the root mean squared error of a number, in its unit."""
    return Measure(
        name=f"rmse_{target}", score=_of_numbers(regression.rmse, target), better="lower", headline=False
    )  # fmt: skip


def mse(target: str, name: str, title: str = "") -> Measure:
    """Return the mean squared error of a number, in its unit squared."""

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        predicted, true = numbers(rows, target)
        return bootstrap.replicates_mean(groups, np.square(predicted - true))

    return Measure(
        name=name, title=title, score=_of_numbers(emotion.mse, target), better="lower", replicates=replicates
    )  # fmt: skip


def unweighted_accuracy(target: str, title: str = "UA") -> Measure:
    """Return the mean recall of a target's classes."""

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        return classification.replicates(groups, *names(rows, target))

    return Measure(
        name=f"ua_{target}", title=title, score=_of_names(classification.unweighted_accuracy, target),
        replicates=replicates,
    )  # fmt: skip


def accuracy(target: str, name: str, title: str = "", *, headline: bool = True) -> Measure:
    """Return the share of rows whose class is right (weighted accuracy)."""

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        predicted, true = (np.array(side, np.str_) for side in names(rows, target))
        return bootstrap.replicates_mean(groups, np.where(true == "", math.nan, (predicted == true).astype(np.float64)))

    return Measure(
        name=name, title=title, score=_of_names(classification.weighted_accuracy, target), replicates=replicates,
        headline=headline,
    )  # fmt: skip


def macro_f1(target: str, name: str, title: str = "") -> Measure:
    """Return the mean F1 of a target's classes, each as much as another."""
    return Measure(
        name=name, title=title, score=_of_names(classification.macro_f1, target), headline=False
    )  # fmt: skip


def weighted_f1(target: str, name: str, title: str = "") -> Measure:
    """Return the mean F1 of a target's classes, weighed by how many labels each has."""

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        predicted, true = names(rows, target)
        classes = sorted({*predicted, *true} - {""})
        place = {name: k for k, name in enumerate(classes)} | {"": -1}
        x, y = (np.array([place[name] for name in side], np.int64) for side in (predicted, true))
        return emotion.replicates_weighted_f1(x, y, len(classes), groups=groups)

    return Measure(
        name=name, title=title, score=_of_names(emotion.weighted_f1, target), replicates=replicates
    )  # fmt: skip


def combined(
    name: str, parts: Sequence[Measure], combine: Callable[[Sequence[Any]], Any], title: str = "", *,
    headline: bool = True,
) -> Measure:  # fmt: skip
    """Return a measure of other measures' values: `combine` takes numbers, and resamples [n] of each."""

    def score(rows: Sequence[Row]) -> float:
        return float(combine([part.score(rows) for part in parts]))

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        found: Floats = combine([part.replicates(rows, groups) for part in parts if part.replicates is not None])
        return found

    whole: Replicates | None = replicates if all(part.replicates is not None for part in parts) else None
    return Measure(
        name=name, title=title, score=score, replicates=whole, headline=headline, parts=tuple(parts), combine=combine
    )  # fmt: skip


def mean(name: str, parts: Sequence[Measure], title: str = "mean") -> Measure:
    """Return the mean of other measures."""
    return combined(name, parts, lambda values: np.mean(values, axis=0), title)


def _of_numbers(statistic: Callable[..., float], target: str) -> Callable[[Sequence[Row]], float]:
    return lambda rows: statistic(*numbers(rows, target))


def _of_names(statistic: Callable[..., float], target: str) -> Callable[[Sequence[Row]], float]:
    return lambda rows: statistic(*names(rows, target))


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _refuse(rows: Sequence[Row], wrong: NDArray[np.bool_], target: str) -> None:
    if wrong.any():
        ids = [str(rows[int(k)]["id"]) for k in np.flatnonzero(wrong)[:_NAMED]]
        more = " ..." if wrong.sum() > _NAMED else ""
        raise AffectError(
            f"{int(wrong.sum())} of {len(rows)} predictions of {target} are not finite: {', '.join(ids)}{more}"
        )
