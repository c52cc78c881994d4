"""The recordings that a user's table names: as they are, with backslashes, in another case, or without their ending."""

from __future__ import annotations

import os
from collections import defaultdict
from functools import cache
from pathlib import Path

from affect.data.corpora.labels import UnusableError
from affect.data.endings import FILM, SOUND


class Files:
    """Finds the files that names stand for, below a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder from which names that are not absolute go."""
        self.folder = folder
        self._beside = cache(_beside)

    def find(self, name: str) -> Path | None:
        """Return the file of a name, None where there is none; raises UnusableError where it may be several."""
        texts = dict.fromkeys((name, name.replace("\\", "/")))
        for path in (self.folder / text for text in texts):
            if os.path.isfile(path):
                return path
        for path in (self.folder / text for text in texts):
            alike = sorted(self._beside(path.parent).get(path.name.casefold(), ()))
            sounds = [name for name in alike if os.path.splitext(name)[1].lower() in SOUND]
            # Beside its video a recording is the recording.
            alike = sounds if len(sounds) == 1 else alike
            if len(alike) > 1:
                raise UnusableError(f"name of several files: {alike[0]}, {alike[1]}")
            if alike:
                return path.parent / alike[0]
        return None


def _beside(folder: Path) -> dict[str, set[str]]:
    """Return the files in a folder by their names without case, those of recordings by these without ending, too."""
    files: defaultdict[str, set[str]] = defaultdict(set)
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("._")]
    except OSError:
        return files
    for name in names:
        stem, ending = os.path.splitext(name.casefold())
        files[name.casefold()].add(name)
        if ending in SOUND | FILM:
            files[stem].add(name)
    return files
