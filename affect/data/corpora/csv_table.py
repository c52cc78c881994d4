"""Tables of labels in CSV files, read and checked alike for every corpus."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from affect.data.corpora.labels import UnusableError
from affect.data.corpus import Exclusion
from affect.errors import AffectError

Cells = dict[str, str]

SURPLUS = "more cells than columns"
"""Why a line is left out, or its table refused, that holds an unquoted comma too many."""


def read_csv(
    table: Path, required: Iterable[str], *, separators: str = ",", lower: bool = False, strict: bool = False
) -> tuple[list[str], list[tuple[int, Cells]]]:
    """Return a table's columns, and of each record the line on which it ends and its cells, stripped, absent ones "".

    Of several `separators` it is the one that the header has most of. With `lower` columns are in lower case, as
    `required` is. Surplus cells are under `SURPLUS`; `strict` refuses quotes that are not closed. Raises AffectError
    where the file can't be read, is not UTF-8 or no table, lacks a required column or has one twice.
    """
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AffectError(f"{table} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise AffectError(f"{table} cannot be read ({error.strerror})") from error
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
    records: Iterable[tuple[int, Cells]],
    make: Callable[[Cells], Mapping[str, Any]],
    named: Callable[[Cells], str],
    table: Path,
) -> tuple[list[dict[str, Any]], list[Exclusion]]:
    """Return what `make` makes of each record; where it raises UnusableError, an exclusion with the reason.

    `named` says what is left out; a record without a name is called by its line in `table`.
    """
    rows: list[dict[str, Any]] = []
    exclusions: list[Exclusion] = []
    for line, cells in records:
        try:
            if SURPLUS in cells:
                raise UnusableError(SURPLUS)
            rows.append(dict(make(cells)))
        except UnusableError as error:
            exclusions.append(Exclusion(what=named(cells) or f"{table.name}:{line}", reason=str(error)))
    return rows, exclusions
