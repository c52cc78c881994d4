"""Tables in text files (CSV, TSV): one reader for all, which leaves every cell as it is written.

A record ends where csv says: never at U+2028, VT, FS or NEL inside a text, where `str.splitlines` would break it, and
no text (None, NA, 001) becomes a missing cell or a number. What is a number, `number` says.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from affect.data.files import open_file, read_bytes
from affect.errors import AffectError, first_line, reading

Cells = dict[str, str]

SURPLUS = "more cells than columns"
"""Why a line is left out, or its table refused, that holds an unquoted comma too many."""

MISSING = ("", "nan", "na", "n/a", "n_a", "none", "null")
"""What stands for a missing number, in lower case."""

SEPARATORS = ",;\t"
"""What may stand between the cells of a user's own table."""

_HEAD = 1 << 16
"""Characters in which a table's header is looked for."""

_COMMAS = re.compile(r"[+-]?[0-9]+,[0-9]+")


def number(text: object, decimal: str = ".") -> float:
    """Return a cell as a number, NaN where it is missing; raises ValueError where it is no finite number.

    `decimal` stands before the fraction. Underscores (0_3), other scripts' digits and what overflows (1e400) are none.
    """
    plain = str(text).strip()
    if plain.lower() in MISSING:
        return math.nan
    if "_" in plain or not plain.isascii() or (decimal != "." and "." in plain):
        raise ValueError(plain)
    value = float(plain.replace(decimal, "."))
    if not math.isfinite(value):
        raise ValueError(plain)
    return value


def no_number(text: object) -> str:
    """Return what an exclusion says of a cell that is no number: the cell, and what it may have meant."""
    plain = str(text).strip()
    hint = " (decimal commas? --data.decimal ,)" if _COMMAS.fullmatch(plain) else ""
    return f"{plain[:40]!r}{hint}"


def columns_of(table: Path) -> list[str]:
    """Return the columns of a user's own table, nothing where it can't be read: to look whether it is one."""
    try:
        with open_file(table) as file:
            text = file.read(_HEAD).decode("utf-8-sig", errors="replace")
        return [name.strip() for name in max((_header(text, each) for each in SEPARATORS), key=len)]
    except (OSError, csv.Error):
        return []


def read_text(file: Path) -> str:
    """Return what a file says; raises AffectError where it can't be read or is not UTF-8."""
    with reading(file):
        content = read_bytes(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AffectError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def read_csv(
    table: Path, required: Iterable[str], *, separators: str = ",", lower: bool = False
) -> tuple[list[str], list[tuple[int, Cells]]]:
    """Return a table's columns, and of each record the line on which it ends and its cells, stripped, absent ones "".

    Of several `separators` it is the one by which the header has most columns. With `lower` columns are in lower case,
    as `required` is. Surplus cells are under `SURPLUS`. Raises AffectError where the file can't be read, is not UTF-8
    or no table (a quote that is not closed would swallow records), lacks a required column or has one twice.
    """
    text = read_text(table)
    records: list[tuple[int, Cells]] = []
    # The line on which a record begins: where a quote is not closed, all that follows is one record.
    begins = 1
    try:
        separator = max(separators, key=lambda each: len(_header(text, each)))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        present = [name.strip() for name in next(reader, [])]
        columns = [name.lower() for name in present] if lower else present
        for column in required:
            if column not in columns:
                raise AffectError(f"{table} has no column {column!r}; it has: {', '.join(present) or 'none'}")
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice is not None:
            raise AffectError(f"{table} has the column {twice!r} more than once")
        begins = reader.line_num + 1
        for line in reader:
            if line:
                plain = [cell.strip() for cell in line]
                cells = dict.fromkeys(columns, "") | dict(zip(columns, plain, strict=False))
                if any(plain[len(columns) :]):
                    cells[SURPLUS] = plain[len(columns)]
                records.append((reader.line_num, cells))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise AffectError(f"{table}:{begins}: {error}") from error
    return columns, records


def surplus(cells: Mapping[str, Any]) -> str:
    """Return what is wrong with a record that has more cells than the table has columns, "" of another."""
    return f"{SURPLUS}: {cells[SURPLUS][:40]!r} is beyond the last column" if SURPLUS in cells else ""


def read_json(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file, one a line or all in one array, each with the number of its line or its place.

    Raises AffectError where the file can't be read, is not UTF-8, or holds anything else.
    """
    text = read_text(table)
    if text.lstrip().startswith("["):
        for place, value in enumerate(_parsed(text, str(table)), 1):
            yield place, _object(value, f"{table}: entry {place}")
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, json_object(line, f"{table}:{number}")


def json_object(line: str, where: str) -> dict[str, Any]:
    """Return the object that a line of JSON is; raises AffectError, with `where` it stands, for anything else."""
    return _object(_parsed(line, where), where)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise AffectError(f"{where}: it is no JSON ({first_line(error)})") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise AffectError(f"{where}: it is no object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what an object holds; raises ValueError where it has a key twice, of which JSON would take the last."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} comes twice")
    return made


def _header(text: str, separator: str) -> list[str]:
    return next(csv.reader(io.StringIO(text[:_HEAD], newline=""), delimiter=separator), [])
