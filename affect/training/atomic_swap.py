"""One folder takes the place of another, in such a way that a kill at any moment leaves the old or the new."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

_EXCHANGE, _HERE = 2, -100
"""RENAME_EXCHANGE and AT_FDCWD of Linux."""
_LACKING = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""What a system or a file system (NFS) that can't exchange two names says."""


def swap(new: Path, path: Path) -> None:
    """Let the folder `new` stand at `path`, and the one that stood there at `new`. Raises OSError.

    In one operation where the file system has it; elsewhere a kill in between leaves `path` empty until `recover`.
    """
    try:
        exchange(new, path)
        return
    except OSError as error:
        if error.errno not in _LACKING:
            raise
    aside = _aside(path)
    if aside.exists():  # `path` is there: what a kill left of an earlier swap
        shutil.rmtree(aside)
    path.rename(aside)
    try:
        new.rename(path)
    except OSError:
        aside.rename(path)
        raise
    aside.rename(new)


def recover(path: Path) -> None:
    """Put back the folder that an interrupted `swap` had moved out of the way."""
    if not path.exists():
        with contextlib.suppress(FileNotFoundError):  # most often nothing was
            _aside(path).rename(path)


def exchange(one: Path, other: Path) -> None:
    """Exchange two names in one operation. Raises OSError, ENOSYS where this system can't."""
    rename = None
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(other))


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
