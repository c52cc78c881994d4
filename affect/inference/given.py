"""What is named to be predicted: files, folders of them, and tables with a line an example."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.table_file import SURPLUS, Cells, columns_of, read_csv
from affect.errors import AffectError
from affect.usage import UserInputs

if TYPE_CHECKING:
    from affect.task import Task

_LOG = logging.getLogger("affect")

TABLES = (".csv", ".tsv")
_FILES = ("path", "file", "clip", "audio", "video")
"""Columns of a table that may name the files of a model of files: the first that is there."""
_TEXTS = ("text", "transcript")


def names_files(table: Path) -> bool:
    """Tell whether a table has a column that may name files."""
    return any(column.lower() in _FILES for column in columns_of(table))


def expanded(task: type[Task], inputs: UserInputs, holds: Callable[[Path], bool] = lambda table: False) -> UserInputs:
    """Return inputs with what their folders and table hold in place of these.

    A table has a line an example, whose files lie below the table's folder: of a model of files they are in a column
    path (file, clip, audio, video), its texts in one text (transcript); of a model of features in columns audio, text
    and video, of which cells may be empty. One that `holds` features itself is left as it is. Raises AffectError where
    a table is not given alone, or has none of these.
    """
    if table := next((file for file in inputs.files if file.suffix.lower() in TABLES and not holds(file)), None):
        if len(inputs.files) > 1 or inputs.text or inputs.audio or inputs.video:
            raise AffectError(f"{table}: a table names files and texts itself: give it alone")
        return replace(inputs, **{"files": (), "listed": True, **_listed(task, table)})
    files: list[Path] = []
    for file in inputs.files:
        within = task.files_in(file) if file.is_dir() else []
        files += within or [file]
    return replace(inputs, files=tuple(files))


def _listed(task: type[Task], table: Path) -> Mapping[str, Any]:
    columns, records = read_csv(table, (), separators=",;\t", lower=True)
    for line, cells in records:
        if SURPLUS in cells:
            raise AffectError(f"{table}:{line}: has more cells than the header has columns; quote texts with commas")
    if {"start", "end"} & {*columns} and "FILES" in task.takes:
        _LOG.warning("%s: start and end cut nothing here: each recording is predicted whole", table)
    own: dict[str, tuple[str, ...]] = {"text": _TEXTS} if "--text" in task.takes else {}
    own |= {name: (name,) for name in ("audio", "video") if f"--{name}" in task.takes}
    own |= {"files": _FILES} if "FILES" in task.takes else {}
    read = {name: next((column for column in these if column in columns), None) for name, these in own.items()}
    taken = {name: column for name, column in read.items() if column is not None}
    if not taken or not records:
        wanted = ", ".join(column for these in own.values() for column in these[:2])
        lacking = f"has none of the columns {wanted}; it has: {', '.join(columns)}" if records else "has no line"
        raise AffectError(f"{table} {lacking}")
    return {name: _values(name, column, table, records) for name, column in taken.items()}


def _values(name: str, column: str, table: Path, records: Sequence[tuple[int, Cells]]) -> tuple[Any, ...]:
    """Return a column: files below the table's folder, words as they are."""
    if name == "files":
        for line, cells in records:
            if not cells[column]:
                raise AffectError(f"{table}:{line}: names no file in the column {column}")
        return tuple(table.parent / cells[column] for _, cells in records)

    def placed(value: str) -> str:
        # A text is a file where it is called as one.
        is_file = name != "text" or value.lower().endswith((".npy", ".txt"))
        return str(table.parent / value) if value and is_file else value

    return tuple(placed(cells[column]) for _, cells in records)
