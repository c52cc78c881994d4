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

from affect.errors import AffectError, first_few
from affect.metrics import bootstrap, classification, quality, regression
from affect.metrics.regression import Floats
from affect.task import Measure, Replicates, Row

_NAMED = 5
"""Ids that an error names."""


def numbers(rows: Sequence[Row], target: str) -> tuple[Floats, Floats]:
    """Return predictions [R] and targets [R] (NaN: missing) of a target that is a number.

    A prediction that no target asks for is 0 where it is missing. Raises AffectError naming the first ids whose
    prediction is not finite.
    """
    predicted, true = (_numbers([row[side].get(target) for row in rows]) for side in ("prediction", "target"))
    absent = np.array([not row["prediction"] for row in rows], bool) & np.isnan(true)
    predicted[absent] = 0.0
    _refuse(rows, ~np.isfinite(predicted), target)
    return predicted, true


def names(rows: Sequence[Row], target: str) -> tuple[list[str], list[str]]:
    """Return predicted and labelled classes [R] ("": missing) of a target that is a class.

    Raises AffectError naming the first ids that have a label and no prediction.
    """
    predicted, true = (_strings([row[side].get(target) for row in rows]) for side in ("prediction", "target"))
    if all(predicted):
        return predicted, true
    absent = [not p and (bool(t) or bool(row["prediction"])) for p, t, row in zip(predicted, true, rows, strict=True)]
    _refuse(rows, np.array(absent, bool), target)
    return predicted, true


def ccc(target: str, title: str, aliases: tuple[str, ...] = ()) -> Measure:
    """Return the concordance correlation coefficient of a number."""
    return _measure(
        numbers, target, regression.ccc, bootstrap.replicates, name=f"ccc_{target}", title=title, chance=0.0,
        aliases=aliases,
    )  # fmt: skip


def pearson(target: str) -> Measure:
    """Return Pearson's correlation of a number."""
    return _measure(numbers, target, regression.pearson, name=f"pearson_{target}", chance=0.0, headline=False)


def rmse(target: str) -> Measure:
    """Return the root mean squared error of a number, in its unit."""
    return _measure(numbers, target, regression.rmse, name=f"rmse_{target}", better="lower", headline=False)


def mse(target: str, name: str, title: str = "") -> Measure:
    """Return the mean squared error of a number, in its unit squared."""

    def replicates(groups: NDArray[np.intp], predicted: Floats, true: Floats) -> Floats:
        return bootstrap.replicates_mean(groups, np.square(predicted - true))

    return _measure(numbers, target, regression.mse, replicates, name=name, title=title, better="lower")


def mae(target: str) -> Measure:
    """Return the mean absolute error of a number, in its unit."""

    def replicates(groups: NDArray[np.intp], predicted: Floats, true: Floats) -> Floats:
        return bootstrap.replicates_mean(groups, np.abs(predicted - true))

    facts: dict[str, Any] = {"name": f"mae_{target}", "better": "lower", "headline": False}
    return _measure(numbers, target, regression.mae, replicates, **facts)


def r2(target: str) -> Measure:
    """Return the share of a number's variance that is explained; predicting the mean reaches 0."""

    def replicates(groups: NDArray[np.intp], predicted: Floats, true: Floats) -> Floats:
        error = bootstrap.replicates_mean(groups, np.square(predicted - true))
        variance = bootstrap.replicates_variance(groups, true)
        return 1 - np.divide(error, variance, out=np.full_like(error, np.nan), where=variance > 0)

    return _measure(numbers, target, regression.r2, replicates, name=f"r2_{target}", chance=0.0, headline=False)


def srcc(target: str, title: str = "") -> Measure:
    """Return Spearman's rank correlation of a number."""
    facts: dict[str, Any] = {"name": f"srcc_{target}", "title": title, "chance": 0.0}
    return _measure(numbers, target, quality.srcc, quality.replicates_srcc, **facts)


def krcc(target: str, title: str = "") -> Measure:
    """Return Kendall's rank correlation (tau-b) of a number."""
    facts: dict[str, Any] = {"name": f"krcc_{target}", "title": title, "chance": 0.0, "headline": False}
    return _measure(numbers, target, quality.krcc, quality.replicates_krcc, **facts)


def plcc(target: str, title: str = "") -> Measure:
    """Return Pearson's correlation of a number after a logistic curve; NaN of fewer than ten labels.

    Chance is not 0: of few labels the curve finds a relation in noise.
    """
    return _measure(numbers, target, quality.plcc, quality.replicates_plcc, name=f"plcc_{target}", title=title)


def rmse_fitted(target: str) -> Measure:
    """Return the root mean squared error of a number after a logistic curve, in its unit; NaN as `plcc`."""
    facts: dict[str, Any] = {"name": f"rmse_fitted_{target}", "better": "lower", "headline": False}
    return _measure(numbers, target, quality.rmse_fitted, quality.replicates_rmse_fitted, **facts)


def within_srcc(target: str, column: str, title: str = "") -> Measure:
    """Return the SRCC of a number within a kind (a generator), which the rows name as `column`: a mean over kinds."""
    return _measure(
        _with_kinds(column), target, quality.within_srcc, quality.replicates_within_srcc,
        name=f"srcc_{target}_within_{column}", title=title or f"SRCC within a {column}", chance=0.0,
    )  # fmt: skip


def within_plcc(target: str, column: str, title: str = "") -> Measure:
    """Return the PLCC of a number within a kind, on a logistic fitted to each; as `within_srcc`."""
    return _measure(
        _with_kinds(column), target, quality.within_plcc, quality.replicates_within_plcc,
        name=f"plcc_{target}_within_{column}", title=title or f"PLCC within a {column}",
    )  # fmt: skip


def _with_kinds(column: str) -> Callable[[Sequence[Row], str], tuple[Floats, Floats, list[str]]]:
    def read(rows: Sequence[Row], name: str) -> tuple[Floats, Floats, list[str]]:
        return *numbers(rows, name), [str(row.get(column) or "") for row in rows]

    return read


def unweighted_accuracy(target: str, title: str = "UA") -> Measure:
    """Return the mean recall of a target's classes."""
    score = classification.unweighted_accuracy
    return _measure(names, target, score, classification.replicates_ua, name=f"ua_{target}", title=title)


def accuracy(target: str, name: str, title: str = "", *, headline: bool = True) -> Measure:
    """Return the share of rows whose class is right (weighted accuracy)."""

    def replicates(groups: NDArray[np.intp], predicted: Sequence[str], true: Sequence[str]) -> Floats:
        right = [float(p == t) if t else math.nan for p, t in zip(predicted, true, strict=True)]
        return bootstrap.replicates_mean(groups, right)

    score = classification.weighted_accuracy
    return _measure(names, target, score, replicates, name=name, title=title, headline=headline)


def macro_f1(target: str, name: str, title: str = "") -> Measure:
    """Return the mean F1 of a target's classes, each as much as another."""
    return _measure(names, target, classification.macro_f1, name=name, title=title, headline=False)


def weighted_f1(target: str, name: str, title: str = "") -> Measure:
    """Return the mean F1 of a target's classes, weighed by how many labels each has."""
    return _measure(names, target, classification.weighted_f1, classification.replicates_f1, name=name, title=title)


def combined(
    name: str, parts: Sequence[Measure], combine: Callable[[Sequence[Any]], Any], title: str = "", *,
    headline: bool = True,
) -> Measure:  # fmt: skip
    """Return a measure of other measures' values: `combine` takes numbers, and resamples [n] of each."""

    def score(rows: Sequence[Row]) -> float:
        return float(combine([part.score(rows) for part in parts]))

    def replicates(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        samples: Floats = combine([part.replicates(rows, groups) for part in parts if part.replicates is not None])
        return samples

    whole: Replicates | None = replicates if all(part.replicates is not None for part in parts) else None
    return Measure(
        name=name, title=title, score=score, replicates=whole, headline=headline, parts=tuple(parts), combine=combine
    )  # fmt: skip


def mean(name: str, parts: Sequence[Measure], title: str = "mean") -> Measure:
    """Return the mean of other measures."""
    return combined(name, parts, lambda values: np.mean(values, axis=0), title)


def _measure(
    read: Callable[[Sequence[Row], str], tuple[Any, ...]], target: str, score: Callable[..., float],
    replicates: Callable[..., Floats] | None = None, **facts: Any,
) -> Measure:  # fmt: skip
    """Return the measure of what `read` takes of rows, predictions and targets first; `replicates` has groups first."""

    def resampled(rows: Sequence[Row], groups: NDArray[np.intp]) -> Floats:
        assert replicates is not None
        return replicates(groups, *read(rows, target))

    return Measure(
        score=lambda rows: score(*read(rows, target)), replicates=None if replicates is None else resampled, **facts
    )  # fmt: skip


def _numbers(values: list[Any]) -> Floats:
    """Return what there is of numbers, NaN for all else."""
    if not {float, type(None)}.issuperset(map(type, values)):
        values = [v if isinstance(v, (int, float)) and not isinstance(v, bool) else math.nan for v in values]
    return np.array(values, np.float64)


def _strings(values: list[Any]) -> list[str]:
    """Return what there is of strings, "" for all else."""
    return values if {str}.issuperset(map(type, values)) else [v if isinstance(v, str) else "" for v in values]


def _refuse(rows: Sequence[Row], wrong: NDArray[np.bool_], target: str) -> None:
    if wrong.any():
        ids = first_few([str(row["id"]) for row, bad in zip(rows, wrong, strict=True) if bad], _NAMED)
        raise AffectError(f"{wrong.sum()} of {len(rows)} predictions of {target} are not finite: {ids}")
