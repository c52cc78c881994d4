"""What a frozen encoder computes of recordings, kept on disk: a file a recording: a line of JSON and the numbers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.cache import replace_file
from affect.errors import AffectError, first_line

_LOG = logging.getLogger("affect")

Features = NDArray[np.floating[Any]]
_TYPES = {"float16": "<f2", "float32": "<f4"}
_MAPPED = 64 * 1024
"""Bytes from which an entry is mapped, as its numbers are copied only once then."""
_DAMAGE = (ValueError, KeyError, TypeError, RecursionError)


class FeatureStore:
    """Arrays in a folder under the SHA-256 of the recordings that they were computed from.

    `key` says what else they depend on: encoder, revision, layers, precision, normalisation ... (plain JSON
    values). Each key has a folder of its own inside `folder`, where key.json shows it; nothing of another key is
    ever read. Several processes may read and write at once: an entry is whole or absent, and the last one
    written counts. Raises AffectError where the folder can't be written.
    """

    def __init__(self, folder: str | Path, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True, ensure_ascii=False, indent=2).encode()
        self.key = hashlib.sha256(text).hexdigest()[:16]
        self.folder = Path(folder) / self.key
        shown = self.folder / "key.json"
        if not (shown.is_file() and shown.read_bytes() == text):
            replace_file(shown, text)

    def path(self, digest: str) -> Path:
        """Return the file of an entry, there or not; raises AffectError where `digest` is no hash in hexadecimal."""
        if not re.fullmatch(r"[0-9a-f]{16,128}", digest):
            raise AffectError(f"{digest!r} is no hash of a recording: features are kept by the `digest` of its file")
        # Folders of some hundred files each: file systems slow down with tens of thousands in one.
        return self.folder / digest[:2] / f"{digest[2:]}.bin"

    def write(self, digest: str, array: Features) -> None:
        """Keep an array of float16 or float32; raises AffectError for NaN or infinity, or where the disk refuses."""
        path = self.path(digest)
        if array.dtype.name not in _TYPES:
            raise AffectError(f"features are kept as float16 or float32, not {array.dtype}")
        if not np.isfinite(array).all():
            raise AffectError(
                f"the features of recording {digest[:12]} hold NaN or infinite values (float16 ends at 65504: "
                "keep them as float32)"
            )
        plain = np.require(array, _TYPES[array.dtype.name], "C")
        facts = {"dtype": array.dtype.name, "shape": plain.shape, "check": self._checksum(digest, plain)}
        header = json.dumps(facts).encode()
        # Up to a multiple of 64, so that the numbers lie aligned.
        header += b" " * (63 - len(header) % 64) + b"\n"
        replace_file(path, header + plain.tobytes())

    def read(self, digest: str) -> Features:
        """Return a copy of the entry of `digest`; raises AffectError where there is none or it is cut off."""
        path = self.path(digest)
        try:
            with path.open("rb") as file:
                small = os.fstat(file.fileno()).st_size < _MAPPED
                data = file.read() if small else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return _parse(data)[0].copy()
        except (OSError, *_DAMAGE) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise AffectError(
                f"the cached features {path} cannot be read ({reason}); start again to rebuild"
            ) from error

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Return those of `digests`, each once, that are absent or not as their checksum says, which is logged once."""
        wanted = [digest for digest in dict.fromkeys(digests) if not self._is_sound(digest)]
        damaged = sum(self.path(digest).exists() for digest in wanted)
        if damaged:
            _LOG.warning("%d cached features in %s are damaged and will be made again", damaged, self.folder)
        return wanted

    def size(self, digests: Iterable[str]) -> int:
        """Return the bytes that the entries of `digests` take on disk; absent ones take none."""
        total = 0
        for digest in set(digests):
            with contextlib.suppress(FileNotFoundError):
                total += self.path(digest).stat().st_size
        return total

    def _is_sound(self, digest: str) -> bool:
        path = self.path(digest)
        try:
            # Read, not mapped: a disk that fails under a map kills the process.
            array, check = _parse(path.read_bytes())
        except (OSError, *_DAMAGE):
            return False
        return check == self._checksum(digest, array)

    def _checksum(self, digest: str, array: Features) -> int:
        """Return a checksum that is another under another key, name, type or shape."""
        salt = zlib.crc32(repr((self.key, digest, array.dtype.str, array.shape)).encode())
        return zlib.crc32(array.reshape(-1).view(np.uint8).data, salt)


def _parse(data: bytes | mmap.mmap) -> tuple[Features, object]:
    """Return the array and the checksum of an entry; raises one of `_DAMAGE` where it is no whole one."""
    end = data.find(b"\n") + 1
    facts = json.loads(data[:end])
    return np.frombuffer(data, _TYPES[facts["dtype"]], offset=end).reshape(facts["shape"]), facts["check"]
