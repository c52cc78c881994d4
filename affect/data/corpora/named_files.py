"""The recordings that a user's table names: as they are, with backslashes, in another case, or without their ending."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from affect.data.corpora.labels import UnusableError
from affect.data.endings import FILM, SOUND
from affect.data.files import absence


class NamedFiles:
    """Finds the files that names stand for, below a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder from which names that are not absolute go."""
        self.folder = folder
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, name: str) -> Path:
        """Return the file of a name; raises UnusableError where there is none, or several may be meant."""
        path = self.place(name)
        if reason := absence(path, "audio file"):
            alike = self._alike(path)
            raise UnusableError(f"name of several files: {alike[0]}, {alike[1]}" if len(alike) > 1 else reason)
        return path

    def place(self, name: str) -> Path:
        """Return the file of a name, or where it would be."""
        places = [self.folder / text for text in dict.fromkeys((name, name.replace("\\", "/")))]
        for path in places:
            if os.path.lexists(path) and not os.path.isdir(path):
                return path
        for path in places:
            if len(alike := self._alike(path)) == 1:
                return path.parent / alike[0]
        return next((path for path in places if os.path.isdir(path)), places[0])

    def _alike(self, path: Path) -> list[str]:
        """Return the names beside a path that are its own in another case, or without an ending."""
        if path.parent not in self._listed:
            self._listed[path.parent] = _beside(path.parent)
        alike = self._listed[path.parent].get(path.name.casefold(), [])
        sounds = [name for name in alike if os.path.splitext(name)[1].lower() in SOUND]
        # Beside its video a recording is the recording.
        return sounds if len(sounds) == 1 else alike


def _beside(folder: Path) -> dict[str, list[str]]:
    """Return the names in a folder by themselves without case, those of recordings without their ending, too."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    try:
        listed = sorted(name for name in os.listdir(folder) if name[0] != ".")
    except (OSError, ValueError):
        return {}
    for name in listed:
        stem, ending = os.path.splitext(name.casefold())
        for key in {name.casefold(), stem} if ending in SOUND | FILM else {name.casefold()}:
            names[key].append(name)
    return names
