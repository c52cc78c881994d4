"""Checksums of a folder's files, in a file that `sha256sum -c SHA256SUMS` reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

FILE = "SHA256SUMS"
"""Holds a line a file, sorted by name, and in a comment how many: a list that was cut short shows."""
_LINE = re.compile(r"([0-9a-f]{64})  ([^\r\n]+)")


class DamagedError(ValueError):
    """What is wrong with a folder: a file is missing, or not what was written."""


def write(folder: Path) -> None:
    """Write the checksums of all files below `folder` into it; hidden files at its top are left out."""
    (folder / FILE).write_text(listed(folder), encoding="utf-8", newline="\n")


def listed(folder: Path) -> str:
    """Return what SHA256SUMS says of the files below `folder` as they are now."""
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in paths if name != FILE and not name.startswith(".")]
    return "".join(f"{_digest(folder / name)}  {name}\n" for name in names) + _end(len(names))


def faults(folder: Path, names: Collection[str] | None = None) -> dict[str, str]:
    """Return what is wrong with a folder, by file; nothing where it is as it was written.

    With `names` no other files are read. Files that were added since don't matter. Where SHA256SUMS itself is damaged,
    it is the only one named.
    """
    try:
        # Not as text, which takes a damaged line feed (a carriage return) for a whole one.
        lines = (folder / FILE).read_bytes().decode("utf-8").split("\n")
    except (OSError, ValueError) as error:
        return {FILE: _unreadable(FILE, error)}
    listed_files = [_LINE.fullmatch(line) for line in lines[:-2]]
    if "\n".join(lines[-2:]) != _end(len(listed_files)) or not all(listed_files):
        return {FILE: f"{FILE} is cut short or not what was written"}
    wrong: dict[str, str] = {}
    for digest, name in (match.groups() for match in listed_files if match):
        if names is not None and name not in names:
            continue
        try:
            if _digest(folder / name) != digest:
                wrong[name] = f"{name} is not what was written: its SHA-256 differs"
        except (OSError, ValueError) as error:
            wrong[name] = _unreadable(name, error)
    return wrong


def check(folder: Path, names: Collection[str] | None = None) -> None:
    """Raise DamagedError unless all files of a folder, or those of `names`, are as SHA256SUMS says."""
    for fault in faults(folder, names).values():
        raise DamagedError(fault)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _end(files: int) -> str:
    # sha256sum passes over comments.
    return f"# {files} files\n"


def _unreadable(name: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{name} is missing"
    return f"{name} can't be read ({(error.strerror if isinstance(error, OSError) else None) or error})"
