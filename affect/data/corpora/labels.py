"""Tables of labels, read and checked alike for every corpus: what a label may be, and the scale that labels are on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from affect.data.corpus import LABELS, Exclusion
from affect.data.table_file import Cells, no_number, number, surplus


class UnusableError(ValueError):
    """A row can't be used; the text is the reason of its exclusion."""


SCALES = (
    (0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 7.0), (-3.0, 3.0), (1.0, 9.0), (0.0, 10.0), (-5.0, 5.0),
    (0.0, 100.0),
)  # fmt: skip
"""The usual scales of ratings, narrow ones first."""


def within(value: float, scale: tuple[float, float], tolerance: float = 1e-6) -> bool:
    """Say whether a label is missing (NaN) or lies on the scale, give or take `tolerance`."""
    return value != value or scale[0] - tolerance <= value <= scale[1] + tolerance


def pointed(text: str, decimal: str) -> str:
    """Return a number whose fraction stands behind `decimal` with a point in its place, any other text as it is."""
    try:
        number(text, decimal)
    except ValueError:
        return text
    return text.replace(decimal, ".")


def label(name: str, text: object, scale: tuple[float, float] | None, decimal: str = ".") -> float:
    """Return a label as a number, NaN where it is missing; raises UnusableError for no number, or off the scale."""
    try:
        value = number(text, decimal)
    except ValueError:
        raise UnusableError(f"label is no number: {name} {no_number(text)}") from None
    if scale is not None and not within(value, scale):
        raise UnusableError(f"label out of range: {name} {str(text).strip()} on {scale[0]:g}..{scale[1]:g}")
    return value


def labelled(row: Mapping[str, Any]) -> None:
    """Raise UnusableError where a row has neither a rating nor an emotion."""
    values = [row[name] for name in LABELS if name in row]
    if all(value != value for value in values) and not row.get("emotion"):
        raise UnusableError("no label")


def infer_scale(values: Iterable[float]) -> tuple[float, float]:
    """Return the narrowest usual scale that holds all labels (NaN: missing), else whole numbers around them."""
    given = [value for value in values if value == value]
    if not given:
        return SCALES[0]
    low, high = min(given), max(given)
    usual = next((scale for scale in SCALES if scale[0] <= low and high <= scale[1]), None)
    return usual or (float(math.floor(low)), float(max(math.ceil(high), math.floor(low) + 1)))


def gender_of(text: object) -> str:
    """Return "F", "M", or "" for anything else that a corpus may write for a gender."""
    letter = str(text or "").strip()[:1].upper()
    return {"F": "F", "W": "F", "M": "M"}.get(letter, "")


def rows_of(
    records: Iterable[tuple[int, Cells]], make: Callable[[Cells], Mapping[str, Any]], name: str, table: Path
) -> tuple[list[dict[str, Any]], list[Exclusion]]:
    """Return what `make` makes of each record; where it raises UnusableError, an exclusion with the reason.

    What is left out is called by its column `name`, or by its line in `table`.
    """
    rows: list[dict[str, Any]] = []
    exclusions: list[Exclusion] = []
    for line, cells in records:
        try:
            if odd := surplus(cells):
                raise UnusableError(odd)
            rows.append(dict(make(cells)))
        except UnusableError as error:
            exclusions.append(Exclusion(what=cells.get(name) or f"{table.name}:{line}", reason=str(error)))
    return rows, exclusions
