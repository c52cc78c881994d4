"""Where the faces of a video are, by py-feat's and OpenFace's tables, and images [H, W, 3] cut out around them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from affect.cache import kept_json, stamp
from affect.data.table_file import read_csv
from affect.errors import AffectError, first_few

Image = NDArray[np.uint8]
Cells = Mapping[str, float]

_VERSION = 1
"""To be raised when the same table gives other boxes."""
_PYFEAT: tuple[str, ...] = ("frame", "FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore")
LANDMARKS = tuple(f"{axis}_{point}" for axis in "xy" for point in range(68))
_OPENFACE: tuple[str, ...] = ("frame", "confidence", "success", *LANDMARKS)
_LEAST = 0.5
"""The lowest score of a face that counts."""
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
    that looked at every fifth frame answers for the frames beside it too.
    """

    numbers: NDArray[np.int64]
    boxes: NDArray[np.float64]
    step: int = 1

    def at(self, index: int) -> Box | None:
        """Return the face of the video's frame `index`; None: no face."""
        place = int(np.abs(self.numbers - index).argmin())
        if abs(self.numbers[place] - index) > self.step / 2 or np.isnan(self.boxes[place, 0]):
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


def read_boxes(path: Path) -> Boxes:
    """Return the faces of a py-feat or OpenFace CSV: the largest of each frame among those that are sure enough.

    Which program wrote it is told by the header. OpenFace counts frames from 1 and gives landmarks, whose extent is
    the box; what it tracked without success is no face. Raises AffectError where the file is missing, empty, of
    neither program, or holds what is no number.
    """
    header, records = read_csv(path, ())
    if not any(header):
        raise AffectError(f"{path}: is empty; face boxes come from a CSV of py-feat or OpenFace")
    lacking = {names: [name for name in names if name not in header] for names in (_PYFEAT, _OPENFACE)}
    columns = min(lacking, key=lambda names: len(lacking[names]))
    if lacking[columns]:
        wanted, there = first_few(lacking[columns], _SHOWN), first_few(header, _SHOWN)
        raise AffectError(f"{path}: is no table of py-feat or OpenFace, it has no column {wanted}; it has: {there}")
    face = _pyfeat_face if columns == _PYFEAT else _openface_face
    largest: dict[int, Box] = {}
    for line, cells in records:
        if not any(cells.values()):
            continue
        values = {name: _number(cells[name], f"{path}:{line}: {name}") for name in columns}
        if not (values["frame"] >= 0 and values["frame"].is_integer()):
            raise AffectError(f"{path}:{line}: frame is {values['frame']:g}; it must be a whole number from 0")
        number, score, box = face(values)
        held = largest.setdefault(number, Box(*[math.nan] * 4))
        seen = score >= _LEAST and box.width > 0 and box.height > 0 and all(map(math.isfinite, box))
        if seen and not held.width * held.height >= box.width * box.height:
            largest[number] = box
    if not largest:
        raise AffectError(f"{path}: has a header and no row of a frame")
    numbers = np.array(sorted(largest), np.int64)
    step = int(np.diff(numbers).min()) if len(numbers) > 1 else 1
    return Boxes(numbers=numbers, boxes=np.array([largest[number] for number in numbers.tolist()]), step=step)


def kept_boxes(path: Path) -> Boxes:
    """Return what `read_boxes` does, from the cache where the file was read and has not changed since."""

    def read() -> dict[str, Any]:
        boxes = read_boxes(path)
        return {"numbers": boxes.numbers.tolist(), "boxes": boxes.boxes.tolist(), "step": boxes.step}

    facts = kept_json("boxes", (_VERSION, stamp(path)), read)
    return Boxes(np.array(facts["numbers"], np.int64), np.array(facts["boxes"], np.float64), facts["step"])


def _number(cell: str, where: str) -> float:
    """Return a cell's number; an empty one is NaN, which is how a frame without a face is written."""
    try:
        return float(cell) if cell else math.nan
    except ValueError as error:
        raise AffectError(f"{where} is {cell[:40]!r}, which is no number") from error


def _pyfeat_face(cells: Cells) -> tuple[int, float, Box]:
    _, left, top, width, height, score = (cells[name] for name in _PYFEAT)
    return int(cells["frame"]), score, Box(left, top, width, height)


def _openface_face(cells: Cells) -> tuple[int, float, Box]:
    across, down = ([cells[f"{axis}_{point}"] for point in range(68)] for axis in "xy")
    box = Box(min(across), min(down), max(across) - min(across), max(down) - min(down))
    return int(cells["frame"]) - 1, cells["confidence"] if cells["success"] > 0 else 0.0, box
