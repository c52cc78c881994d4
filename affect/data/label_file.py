"""Labels that numpy pickled into an .npz file, read without trusting the pickle.

A pickle names functions, and who reads it calls them. Here the few names that an object array of plain dictionaries
needs mean objects of this module, which check what they are given; every other name is refused. numpy's own functions
are not called either: a crafted state of `numpy.dtype` makes them read memory that is not theirs.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, NoReturn

import numpy as np

from affect.errors import AffectError, first_line

MOST = 32 * 2**20
"""Bytes that a file, or anything packed in it, may have: a hundred times what the labels of MER2023 take."""

_UNREADABLE = (pickle.UnpicklingError, ValueError, TypeError, AttributeError, LookupError, EOFError, OverflowError,
               MemoryError, RecursionError)  # fmt: skip
_PARSER = threading.Lock()

Labels = dict[str, dict[str, Any]]
"""By utterance, a dictionary of its labels."""

_NUMBERS = frozenset(("f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))
"""Types of numbers that labels may have."""


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
        with zipfile.ZipFile(file) as archive:
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
    except (TypeError, SyntaxError, TokenError, OverflowError, MemoryError, RecursionError) as error:
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
        _check_places(data[stream.tell() :])
        array = _Unpickler(stream, where).load()
    except _UNREADABLE as error:
        raise AffectError(f"{where} is no readable pickle ({first_line(error)})") from error
    value = array.item if isinstance(array, _Array) else None
    # What the pickle made may refer to itself: only the two levels that are used are looked at.
    if type(value) is not dict or not all(type(k) is str and type(v) is dict for k, v in value.items()):
        raise AffectError(f"{where} holds no dictionary of a dictionary of labels for each utterance")
    return value


def _check_places(payload: bytes) -> None:
    """Raise UnpicklingError for a number of an object above a pickle's length: Python makes room for all below it."""
    for opcode, argument, _ in pickletools.genops(payload):
        if opcode.name.endswith("PUT") and not 0 <= (argument or 0) <= len(payload):
            raise pickle.UnpicklingError(f"it numbers an object {argument}")


class _Unpickler(pickle.Unpickler):
    """Knows the names that arrays of dictionaries need, and refuses all others before anything is imported."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        super().__init__(stream)
        self._where = where

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise AffectError(
                f"{self._where} is not labels alone: its pickle asks for {f'{module}.{name}'[:100]!r}, "
                "which was refused; don't use this file"
            )
        return _Stand(_ADMITTED[module, name])

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("it refers to objects outside itself")


class _Array:
    """An array of the shape () being made, and then the object that it holds."""

    __slots__ = ("item",)

    def __init__(self) -> None:
        self.item: object = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, _, items = state
        if shape != () or type(dtype) is not _Kind or not dtype.code.startswith("O") or type(items) is not list:
            raise pickle.UnpicklingError("an array of it is not a single object")
        (self.item,) = items


class _Kind:
    """A dtype: its code without the order of bytes (`f8`, `U5`, `O8`), and that order."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in (">", "<"):
            self.order = state[1]


class _Stand:
    """Stands for what a pickle names. A new one each time: a pickle can set attributes of what it is given."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function

    def __call__(self, *arguments: object) -> object:
        return self.function(*arguments)


def _ndarray(*_: object) -> NoReturn:
    # It is only ever an argument.
    raise pickle.UnpicklingError("an array of it does not start empty")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    """Make an empty array, which a state then fills."""
    if type(kind) is not _Stand or kind.function is not _ndarray or shape != (0,) or code != b"b":
        raise pickle.UnpicklingError("an array of it does not start empty")
    return _Array()


def _dtype(code: object, align: object = False, copy: object = True) -> _Kind:
    if type(code) is not str:
        raise pickle.UnpicklingError("a type of it is no code")
    return _Kind(code)


def _scalar(kind: object, data: object) -> object:
    """Make Python's own of a numpy number or string."""
    if type(kind) is not _Kind or type(data) is not bytes:
        raise pickle.UnpicklingError("a number of it is not written as bytes")
    if kind.code.startswith("U"):
        return data.decode("utf-32-le" if kind.order == "<" else "utf-32-be").rstrip("\0")
    if kind.code not in _NUMBERS:
        raise pickle.UnpicklingError(f"a value of it has the type {kind.code[:20]!r}")
    return np.frombuffer(data, kind.order + kind.code).item()


def _encode(text: object, encoding: object) -> bytes:
    """Make bytes, which protocol 2 writes as text."""
    if type(text) is not str or encoding != "latin1":
        raise pickle.UnpicklingError("bytes of it are not in latin1")
    return text.encode("latin-1")


_ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _ndarray, ("numpy", "dtype"): _dtype, ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct, ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar, ("numpy._core.multiarray", "scalar"): _scalar,
}  # fmt: skip
