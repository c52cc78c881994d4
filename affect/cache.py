"""The cache folder, and files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from affect.errors import AffectError, reading

_LOG = logging.getLogger("affect")


def cache_folder() -> Path:
    """Return the folder of recomputable files: the environment's `AFFECT_CACHE`, else `~/.cache/affect`."""
    return Path(os.environ.get("AFFECT_CACHE") or "~/.cache/affect").expanduser()


def stamp(path: Path) -> tuple[str, int, int]:
    """Return what changes with a file: where it is, its size and when it was written; AffectError where it can't be."""
    with reading(path):
        about = path.stat()
    return os.path.realpath(path), about.st_size, about.st_mtime_ns


def lock(folder: Path, what: str) -> FileLock:
    """Return a folder's lock; logs that `what` is waited for, if it is. Raises AffectError where the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".lock")
        try:
            held.acquire(timeout=1)
            held.release()
        except Timeout:
            _LOG.info("%s: waiting for another process that computes it", what)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AffectError(f"cannot write the cache in {folder} ({reason}); set AFFECT_CACHE") from error
    return held


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically; raises AffectError where the disk refuses."""
    # Bytes of a file name that are no UTF-8 come through.
    replace_file(path, json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote, or None where there is nothing (a damaged file is logged and ignored)."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _LOG.warning("cached file %s is unreadable and will be made again (%s)", path, error)
        return None


def kept_json(room: str, of: object, make: Callable[[], Any]) -> Any:
    """Return what `make` makes of something, told by its repr, as JSON: from the cache's `room` where it is there."""
    digest = hashlib.sha256(repr(of).encode()).hexdigest()
    path = cache_folder() / room / digest[:2] / f"{digest[2:24]}.json"
    value = read_json(path)
    if value is None:
        write_json(path, value := make())
    return value


def replace_file(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path` and rename it: readers, also other processes, never see half of one.

    `content` may be what writes it; where that fails, nothing stays. Raises AffectError where the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content) if isinstance(content, bytes) else content(file)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AffectError(f"cannot write the cached file {path} ({reason}); set AFFECT_CACHE") from error
