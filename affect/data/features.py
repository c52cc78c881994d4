"""What a frozen encoder computes of recordings, kept on disk: a safetensors file a recording."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from affect.data.cache import replace_file
from affect.errors import AffectError, first_line

_LOG = logging.getLogger("affect")

Features = NDArray[np.floating[Any]]


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
        return self.folder / digest[:2] / f"{digest[2:]}.safetensors"

    def write(self, digest: str, array: Features) -> None:
        """Keep an array of float16 or float32; raises AffectError for NaN or infinity, or where the disk refuses."""
        path = self.path(digest)
        if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4):
            raise AffectError(f"features are kept as float16 or float32, not {array.dtype}")
        if not np.isfinite(array).all():
            raise AffectError(
                f"the features of recording {digest[:12]} hold NaN or infinite values (float16 ends at 65504: "
                "keep them as float32)"
            )
        plain = np.require(array, array.dtype.newbyteorder("="), "C")
        replace_file(path, safetensors.numpy.save({"features": plain, "check": self._checksum(digest, plain)}))

    def read(self, digest: str) -> Features:
        """Return the entry of `digest`; raises AffectError where there is none or it is cut off."""
        path = self.path(digest)
        try:
            return safetensors.numpy.load(path.read_bytes())["features"]
        except (OSError, SafetensorError, KeyError) as error:
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
            entry = safetensors.numpy.load(path.read_bytes())
            return bool(entry["check"] == self._checksum(digest, entry["features"]))
        except (OSError, SafetensorError, KeyError):
            return False

    def _checksum(self, digest: str, array: Features) -> NDArray[np.uint32]:
        """Return a checksum that is another under another key, name, type or shape."""
        salt = zlib.crc32(repr((self.key, digest, array.dtype.str, array.shape)).encode())
        return np.array(zlib.crc32(array.reshape(-1).view(np.uint8).data, salt), np.uint32)
