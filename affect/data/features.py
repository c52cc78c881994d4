"""What a frozen encoder computes of recordings, kept on disk: a file a recording, read through a memory map."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import mmap
import os
import re
import struct
import weakref
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from affect.data.cache import replace_file
from affect.errors import AffectError, first_line

_LOG = logging.getLogger("affect")

Features = NDArray[np.floating[Any]]

TYPES: dict[int, np.dtype[Any]] = {2: np.dtype("<f2"), 4: np.dtype("<f4")}
"""What entries may hold, by bytes a number: float16 and float32."""

_MAGIC = b"affect-1"
_HEADER = struct.Struct("<8s I B B 2x 6Q")
"""Magic, checksum, bytes a number, dimensions, shape: 64 bytes, so that the numbers behind lie aligned."""
_DIGEST = re.compile(r"[0-9a-f]{16,128}").fullmatch
_MOST = 6
_SMALL = 64 * 1024
"""Bytes up to which an entry is read and not mapped: it is quicker, and holds no file open."""
_MAPS = 256
"""Mapped entries that a process holds at once: each keeps a file open, and systems allow about 1000."""


class FeatureStore:
    """Arrays in a folder under the SHA-256 of the recordings that they were computed from.

    `key` says what else they depend on: encoder, revision, layers, precision, normalisation ... (plain JSON
    values). Each key has a folder of its own inside `folder`, where key.json shows it; nothing of another key is
    ever read. Several processes may read and write at once: an entry is whole or absent, and the last one
    written counts. Raises AffectError where the folder can't be written.
    """

    def __init__(self, folder: str | Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True, ensure_ascii=False, indent=2)
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = Path(folder) / self.key
        self._root = os.fspath(self.folder)
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
        shown = self.folder / "key.json"
        if not (shown.is_file() and shown.read_bytes() == text.encode()):
            replace_file(shown, lambda file: file.write(text.encode()))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: another process opens its own."""
        return {**self.__dict__, "_maps": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps = weakref.WeakSet()

    def path(self, digest: str) -> str:
        """Return the file of an entry, there or not; raises AffectError where `digest` is no hash in hexadecimal."""
        if not _DIGEST(digest):
            raise AffectError(f"{digest!r} is no hash of a recording: features are kept by the `digest` of its file")
        # Folders of some hundred files each: file systems slow down with tens of thousands in one.
        return f"{self._root}/{digest[:2]}/{digest[2:]}.bin"

    def write(self, digest: str, array: Features) -> None:
        """Keep `array` (any shape, float16 or float32) as the entry of `digest`, atomically.

        Raises AffectError where it holds NaN or infinite values, or the disk refuses.
        """
        path = Path(self.path(digest))
        kind = TYPES.get(array.dtype.itemsize)
        if array.dtype.kind != "f" or kind is None or array.ndim > _MOST:
            raise AffectError(
                f"features are kept as float16 or float32 of at most {_MOST} dimensions, not {array.dtype} "
                f"of {array.ndim}"
            )
        if not np.isfinite(array).all():
            raise AffectError(
                f"the features of recording {digest[:12]} hold NaN or infinite values (float16 ends at 65504: "
                "keep them as float32)"
            )
        data = np.ascontiguousarray(array, kind).reshape(-1).view(np.uint8).data
        shape = (*array.shape, *[0] * (_MOST - array.ndim))
        check = zlib.crc32(data, self._salt(digest, kind.itemsize, array.shape))
        header = _HEADER.pack(_MAGIC, check, kind.itemsize, array.ndim, *shape)

        def fill(file: BinaryIO) -> None:
            file.write(header)
            file.write(data)

        replace_file(path, fill)

    def read(self, digest: str) -> Features:
        """Return the entry of `digest`, read-only, mapped from disk unless it is small.

        Raises AffectError where there is none or its size is wrong (`missing` finds every damage).
        """
        path = self.path(digest)
        try:
            data = self._load(path)
            _, size, shape = _parse(data)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise AffectError(
                f"the cached features {path} cannot be read ({reason}); start again to rebuild"
            ) from error
        array: Features = np.ndarray(shape, TYPES[size], data, _HEADER.size)
        return array

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those of `digests`, each once and in order, that have to be computed: absent or damaged.

        Reads every entry against its checksum; logs once how many are damaged.
        """
        wanted: list[str] = []
        damaged = 0
        for digest in dict.fromkeys(digests):
            path = self.path(digest)
            if not os.path.exists(path):
                wanted.append(digest)
            elif not self._sound(digest, path):
                wanted.append(digest)
                damaged += 1
        if damaged:
            _LOG.warning("%d cached features in %s are damaged and will be made again", damaged, self.folder)
        return wanted

    def size(self, digests: Iterable[str]) -> int:
        """Return the bytes that the entries of `digests` take on disk; absent ones take none."""
        total = 0
        for digest in dict.fromkeys(digests):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(self.path(digest)).st_size
        return total

    def _load(self, path: str) -> bytes | mmap.mmap:
        """Return a whole file, mapped where it is large and few enough are."""
        handle = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(handle).st_size
            if size <= _SMALL:
                return os.read(handle, size)
            if len(self._maps) >= _MAPS:
                return Path(path).read_bytes()
            mapped = mmap.mmap(handle, size, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)
        self._maps.add(mapped)
        return mapped

    def _sound(self, digest: str, path: str) -> bool:
        """Return whether an entry is all that was written, by its checksum."""
        try:
            # Read, not mapped: a disk that fails under a map kills the process.
            data = Path(path).read_bytes()
            check, size, shape = _parse(data)
        except (OSError, ValueError):
            return False
        return check == zlib.crc32(memoryview(data)[_HEADER.size :], self._salt(digest, size, shape))

    def _salt(self, digest: str, size: int, shape: tuple[int, ...]) -> int:
        """Return what a checksum starts from, so that an entry under another name or key is no entry."""
        return zlib.crc32(repr((self.key, digest, size, shape)).encode())


def _parse(data: bytes | mmap.mmap) -> tuple[int, int, tuple[int, ...]]:
    """Return checksum, bytes a number and shape of an entry; raises ValueError where it is no whole one."""
    if len(data) < _HEADER.size:
        raise ValueError("truncated")
    magic, check, size, dimensions, *sizes = _HEADER.unpack_from(data)
    if magic != _MAGIC or size not in TYPES or dimensions > _MOST:
        raise ValueError("no features")
    shape: tuple[int, ...] = tuple(sizes[:dimensions])
    if len(data) != _HEADER.size + size * math.prod(shape):
        raise ValueError("truncated")
    return check, size, shape
