"""Labels that numpy pickled into an .npz file, read without trusting the pickle.

They are read by `affect.data.safe_pickle`, which calls nothing that a pickle names.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affect.data.array_file import opened_npz, read_header
from affect.data.safe_pickle import SCALARS, UNREADABLE, Kind, Names, Unpickler, check_places, check_start, refusal
from affect.errors import AffectError, first_line

MOST = 32 * 2**20
"""Bytes that a file, or anything packed in it, may have: a hundred times what the labels of MER2023 take."""

Labels = dict[str, dict[str, Any]]
"""By utterance, a dictionary of its labels."""


def read_labels(path: str | Path, keys: Sequence[str] | None = None) -> dict[str, Labels]:
    """Return the dictionaries in the npz file `path`: {key: {utterance: {label: value}}}, all keys when none are named.

    Each array must have the shape () and hold one dictionary of dictionaries, as numpy 1 or 2 writes it. Raises
    AffectError where the file can't be read or is too large, a key is missing, or a pickle holds anything else:
    what it would have called is named, and not called.
    """
    file = Path(path)
    # Before its directory, which may be as large, is read.
    if file.is_file() and file.stat().st_size > MOST:
        raise AffectError(f"{file} is larger than {MOST >> 20} MiB: it is no file of labels")
    with opened_npz(file) as archive:
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
