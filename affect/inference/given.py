"""What is named to be predicted: files, folders of them, and tables with a line an example."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora import kaldi_files
from affect.data.corpora.columns import ColumnsError, matched, proposed, told
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.own_rows import OPTIONAL, REQUIRED
from affect.data.corpora.segments import TIMES, without_lengths
from affect.data.excerpts import excerpts
from affect.data.table_file import SEPARATORS, SURPLUS, Cells, columns_of, read_csv
from affect.errors import AffectError, nearest
from affect.usage import UserInputs

if TYPE_CHECKING:
    from affect.task import Task

_LOG = logging.getLogger("affect")

TABLES = (".csv", ".tsv")
_FILES = ("path", "file", "clip", "audio", "video")
"""Columns of a table that may name the files of a model of files: the first that is there."""
_TEXTS = ("text", "transcript")
_READ = (*_FILES, *_TEXTS, "id", "name", *TIMES)


def names_files(table: Path) -> bool:
    """Tell whether a table has a column that may name files."""
    return any(column.lower() in _FILES for column in columns_of(table))


def expanded(task: type[Task], inputs: UserInputs, holds: Callable[[Path], bool] = lambda table: False) -> UserInputs:
    """Return inputs with what their folders and table hold in place of these.

    A table has a line an example, whose files lie below the table's folder: of a model of files they are in a column
    path (file, clip, audio, video), its texts in one text (transcript); of a model of features in columns audio, text
    and video, of which cells may be empty. Columns, files and times (start, end, duration) are read as those of
    training's tables. One that `holds` features itself is left as it is. Raises AffectError where a table is not given
    alone, has none of these, or cuts what the task takes whole, and for columns without a table.
    """
    if table := next((file for file in inputs.files if file.suffix.lower() in TABLES and not holds(file)), None):
        if len(inputs.files) > 1 or inputs.text or inputs.audio or inputs.video:
            raise AffectError(f"{table}: a table names files and texts itself: give it alone")
        return replace(inputs, **{"files": (), "columns": {}, **_listed(task, table, inputs.columns)})
    if inputs.columns:
        raise AffectError(f"{told(inputs.columns)} is of a table: give a CSV")
    files: list[Path] = []
    for file in inputs.files:
        within = task.files_in(file) if file.is_dir() else []
        files += within or [file]
    return replace(inputs, files=tuple(files))


def _listed(task: type[Task], table: Path, given: Mapping[str, str]) -> Mapping[str, Any]:
    columns, records = read_csv(table, (), separators=SEPARATORS)
    for line, cells in records:
        if SURPLUS in cells:
            raise AffectError(f"{table}:{line}: has more cells than the header has columns; quote texts with commas")
    own: dict[str, tuple[str, ...]] = {"text": _TEXTS} if "--text" in task.takes else {}
    own |= {name: (name,) for name in ("audio", "video") if f"--{name}" in task.takes}
    if "FILES" in task.takes:
        own["files"] = _FILES
        columns, records, _ = kaldi_files.beside(table, columns, records, given)
    if not records:
        raise AffectError(f"{table} has no line")
    names = _names(table, columns, given, list(own.values()))
    read = {name: next((names[ours] for ours in these if ours in names), None) for name, these in own.items()}
    named = {"id": names.get("id", names.get("name")), "path": read.get("files")}
    ours = {**{name: names[name] for name in TIMES if name in names}, **{k: v for k, v in named.items() if v}}
    listed = excerpts({name: cells[column] for name, column in ours.items()} for _, cells in records)
    if not task.cuts and any(each.span is not None or each.fault for each in listed):
        raise AffectError(f"{table}: {_times(names)} cut recordings, and this model takes whole files: leave them out")
    values = {name: _values(name, column, table, records) for name, column in read.items() if column is not None}
    return {**values, "listed": tuple(listed)}


def _names(
    table: Path, columns: Sequence[str], given: Mapping[str, str], needed: Sequence[Sequence[str]]
) -> dict[str, str]:
    """Return the table's column of each of ours that is read; raises ColumnsError where it has none that is `needed`.

    A mapping may name training's other columns, too, which are not read.
    """
    for name, column in given.items():
        if name not in (*_READ, *REQUIRED, *OPTIONAL):
            raise AffectError(f"columns names {name!r}, which a table to predict does not have; {nearest(name, _READ)}")
        if name in _READ and not matched(columns, (name,), given):
            raise AffectError(f"{table} has no column {column!r} for {name}: {nearest(column, columns)}")
    wanted = [ours for these in needed for ours in these]
    names = without_lengths(matched(columns, (*wanted, *(name for name in _READ if name not in wanted)), given))
    free = [column for column in columns if column not in names.values()]
    lacking = [these[0] for these in needed if not names.keys() & {*these}]
    asked = [{"text": "transcript"}.get(name, name) for name in lacking]
    likely = proposed(free, [*asked, *(name for name in ("id", *TIMES) if name not in names)])
    if len(lacking) == len(needed):
        shown = ", ".join(ours for these in needed for ours in these[:2])
        message = f"{table} has none of the columns {shown}; it has: {', '.join(columns) or 'none'}"
        raise ColumnsError(message, likely if likely.keys() & {*asked} else {})
    if likely := {name: column for name, column in likely.items() if name != "id"}:
        _LOG.warning("%s: columns that may be ours, and are not read: %s", table, told(likely))
    return names


def _times(names: Mapping[str, str]) -> str:
    return " and ".join(names[name] for name in TIMES if name in names)


def _values(name: str, column: str, table: Path, records: Sequence[tuple[int, Cells]]) -> tuple[Any, ...]:
    """Return a column: files below the table's folder, words as they are."""
    files = NamedFiles(table.parent)
    if name == "files":
        for line, cells in records:
            if not cells[column]:
                raise AffectError(f"{table}:{line}: names no file in the column {column}")
        return tuple(files.place(cells[column]) for _, cells in records)

    def placed(value: str) -> str:
        # A text is a file where it is called as one.
        is_file = name != "text" or value.lower().endswith((".npy", ".txt"))
        return str(files.place(value)) if value and is_file else value

    return tuple(placed(cells[column]) for _, cells in records)
