"""Arrays of numbers in npy and npz files, whatever their headers say: read without unpickling anything.

What holds no real numbers is refused: NumPy would make floats of complex numbers, dates and records in silence.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data.files import open_file, read_bytes
from affect.data.label_file import read_header
from affect.errors import AffectError, first_line

Array = NDArray[Any]

_NUMBERS = "fiub"
"""Kinds of numbers: floats, integers of both kinds, truth values."""


def read_array(path: str | Path) -> Array:
    """Return the numbers of an npy file, read-only; raises AffectError for a file that is none, and for others' kinds.

    Float16, float32, float64, integers and truth values are numbers.
    """
    try:
        return parse(read_bytes(path), str(path))
    except OSError as error:
        raise AffectError(f"{path} cannot be read ({error.strerror or error})") from error


def read_arrays(path: str | Path, names: Sequence[str]) -> dict[str, Array]:
    """Return those arrays of an npz file that have these names; raises AffectError as `read_array` does."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            there = set(archive.namelist())
            members = {name: archive.read(f"{name}.npy") for name in names if f"{name}.npy" in there}
    except OSError as error:
        raise AffectError(f"{path} cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise AffectError(f"{path} is no readable npz file ({first_line(error)})") from error
    return {name: parse(data, f"{path}, {name}") for name, data in members.items()}


def parse(data: bytes, where: str) -> Array:
    """Return the array that the bytes of an npy file are; raises AffectError, with `where` it stands, for others."""
    stream = io.BytesIO(data)
    try:
        shape, fortran, dtype = read_header(stream)
    except ValueError as error:
        raise AffectError(f"{where} is no readable npy file ({first_line(error)}); extract it again") from error
    if dtype.kind not in _NUMBERS or dtype.itemsize > 8:
        held = "Python objects" if dtype.hasobject else "records" if dtype.names else str(dtype)
        raise AffectError(f"{where} holds {held}, not float16, float32 or float64; write it as float32")
    at, size = stream.tell(), dtype.itemsize
    for side in shape:
        size *= side
    if len(data) - at != size:
        raise AffectError(
            f"{where} is damaged: {len(data) - at} bytes where its header promises {size}; extract it again"
        )
    try:
        return np.frombuffer(data, dtype, offset=at).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:
        # More sides, or longer ones, than NumPy has.
        raise AffectError(f"{where} is no readable npy file ({first_line(error)}); extract it again") from error
