"""Where the faces of a video are, from the tables of py-feat and OpenFace, and images cut out around them.

Legend: N frames of the table; H, W height and width of an image in pixels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError

Image = NDArray[np.uint8]
Cells = Mapping[str, float]

_PYFEAT: tuple[str, ...] = ("frame", "FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore")
_LANDMARKS = tuple(f"{axis}_{point}" for axis in "xy" for point in range(68))
_OPENFACE: tuple[str, ...] = ("frame", "confidence", "success", *_LANDMARKS)
_SHOWN = 6
"""Columns that an error lists of a table of neither program."""


class Box(NamedTuple):
    """A rectangle in pixels: its left upper corner, from the image's left upper corner, its width and height."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Boxes:
    """The face of each frame of a video that was looked at: its number from 0 [N], ascending, and its box [N, 4].

    A frame that was looked at and showed no face has a box of NaN. `step` is the distance of the numbers: a program
    that looked at every fifth frame answers for the frames beside it too. With `fps`, numbers count frames of 1 / fps
    seconds, not those of the file.
    """

    numbers: NDArray[np.int64]
    boxes: NDArray[np.float64]
    step: int = 1
    fps: float | None = None

    def at(self, index: int, time: float) -> Box | None:
        """Return the face of the video's frame `index`, shown `time` seconds after the first; None: no face."""
        wanted = index if self.fps is None else time * self.fps
        after = int(np.searchsorted(self.numbers, wanted))
        near = [place for place in (after - 1, after) if 0 <= place < len(self.numbers)]
        place = min(near, key=lambda place: abs(self.numbers[place] - wanted))
        if abs(self.numbers[place] - wanted) > self.step / 2 or np.isnan(self.boxes[place, 0]):
            return None
        return Box(*self.boxes[place].tolist())


def crop(image: Image, box: Box, margin: float = 0.3) -> Image | None:
    """Return the square around `box` of an image [H, W, 3] as a copy, or None where the box lies outside of it.

    Its side is the box's longer side times 1 + margin, its centre the box's; where that reaches over the edge the
    square is moved inwards, and one that is larger than the image is as large as the shorter side of the image.
    """
    height, width = image.shape[:2]
    if box.left >= width or box.top >= height or box.left + box.width <= 0 or box.top + box.height <= 0:
        return None
    side = max(1, min(round(max(box.width, box.height) * (1.0 + margin)), height, width))
    left = min(max(round(box.left + box.width / 2 - side / 2), 0), width - side)
    top = min(max(round(box.top + box.height / 2 - side / 2), 0), height - side)
    return image[top : top + side, left : left + side].copy()


def read_boxes(path: Path, *, fps: float | None = None, least: float = 0.5) -> Boxes:
    """Return the faces of a py-feat or OpenFace CSV: the largest of each frame among those scored `least` or more.

    Which program wrote it is told by the header. OpenFace counts frames from 1 and gives landmarks, whose extent is
    the box; what it tracked without success is no face. `fps` is for faces that were found in images taken at another
    rate than the video's frames. Raises AffectError where the file is missing, empty, of neither program, or holds
    what is no number.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise AffectError(f"fps is {fps}, it must be above 0: the frames a second that the faces were found at")
    header, lines = _table(path)
    if set(_PYFEAT) <= set(header):
        columns, face = _PYFEAT, _pyfeat_face
    elif set(_OPENFACE) <= set(header):
        columns, face = _OPENFACE, _openface_face
    else:
        raise AffectError(_foreign(path, header))
    found = _faces(path, lines, {name: header.index(name) for name in columns}, face, least)
    if not found:
        raise AffectError(f"{path}: has a header and no row of a frame")
    numbers = np.array(sorted(found), np.int64)
    step = int(np.diff(numbers).min()) if len(numbers) > 1 else 1
    boxes = np.array([found[number] for number in numbers.tolist()], np.float64)
    return Boxes(numbers=numbers, boxes=boxes, step=step, fps=fps)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names of the columns, without blanks, and the cells of each line that is not blank."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except FileNotFoundError as error:
        raise AffectError(f"{path}: no such table of face boxes") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AffectError(f"{path}: cannot be read as a CSV of face boxes ({error})") from error
    if not lines:
        raise AffectError(f"{path}: is empty; face boxes come from a CSV of py-feat or OpenFace")
    return [name.strip() for name in lines[0][1]], lines[1:]


def _foreign(path: Path, header: Sequence[str]) -> str:
    """Say what a table lacks, of the columns of the program that it is nearer to."""
    lacking = min(([name for name in known if name not in header] for known in (_PYFEAT, _OPENFACE)), key=len)
    shown = ", ".join(header[:_SHOWN]) + (" ..." if len(header) > _SHOWN else "")
    wanted = ", ".join(lacking[:_SHOWN]) + (" ..." if len(lacking) > _SHOWN else "")
    return f"{path}: is no table of py-feat or OpenFace, it has no column {wanted}; it has: {shown}"


def _faces(
    path: Path,
    lines: Sequence[tuple[int, list[str]]],
    places: Mapping[str, int],
    face: Callable[[Cells], tuple[int, float, Box]],
    least: float,
) -> dict[int, Box]:
    """Return the largest face of each frame number, a box of NaN where none has the score."""
    none = Box(*[math.nan] * 4)
    found: dict[int, Box] = {}
    for line, cells in lines:
        values = {name: _number(path, line, name, cells, place) for name, place in places.items()}
        if not (values["frame"] >= 0 and values["frame"].is_integer()):
            raise AffectError(f"{path}:{line}: frame is {values['frame']:g}; it must be a whole number from 0")
        number, score, box = face(values)
        held = found.setdefault(number, none)
        seen = score >= least and box.width > 0 and box.height > 0 and all(map(math.isfinite, box))
        if seen and not held.width * held.height >= box.width * box.height:
            found[number] = box
    return found


def _number(path: Path, line: int, name: str, cells: Sequence[str], place: int) -> float:
    """Return a cell's number; an empty one is NaN, which is how a frame without a face is written."""
    cell = cells[place].strip() if place < len(cells) else ""
    try:
        return float(cell) if cell else math.nan
    except ValueError as error:
        raise AffectError(f"{path}:{line}: {name} is {cell[:40]!r}, which is no number") from error


def _pyfeat_face(cells: Cells) -> tuple[int, float, Box]:
    _, left, top, width, height, score = (cells[name] for name in _PYFEAT)
    return int(cells["frame"]), score, Box(left, top, width, height)


def _openface_face(cells: Cells) -> tuple[int, float, Box]:
    across, down = ([cells[f"{axis}_{point}"] for point in range(68)] for axis in "xy")
    box = Box(min(across), min(down), max(across) - min(across), max(down) - min(down))
    return int(cells["frame"]) - 1, cells["confidence"] if cells["success"] > 0 else 0.0, box
