"""Where predictions go: lines of JSON, or tables whose columns bear the same names."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from affect.errors import AffectError, refuse_overwriting, writing

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl",)
_VECTORS = (".npz", ".parquet")
PREDICTION = "prediction"

Line = dict[str, Any]


def check_lines(path: Path, files: Iterable[Path] = ()) -> None:
    """Raise AffectError for the name of a file that lines can't be written to, and for one of the `files` read."""
    refuse_overwriting({"--output": path}, files)
    if path.suffix.lower() not in (*_SEPARATORS, *_JSON):
        raise AffectError(f"--output {path}: its name has to end in {', '.join((*_SEPARATORS, *_JSON))}")


@contextlib.contextmanager
def lines_to(path: Path) -> Iterator[Callable[[Line], None]]:
    """Open a file, and yield what writes a line to it: JSON lines, or of .csv and .tsv a table (see `cells`).

    A table is written at the end, when all its columns are known; also where the work stops before. Raises AffectError
    for another ending, and where the file can't be written.
    """
    check_lines(path)
    ending = path.suffix.lower()
    rows: list[Mapping[str, Any]] = []
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:

        def write(line: Line) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        try:
            yield write if ending in _JSON else lambda line: rows.extend(cells(line))
        finally:
            if rows:
                names = dict.fromkeys(name for row in rows for name in row)
                table = csv.DictWriter(file, [*names], delimiter=_SEPARATORS[ending])
                table.writeheader()
                table.writerows(rows)


def cells(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a line's cells by column, in as many rows as a list in it has entries.

    What is predicted bears its own name; all else the path to it, with dots. A list of numbers is one cell.
    """
    flat = {name: value for name, value in _flat(line) if name != "order"}
    whole = {name.removeprefix(f"{PREDICTION}."): value for name, value in flat.items()}
    # A score may be called as another column is.
    flat = whole if len(whole) == len(flat) else flat
    entries = next((value for value in flat.values() if isinstance(value, list)), None)
    plain = {name: value for name, value in flat.items() if not isinstance(value, list)}
    return [{**plain, **entry} for entry in entries] if entries else [plain]


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{before}{name}.")
        elif isinstance(inner, list) and not all(isinstance(entry, Mapping) for entry in inner):
            yield before + name, " ".join(map(str, inner))
        else:
            yield before + name, inner


def check_vectors(path: Path, files: Iterable[Path] = ()) -> None:
    """Raise AffectError for the name of a file that vectors can't be written to, and for one of the `files` read."""
    refuse_overwriting({"--output": path}, files)
    if path.suffix.lower() not in _VECTORS:
        raise AffectError(f"--output {path}: its name has to end in {' or '.join(_VECTORS)}")


def write_vectors(path: Path, lines: Iterable[Line]) -> None:
    """Write lines with an `embedding` [D] each: as arrays (.npz: embedding [N, D]), or as a table (.parquet).

    Beside it is `id`, what it is of, and of windows `start` and `end`. Raises AffectError where it can't be written.
    """
    check_vectors(path)
    rows = list(lines)
    spans = [name for name in ("start", "end") if any(name in row for row in rows)]
    columns: dict[str, Any] = {"id": [name_of(row) for row in rows]}
    columns |= {name: [row[name] for row in rows] for name in spans}
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
    with writing(path), path.open("wb") as file:
        if path.suffix.lower() == ".npz":
            np.savez(file, **arrays, embedding=vectors)
            return
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({**columns, "embedding": vectors.tolist()}), file)


def name_of(line: Mapping[str, Any]) -> str:
    """Return what a line is of: its id, path, text or file."""
    return str(next((line[name] for name in ("id", "path", "text", "file") if name in line), ""))
