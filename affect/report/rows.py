"""Rows of predictions: a JSON object a line, in a file or a member of an archive, read when they are asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from affect import archive
from affect.archive import DamagedArchiveError
from affect.errors import first_line

Record = dict[str, Any]
Rows = dict[str, Record]
"""Rows by id."""


class Files(Mapping[str, Rows]):
    """Files of rows by the evaluation they are of; what can't be read in one is added to `problems` when it is read.

    A path below a .zip file is a member of that archive.

    The rows of plain evaluations stay in memory; of those under a condition, which are many, none does.
    """

    def __init__(self, paths: Mapping[str, Path], problems: list[str]):
        self._paths, self._problems = dict(paths), problems
        self._held: dict[str, Rows] = {}
        self._seen: set[str] = set()

    def __getitem__(self, name: str) -> Rows:
        if name in self._held:
            return self._held[name]
        # A second reading would name the same problems again.
        rows = rows_of(self._paths[name], self._problems if name not in self._seen else [])
        self._seen.add(name)
        if "@" not in name:
            self._held[name] = rows
        return rows

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


class Later(Sequence[Record]):
    """Records that are read when they are first asked for."""

    def __init__(self, read: Callable[[], list[Record]]):
        self._read = read

    @cached_property
    def _records(self) -> list[Record]:
        return self._read()

    def __getitem__(self, place: Any) -> Any:
        return self._records[place]

    def __len__(self) -> int:
        return len(self._records)


def lines(path: Path, problems: list[str], containing: str = "") -> list[Record]:
    """Return the JSON objects of a file, a line each; those that are none are counted, the first one named.

    Lines that do not contain a text are passed over unread.
    """
    try:
        content = _content(path).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except (OSError, KeyError, DamagedArchiveError) as error:
        problems.append(f"{path.name} can't be read: {first_line(error)}")
        return []
    records, wrong = [], []
    # Not splitlines(), which also breaks at characters that JSON strings may hold.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip() or containing not in line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            wrong.append(number)
    if wrong:
        problems.append(f"{path.name}: {len(wrong)} corrupt line(s), the first is line {wrong[0]}")
    return records


def _content(path: Path) -> bytes:
    if path.parent.suffix != ".zip":
        return path.read_bytes()
    return archive.content(path.parent, path.name)


def rows_of(path: Path, problems: list[str]) -> Rows:
    """Return the rows of a file of predictions by id, none where there is no file; `problems` gets a line each."""
    rows: Rows = {}
    wrong: list[str] = []
    twice: list[str] = []
    for record in lines(path, problems):
        name = str(record.get("id", ""))
        prediction, target = record.get("prediction"), record.get("target")
        if not name or not isinstance(prediction, dict) or not isinstance(target, dict):
            wrong.append(name or "without an id")
        elif name in rows:
            twice.append(name)
        else:
            prediction, target = ({k: _value(v) for k, v in side.items()} for side in (prediction, target))
            rows[name] = record | {"id": name, "prediction": prediction, "target": target}
    if wrong:
        problems.append(f"{path.name}: {len(wrong)} row(s) without prediction and target, the first is {wrong[0]}")
    if twice:
        problems.append(f"{path.name}: {len(twice)} id(s) more than once (the first row counts), as {twice[0]}")
    return rows


def _value(value: Any) -> Any:
    """Return a number as a float, and null and an empty name as NaN; anything else is the task's own."""
    if isinstance(value, bool) or value is None or value == "":
        return math.nan
    return float(value) if isinstance(value, int) else value
