"""Files as they lie on a disk: what may be opened, what lies below a folder, and which links lead out of it.

A FIFO or a device is never opened, since it may block for ever or never end. Links are followed.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from affect.data.corpus import Exclusion, summary
from affect.data.endings import FILM, SOUND

_LOG = logging.getLogger("affect")

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def open_file(path: str | Path) -> io.BufferedReader:
    """Open a file to be read as bytes; raises OSError where it can't be, is a FIFO or a device."""
    try:
        kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
        if kind is not None:
            raise OSError(errno.EINVAL, f"it is {kind} and no file", str(path))
        return open(path, "rb")
    except ValueError as error:
        # A null byte, or a surrogate that no file system takes.
        raise OSError(errno.EINVAL, "no file has such a name", str(path)) from error


def read_bytes(path: str | Path) -> bytes:
    """Return what a file holds; raises OSError as `open_file` does."""
    with open_file(path) as file:
        return file.read()


def absence(path: str | Path, what: str = "file") -> str:
    """Return why no file of a kind (`what`) can be opened at a path, "" where one can: a reason of an exclusion."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return f"dangling link: to {os.readlink(path)}" if os.path.islink(path) else f"missing {what}"
    except OSError as error:
        loop = error.errno == errno.ELOOP
        return "loop of links" if loop else f"missing {what}: {error.strerror}"
    except ValueError:
        return f"missing {what}: no file has such a name"
    if stat.S_ISREG(mode):
        return ""
    return f"no {what}: {'a folder' if stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), 'no file')}"


def unreadable_name(name: str) -> bool:
    """Tell whether a name can't be written as text: bytes of a file's name that are no UTF-8."""
    return not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)


def files_below(folder: Path, wanted: Callable[[str], bool]) -> tuple[list[Path], list[Exclusion]]:
    """Return the files of a folder and of those below it whose names are `wanted`, in order, and what is left out.

    Links are followed. Left out, with the reason, are links that lead nowhere or back to a folder above, wanted names
    that are no files or no UTF-8, and folders that can't be read. Names that begin with a dot are other programs'.
    """
    paths: list[Path] = []
    left_out: list[Exclusion] = []

    def leave_out(path: Path, reason: str) -> None:
        left_out.append(Exclusion(what=path.relative_to(folder).as_posix(), reason=reason))

    def visit(place: Path, above: frozenset[tuple[int, int]]) -> None:
        try:
            about = os.stat(place)
            with os.scandir(place) as inside:
                entries = sorted((each for each in inside if each.name[0] != "."), key=lambda each: each.name)
        except OSError as error:
            return leave_out(place, f"folder that cannot be read: {error.strerror}")
        own = (about.st_dev, about.st_ino)
        if own in above:
            return leave_out(place, f"loop of links: it leads to {os.path.realpath(place)}")
        for entry in entries:
            path = place / entry.name
            # What is no link is known without another look at the disk.
            plain = entry.is_file(follow_symlinks=False)
            reason = "" if plain else absence(path)
            if reason == "no file: a folder":
                visit(path, above | {own})
            elif not wanted(entry.name) and reason != "loop of links":
                continue
            elif reason or unreadable_name(str(path)):
                leave_out(path, reason or "name that is no UTF-8")
            else:
                paths.append(path)

    visit(folder, frozenset())
    return paths, left_out


def readable(folder: Path, endings: frozenset[str] = SOUND | FILM) -> list[Path]:
    """Return the files (of sound and film) of a folder and below it, in order; what can't be read is logged."""
    paths, left_out = files_below(folder, lambda name: os.path.splitext(name)[1].lower() in endings)
    if left_out:
        _LOG.warning("%s: %s", folder, summary(left_out))
    return paths


def unnamed(
    folder: Path, named: Iterable[str | Path], reason: str, endings: frozenset[str] = SOUND | FILM
) -> list[Exclusion]:
    """Return an exclusion, for this reason, of each file below a folder (of sound) that is none of those `named`."""
    paths, left_out = files_below(folder, lambda name: os.path.splitext(name)[1].lower() in endings)
    own = {os.path.abspath(path) for path in named}
    others = [path for path in paths if os.path.abspath(path) not in own]
    faulty = [each for each in left_out if os.path.abspath(folder / each.what) not in own]
    return [*faulty, *(Exclusion(what=path.relative_to(folder).as_posix(), reason=reason) for path in others)]


def leaving(root: str | Path, paths: Iterable[str]) -> list[str]:
    """Return a line that says how many of the files named below `root` lie elsewhere, nothing where none does."""
    above, real = os.path.abspath(root), os.path.realpath(root)
    named = (path for path in paths if path and _is_below(os.path.abspath(path), above))
    away = [path for path in named if not _is_below(os.path.realpath(path), real)]
    words = (
        f"links: {len(away)} lead out of the folder, {away[0]} to {os.path.realpath(away[0])} for one" if away else ""
    )
    return [words] * bool(words)


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder
