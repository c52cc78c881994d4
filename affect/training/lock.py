"""A run's folder belongs to one session at a time: a lock that its process holds, and that ends with it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from affect.errors import AffectError

_LOG = logging.getLogger("affect")
NAME = ".lock"
"""The lock's file in the run's folder, while a session holds it; it says who does."""
_PATIENCE = 2.0
"""Seconds that a session which was killed has to be gone: what it had forked dies with it, but not at once."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
_held: set[str] = set()
"""Folders that this process holds: a second handle would wait for the first."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which is made where it is not there, while the block is open.

    Raises AffectError naming the process that holds it. Where the file system has no locks, that is said and the block
    runs without. A process that holds it already may hold it again.
    """
    name = os.path.realpath(folder)
    if name in _held:
        yield
        return
    handle = _wait(folder)
    if handle is None:
        yield
        return
    _held.add(name)
    try:
        yield
    finally:
        _held.discard(name)
        # Removed before it is let go of: who opened it meanwhile sees that it has no name any more, and opens another.
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()
        os.close(handle)


def _wait(folder: Path) -> int | None:
    """Return the handle of the lock, once nobody else has it; None where there can be none."""
    path, end = folder / NAME, time.monotonic() + _PATIENCE
    while True:
        handle, kept = None, False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            kept = _take(handle, path)
        except OSError as error:
            if handle is not None and error.errno not in _NO_LOCKS:
                raise
            # A disk that takes no file is no place to train on either: who writes next says so.
            if path.exists():
                why = error.strerror or error
                _LOG.warning("%s can't be locked (%s): see to it that no other session trains it", folder, why)
            return None
        finally:
            if handle is not None and not kept:
                os.close(handle)
        if kept:
            return handle
        if time.monotonic() > end:
            raise AffectError(f"{folder} is being trained by {_holder(path)}: wait for it, or end it")
        time.sleep(0.05)


def _take(handle: int, path: Path) -> bool:
    """Take the lock and write who has it; False where another has, or the file is one that was let go of."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), path.stat()):
            return False
    except (BlockingIOError, FileNotFoundError):
        return False
    who = {"pid": os.getpid(), "host": socket.gethostname(), "job": os.environ.get("SLURM_JOB_ID")}
    # A full disk leaves it nameless, and held all the same.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(who).encode())
    return True


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        job = f" (Slurm job {who['job']})" if who["job"] else ""
        return f"pid {who['pid']} on host {who['host']}{job}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another session"
