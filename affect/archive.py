"""Reading a zip archive whose bytes may be anything: whatever is wrong with it is one kind of error."""

from __future__ import annotations

import errno
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from affect.errors import first_line

_KINDS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)
"""What comes of an archive that is cut short, damaged, encrypted or packed in a way that is not known here."""


class DamagedArchiveError(ValueError):
    """What is wrong with an archive, in one line."""


def names(path: Path) -> list[str]:
    """Return the names of an archive's members. Raises OSError without the file, DamagedArchiveError for another."""
    with opened(path) as archive:
        return archive.namelist()


def content(path: Path, name: str) -> bytes:
    """Return a member's bytes. Raises as `names` does, and KeyError where there is no such member."""
    with opened(path) as archive:
        return archive.read(name)


@contextmanager
def opened(file: Path | BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Open an archive to be read; raises as `names` does, of what the block reads too."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except _KINDS as error:
        raise DamagedArchiveError(first_line(error)) from error
    except OSError as error:
        # A place that lies before the file's beginning, by what a damaged directory says.
        if error.errno != errno.EINVAL:
            raise
        raise DamagedArchiveError("its directory leads nowhere") from error
