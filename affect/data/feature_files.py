"""The files of a feature: which of them each utterance has, why it has none, and which nobody names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from affect.data.corpus import Exclusion
from affect.data.files import absence, files_below
from affect.errors import AffectError, reading

ENDING = ".npy"
UNNAMED = "feature file that no row names"
_FILE = "feature file"
_MISSING = f"missing {_FILE}"
_VERSION = b"1"
"""To be raised when the same files give another table."""


@dataclass(frozen=True, kw_only=True)
class FeatureFiles:
    """The files of each utterance (None: it has neither file nor folder), and a hash of what they look like.

    `reasons` say of utterances whose file is there and can't be opened why; `left_out` are files of no utterance.
    """

    files: list[list[str] | None]
    stamp: str
    reasons: dict[str, str]
    left_out: list[Exclusion]


def below(folder: Path, names: Sequence[str]) -> FeatureFiles:
    """Return a feature's files in its folder: `<name>.npy`, or those of a folder `<name>`, which are its frames.

    Raises AffectError for a folder that can't be read, and for an utterance that has both.
    """
    with reading(folder), os.scandir(folder) as inside:
        # A link may lead in a loop, which is_dir raises.
        folders = {entry.name for entry in inside if (os.path.isdir(entry) if entry.is_symlink() else entry.is_dir())}
    paths, faulty = files_below(folder, lambda name: name.endswith(ENDING))
    own = {*names}
    single: dict[str, str] = {}
    frames: dict[str, list[str]] = {}
    unnamed: dict[str, None] = {}
    start = len(os.path.join(folder, ""))
    for path in map(str, paths):
        name, *deeper = path[start:].split(os.sep)
        if not deeper and name.removesuffix(ENDING) in own:
            single[name.removesuffix(ENDING)] = path
        elif len(deeper) == 1 and name in own:
            frames.setdefault(name, []).append(path)
        else:
            # Of a folder that nobody names once, of files too deep in a named one each.
            unnamed[os.sep.join((name, *deeper)) if name in own else name] = None
    reasons = {name: each.reason for each in faulty if (name := each.what.removesuffix(ENDING)) in own}
    left_out = [Exclusion(what=f"{folder.name}/{each}", reason=UNNAMED) for each in unnamed]
    others = [each for each in faulty if each.what.removesuffix(ENDING) not in own]
    left_out += [Exclusion(what=f"{folder.name}/{each.what}", reason=each.reason) for each in others]
    files: list[list[str] | None] = []
    for name in names:
        if name in single and name in folders:
            raise AffectError(f"{folder} has both {name}{ENDING} and a folder {name}: remove one of them")
        empty: list[str] | None = [] if name in folders and name not in reasons else None
        files.append([single[name]] if name in single else frames.get(name, empty))
    return FeatureFiles(files=files, stamp=_stamp(names, files), reasons=reasons, left_out=left_out)


def listed(names: Sequence[str], paths: Sequence[str]) -> FeatureFiles:
    """Return the file of each utterance that a table lists ("": none)."""
    reasons = {name: absence(path, _FILE) for name, path in zip(names, paths, strict=True) if path}
    files = [[path] if path and not reasons[name] else None for name, path in zip(names, paths, strict=True)]
    faults = {name: reason for name, reason in reasons.items() if reason and not reason.startswith(_MISSING)}
    return FeatureFiles(files=files, stamp=_stamp(names, files), reasons=faults, left_out=[])


def _stamp(names: Sequence[str], files: Sequence[list[str] | None]) -> str:
    digest = hashlib.sha256(_VERSION)
    for name, own in zip(names, files, strict=True):
        looks = []
        for path in own or ():
            with reading(path):
                about = os.stat(path)
            looks.append((path, about.st_size, about.st_mtime_ns))
        digest.update(repr((name, own is None, looks)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
