"""Frames of a clip from the CSV files of py-feat and OpenFace: columns by their names, since the order differs.

py-feat (2.1 and before): 68 x, 68 y, 20 action units and 7 emotions are `visual`, 163 numbers; frames count from 0, and
a text column says the input. OpenFace 2: 17 intensities are `au`; all headers but the first have a space before them,
frames count from 1, and a frame without a face has success 0. Of several faces in a frame the surest one is taken.

Legend: T frames, D numbers of a frame.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data.faces import LANDMARKS
from affect.data.table_file import Cells, number, read_csv
from affect.errors import AffectError

_SHOWN = 8
"""Columns that an error names."""
_UNITS = ("01", "02", "04", "05", "06", "07", "09", "10", "11", "12", "14", "15", "17", "20", "23", "24", "25", "26",
          "28", "43")  # fmt: skip
_EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
VISUAL = (*LANDMARKS, *(f"AU{unit}" for unit in _UNITS), *_EMOTIONS)
"""Columns of py-feat, in the order in which they are read."""
_INTENSE = ("01", "02", "04", "05", "06", "07", "09", "10", "12", "14", "15", "17", "20", "23", "25", "26", "45")
AU = tuple(f"AU{unit}_r" for unit in _INTENSE)
"""Columns of OpenFace, in the order in which they are read."""
FACES = {"visual": VISUAL, "au": AU}
"""The columns of each feature of faces."""


def read_faces(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the frames [T, D] of a clip as `visual` or `au`, by time, NaN in those without a face.

    Raises AffectError for a file of neither program, one that lacks columns, and for cells that are no numbers.
    """
    columns, records = read_csv(path, ())
    openface = AU[0] in columns
    name, wanted = ("au", AU) if openface else ("visual", VISUAL)
    check_columns(columns, wanted, path, "OpenFace" if openface else "py-feat")
    sure = "confidence" if openface else "FaceScore"
    rows = [cells for _, cells in records]
    places = frame_numbers(rows, path)
    best: dict[int, Cells] = {}
    for place, cells in zip(places, rows, strict=True):
        if place not in best or _sureness(cells, sure) > _sureness(best[place], sure):
            best[place] = cells
    frames = numbers([best[place] for place in sorted(best)], wanted, path)
    if openface and "success" in columns:
        frames[[best[place]["success"] == "0" for place in sorted(best)]] = np.nan
    return {name: frames}


def check_columns(there: Collection[str], wanted: Collection[str], path: Path, owner: str) -> None:
    """Raise AffectError, in one line, where some of the `wanted` columns of a table's `owner` are not there."""
    missing = [column for column in wanted if column not in there]
    if missing:
        shown = ", ".join(map(repr, missing[:_SHOWN])) + ", ..." * (len(missing) > _SHOWN)
        raise AffectError(f"{path} has no column {shown} ({len(missing)} of {len(wanted)}) of {owner}")


def frame_numbers(rows: Sequence[Cells], path: Path) -> list[int]:
    """Return the number of each row's frame, its place in the file where there is no column `frame`."""
    if not rows or "frame" not in rows[0]:
        return list(range(len(rows)))
    try:
        return [int(number(cells["frame"])) for cells in rows]
    except ValueError as error:
        raise AffectError(f"{path}: a frame has no number ({error})") from error


def numbers(rows: Sequence[Cells], columns: Sequence[str], path: Path) -> NDArray[np.float32]:
    """Return columns of rows as [T, D], NaN where a cell is empty; raises AffectError for one that is no number."""
    values: Any = np.full((len(rows), len(columns)), np.nan, np.float32)
    for k, cells in enumerate(rows):
        try:
            values[k] = [number(cells[column]) for column in columns]
        except ValueError as error:
            raise AffectError(f"{path}: a cell of frame {k} is no number ({error})") from error
    return np.asarray(values)


def _sureness(cells: Cells, column: str) -> float:
    try:
        return float(cells.get(column, ""))
    except ValueError:
        return -1.0
