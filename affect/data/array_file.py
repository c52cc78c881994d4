"""Arrays of numbers in npy and npz files, whatever their headers say: read without unpickling anything.

What holds no real numbers is refused: NumPy would make floats of complex numbers, dates and records in silence.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from affect.archive import DamagedArchiveError, opened
from affect.data.files import open_file, read_bytes
from affect.errors import AffectError, first_line, reading

Array = NDArray[Any]

_NUMBERS = "fiub"
"""Kinds of numbers: floats, integers of both kinds, truth values."""
_PARSER = threading.Lock()


def read_array(path: str | Path) -> Array:
    """Return the numbers of an npy file, read-only; raises AffectError for a file that is none, and for others' kinds.

    Float16, float32, float64, integers and truth values are numbers.
    """
    with reading(path):
        content = read_bytes(path)
    return parse(content, str(path))


def read_arrays(path: str | Path, names: Sequence[str]) -> dict[str, Array]:
    """Return those arrays of an npz file that have these names; raises AffectError as `read_array` does."""
    with opened_npz(path) as archive:
        there = set(archive.namelist())
        members = {name: archive.read(f"{name}.npy") for name in names if f"{name}.npy" in there}
    return {name: parse(data, f"{path}, {name}") for name, data in members.items()}


@contextmanager
def opened_npz(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open the archive that an npz file is; raises AffectError where it, or what is read of it, is unreadable."""
    try:
        with reading(path), open_file(path) as file, opened(file) as archive:
            yield archive
    except DamagedArchiveError as error:
        raise AffectError(f"{path} is no readable npz file ({error})") from error


def read_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, Fortran's order or not, and type of an npy file, left at its data; raises ValueError for others."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version[0]}.{version[1]} of the npy format")
    try:
        # numpy parses the header as Python, whose parser can fail where several threads parse at once (3.11).
        with _PARSER:
            shape, fortran, dtype = readers[version](stream)
    except (
        TypeError,
        SyntaxError,
        TokenError,
        ArithmeticError,
        MemoryError,
        RecursionError,
        LookupError,
        AttributeError,
    ) as error:
        raise ValueError(first_line(error)) from error
    if any(size < 0 for size in shape):
        raise ValueError(f"a shape of {list(shape)}")
    return shape, fortran, dtype


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
