"""Labels that numpy pickled into an .npz file, read without trusting the pickle.

They are read by `affect.data.safe_pickle`, which calls nothing that a pickle names.
"""

from __future__ import annotations

import io
import pickle
import threading
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from affect.data.files import open_file
from affect.data.safe_pickle import SCALARS, UNREADABLE, Kind, Names, Unpickler, check_places, check_start, refusal
from affect.errors import AffectError, first_line

MOST = 32 * 2**20
"""Bytes that a file, or anything packed in it, may have: a hundred times what the labels of MER2023 take."""

_PARSER = threading.Lock()

Labels = dict[str, dict[str, Any]]
"""By utterance, a dictionary of its labels."""


def read_labels(path: str | Path, keys: Sequence[str] | None = None) -> dict[str, Labels]:
    """Return the dictionaries in the npz file `path`: {key: {utterance: {label: value}}}, all keys when none are named.

    Each array must have the shape () and hold one dictionary of dictionaries, as numpy 1 or 2 writes it. Raises
    AffectError where the file can't be read or is too large, a key is missing, or a pickle holds anything else:
    what it would have called is named, and not called.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST:
            raise AffectError(f"{file} is larger than {MOST >> 20} MiB: it is no file of labels")
        with open_file(file) as opened, zipfile.ZipFile(opened) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            labels: dict[str, Labels] = {}
            for key in keys if keys is not None else members:
                if key not in members:
                    raise AffectError(f"{file} has no array {key!r}; it has: {', '.join(sorted(members)) or 'none'}")
                if members[key].file_size > MOST:
                    raise AffectError(f"{file}: {key} unpacks to more than {MOST >> 20} MiB: it is no file of labels")
                if members[key].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise AffectError(f"{file}: {key} is packed in a way that numpy does not use")
                # No more bytes than its entry says.
                labels[key] = _labels(archive.read(members[key]), f"{file}, {key}")
            return labels
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise AffectError(f"{file} is no readable npz file ({first_line(error)})") from error
    except OSError as error:
        raise AffectError(f"{file} cannot be read ({error.strerror or error})") from error


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


def _labels(data: bytes, where: str) -> Labels:
    stream = io.BytesIO(data)
    try:
        shape, _, dtype = read_header(stream)
    except ValueError as error:
        raise AffectError(f"{where} is no array ({first_line(error)})") from error
    if shape != () or dtype.kind != "O":
        raise AffectError(f"{where} is an array of {dtype} of the shape {list(shape)}, not one dictionary of labels")
    try:
        check_places(data[stream.tell() :])
        array = Unpickler(stream, _ADMITTED, refusal(where, "labels")).load()
    except UNREADABLE as error:
        raise AffectError(f"{where} is no readable pickle ({first_line(error)})") from error
    value = array.item if isinstance(array, _Array) else None
    # What the pickle made may refer to itself: only the two levels that are used are looked at.
    if type(value) is not dict or not all(type(k) is str and type(v) is dict for k, v in value.items()):
        raise AffectError(f"{where} holds no dictionary of a dictionary of labels for each utterance")
    return value


class _Array:
    """An array of the shape () being made, and then the object that it holds."""

    __slots__ = ("item",)

    def __init__(self) -> None:
        self.item: object = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, items = state
        if shape != () or type(dtype) is not Kind or not dtype.code.startswith("O") or type(items) is not list:
            raise pickle.UnpicklingError("an array of it is not a single object")
        (self.item,) = items


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    """Make an empty array, which a state then fills."""
    check_start(kind, shape, code)
    return _Array()


_ADMITTED: Names = {
    **SCALARS,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct, ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}  # fmt: skip
