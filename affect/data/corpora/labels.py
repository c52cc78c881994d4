"""Tables of labels, read and checked alike for every corpus: what a label may be, and the scale that labels are on."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from affect.data.corpus import LABELS, Exclusion
from affect.errors import AffectError

Cells = dict[str, str]

SURPLUS = "more cells than columns"
"""Why a line is left out, or its table refused, that holds an unquoted comma too many."""


class UnusableError(ValueError):
    """A row can't be used; the text is the reason of its exclusion."""


MISSING = ("", "nan", "na", "n/a", "n_a", "none", "null")
"""What stands for a missing cell, in lower case."""

SCALES = (
    (0.0, 1.0), (-1.0, 1.0), (1.0, 5.0), (0.0, 5.0), (1.0, 7.0), (-3.0, 3.0), (1.0, 9.0), (0.0, 10.0), (-5.0, 5.0),
    (0.0, 100.0),
)  # fmt: skip
"""The usual scales of ratings, narrow ones first."""

_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


def number(text: object) -> float:
    """Return a label as a number, NaN where it is missing; raises ValueError where it is no finite number."""
    plain = str(text).strip()
    if plain.lower() in MISSING:
        return math.nan
    value = float(plain)
    if math.isinf(value):
        raise ValueError(plain)
    return value


def with_point(text: str) -> str:
    """Return a number whose decimals stand behind a comma with a point in its place, and any other text as it is."""
    return text.replace(",", ".") if _COMMA.fullmatch(text.strip()) else text


def with_points(cells: Cells, columns: Iterable[str]) -> Cells:
    """Return a record with the decimal commas of some columns as points."""
    return cells | {name: with_point(cells[name]) for name in columns}


def within(value: float, scale: tuple[float, float], tolerance: float = 1e-6) -> bool:
    """Say whether a label is missing (NaN) or lies on the scale, give or take `tolerance`."""
    return value != value or scale[0] - tolerance <= value <= scale[1] + tolerance


def label(name: str, text: object, scale: tuple[float, float] | None) -> float:
    """Return a label as a number, NaN where it is missing; raises UnusableError for no number, or off the scale."""
    try:
        value = number(text)
    except ValueError:
        hint = "; decimal commas? --data.decimal ," if with_point(str(text)) != str(text) else ""
        raise UnusableError(f"label is no number: {name} {str(text)[:40]!r}{hint}") from None
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


def read_text(file: Path) -> str:
    """Return what a file says; raises AffectError where it can't be read or is not UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AffectError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise AffectError(f"{file} cannot be read ({error.strerror})") from error


def read_csv(
    table: Path, required: Iterable[str], *, separators: str = ",", lower: bool = False, strict: bool = False
) -> tuple[list[str], list[tuple[int, Cells]]]:
    """Return a table's columns, and of each record the line on which it ends and its cells, stripped, absent ones "".

    Of several `separators` it is the one that the header has most of. With `lower` columns are in lower case, as
    `required` is. Surplus cells are under `SURPLUS`; `strict` refuses quotes that are not closed. Raises AffectError
    where the file can't be read, is not UTF-8 or no table, lacks a required column or has one twice.
    """
    text = read_text(table)
    separator = max(separators, key=text.partition("\n")[0].count)
    # Texts hold characters at which str.splitlines would break a line; csv breaks at line ends alone.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
    records: list[tuple[int, Cells]] = []
    try:
        present = [name.strip() for name in next(reader, [])]
        columns = [name.lower() for name in present] if lower else present
        for column in required:
            if column not in columns:
                raise AffectError(f"{table} has no column {column!r}; it has: {', '.join(present) or 'none'}")
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice is not None:
            raise AffectError(f"{table} has the column {twice!r} more than once")
        for line in reader:
            if not line:
                continue
            plain = [cell.strip() for cell in line]
            cells = dict.fromkeys(columns, "") | dict(zip(columns, plain, strict=False))
            if any(plain[len(columns) :]):
                cells[SURPLUS] = plain[len(columns)]
            records.append((reader.line_num, cells))
    except csv.Error as error:
        raise AffectError(f"{table}:{reader.line_num}: {error}") from error
    return columns, records


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
            if SURPLUS in cells:
                raise UnusableError(SURPLUS)
            rows.append(dict(make(cells)))
        except UnusableError as error:
            exclusions.append(Exclusion(what=cells.get(name) or f"{table.name}:{line}", reason=str(error)))
    return rows, exclusions
