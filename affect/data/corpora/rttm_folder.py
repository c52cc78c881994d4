"""A folder of recordings with RTTM files that say who speaks when; UEM files and lists of names, where there are any.

They may lie anywhere below it. A recording is called as its audio file is, without the ending. Which part it is of,
a word says in the name of a list, of an RTTM or UEM file, or of a folder: `debug.train.lst`, `test/a.rttm`.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from affect.data.corpora.kinds import RECORDINGS
from affect.data.corpora.layout import Layout
from affect.data.corpus import Exclusion
from affect.data.files import files_below
from affect.data.parts import part_of_names
from affect.data.table_file import read_text

if TYPE_CHECKING:
    from affect.data.recordings import Annotated, RecordingCorpus
    from affect.data.rttm import Span, Turn

_LOG = logging.getLogger("affect")


def read(root: str | Path, *, audio: str | None = None) -> RecordingCorpus:
    """Return the recordings that have audio and turns; `audio` is their folder, below `root` unless given.

    A name in a list, RTTM or UEM file that no recording has is that of the one from which it differs in accents alone,
    if no other line names that. A recording that a UEM names and no RTTM is silent, and so is one whose own RTTM is
    empty. Raises AffectError for a malformed line, and where no recording can be used.
    """
    from affect.data.recordings import corpus_of

    folder = CORPUS.find(root)
    place = folder / audio if audio else folder
    sounds, unread = _sounds(place)
    labels = _Labels(folder, place, sounds)
    annotated, left_out = labels.annotated()
    # Links that lead in a loop are met by every walk.
    return corpus_of(CORPUS.name, folder, annotated, list(dict.fromkeys([*unread, *labels.unread, *left_out])))


class _Labels:
    """What the files of a folder say of its recordings."""

    def __init__(self, folder: Path, place: Path, sounds: Mapping[str, list[Path]]):
        from affect.data.rttm import read_rttm, read_uem

        self.folder, self.place, self.sounds = folder, place, sounds
        self.turns: defaultdict[str, list[Turn]] = defaultdict(list)
        self.uem: defaultdict[str, list[Span]] = defaultdict(list)
        self.unread: list[Exclusion] = []
        self.empty = Counter[str]()
        self.listed: set[str] = set()
        self.parts: defaultdict[str, set[str]] = defaultdict(set)
        for file in self._files(".rttm"):
            rttm = read_rttm(file)
            if not rttm and file.stem in sounds:
                rttm[file.stem] = []
            for name, own in self._named(rttm, file).items():
                self.turns[own] += rttm[name]
                self.empty[own] += rttm.empty[name]
            if repeated := rttm.repeated.total():
                _LOG.warning("%s: %d lines are repeated", file, repeated)
        for file in self._files(".uem"):
            spans = read_uem(file)
            for name, own in self._named(spans, file).items():
                self.uem[own] += spans[name]
        for file in self._files(".lst"):
            lines = read_text(file).split("\n")
            names = {_without_ending(Path(line.strip()).name) for line in lines if line.strip()}
            self.listed.update(self._named(names, file).values())

    def _files(self, ending: str) -> list[Path]:
        paths, unread = files_below(self.folder, lambda name: name.endswith(ending))
        self.unread += unread
        return paths

    def _named(self, names: Collection[str], file: Path) -> dict[str, str]:
        """Return which recording is meant by each of the names in a file, and take down the file's part for it."""
        plain = defaultdict(list)
        for sound in self.sounds:
            plain[_plain(sound)].append(sound)
        meant: dict[str, str] = {}
        for name in names:
            near = [sound for sound in plain[_plain(name)] if sound not in names]
            meant[name] = near[0] if name not in self.sounds and len(near) == 1 else name
            if meant[name] != name:
                _LOG.warning("%s: %s is taken to be the recording %s", file, name, meant[name])
            self.parts[meant[name]].add(part_of_names(*file.relative_to(self.folder).parts))
        return meant

    def annotated(self) -> tuple[list[Annotated], list[Exclusion]]:
        """Return the recordings that can be used, as far as names tell, and the others."""
        from affect.data.recordings import Annotated

        made: list[Annotated] = []
        left_out: list[Exclusion] = []
        for name in sorted({*self.sounds, *self.turns, *self.uem, *self.listed}):
            paths = self.sounds.get(name, [])
            parts = self.parts[name] - {""}
            if reason := self._fault(name, paths, parts):
                left_out.append(Exclusion(what=name, reason=reason))
                continue
            part = next(iter(parts), "") or part_of_names(*paths[0].relative_to(self.place).parts[:-1])
            made.append(
                Annotated(id=name, path=paths[0], turns=self.turns[name], uem=self.uem.get(name), part=part,
                          empty=self.empty[name])
            )  # fmt: skip
        return made, left_out

    def _fault(self, name: str, paths: list[Path], parts: Collection[str]) -> str:
        """Return why a recording can't be used, "" where it can."""
        if not paths:
            return "no audio: lists, RTTM or UEM files name it"
        if len(paths) > 1:
            return f"several audio files: {', '.join(sorted(str(path) for path in paths))}"
        if len(parts) > 1:
            return f"in several parts: {', '.join(sorted(parts))}"
        if name not in self.turns and name not in self.uem:
            return "no turns: " + ("a list names it, and no RTTM or UEM" if name in self.listed else "no file names it")
        return ""


def _plain(name: str) -> str:
    """Return a name without accents; composed and decomposed ones are the same."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))


def _sounds(folder: Path) -> tuple[dict[str, list[Path]], list[Exclusion]]:
    """Return the audio files of a folder by the names of their recordings, and those that can't be read."""
    from affect.data.noise import audio_files

    sounds: defaultdict[str, list[Path]] = defaultdict(list)
    paths, left_out = audio_files(folder)
    for path in paths:
        sounds[path.stem].append(path)
    return dict(sounds), left_out


def _without_ending(name: str) -> str:
    from affect.data.endings import SOUND

    return Path(name).stem if Path(name).suffix.lower() in SOUND else name


CORPUS = Layout(
    name="rttm_folder",
    read=read,
    kind=RECORDINGS,
    columns=("part", "turns", "uem"),
    options=("audio",),
    holds=lambda folder: bool(files_below(folder, lambda name: name.endswith(".rttm"))[0]),
    sign="RTTM file",
    about="These are recordings of several speakers, a collection of your own.",
)
