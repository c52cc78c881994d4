"""Voices: of each speaker of a corpus one track of speech without its pauses, from which conversations are simulated.

A corpus is any folder of recordings of one speaker each, or one that affect reads. Its tracks, trimmed and equally
loud, are put into a store in the cache, from which every later run and process maps them into memory.

Legend: S samples at 16 kHz, O onsets.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray

from affect.cache import cache_folder, lock, read_json, stamp, write_json
from affect.data import audio, corpora, store
from affect.data.activity import RATE
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.verification import in_threads
from affect.data.corpus import Exclusion, held, summary
from affect.data.files import absence, unnamed
from affect.data.noise import audio_files
from affect.data.speech_spans import speech_spans
from affect.data.table_file import SEPARATORS, read_csv
from affect.errors import AffectError

_LOG = logging.getLogger("affect")

LEVEL = 0.05
"""Root mean square of every track's speech (-26 dB of full scale)."""
LEAST = 1.0
"""Seconds of speech that a voice needs."""
_SCALE = 32768
_AT_ONCE = 64
"""Recordings that are decoded together: what making tracks keeps in memory beside a speaker's."""
_VERSION = 2
"""To be raised when the same recordings give other tracks."""
_FEATURES = {"speech": store.Feature("int16", 1), "onsets": store.Feature("int32", 1)}

Source = tuple[str, Path]
"""A speaker, and a recording of theirs."""
Trimmed = tuple[NDArray[np.int16], NDArray[np.int64]]
"""The speech of a recording [S], and its onsets [O]."""


@dataclass(frozen=True, eq=False)
class Voices:
    """Speakers by name, in order, and their tracks in `tracks`, in which `rows` says where each one is."""

    speakers: tuple[str, ...]
    rows: tuple[int, ...]
    tracks: store.Store
    exclusions: tuple[Exclusion, ...]
    contents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By speaker, hashes of the speech of each recording."""

    def __len__(self) -> int:
        return len(self.speakers)

    @property
    def fingerprint(self) -> str:
        """Another one where a speaker or a sample is."""
        return hashlib.sha256(repr((self.tracks.digest, self.speakers)).encode()).hexdigest()[:16]

    def speech(self, index: int) -> NDArray[np.int16]:
        """Return a speaker's track [S], read-only, on which full scale is 32,768."""
        track = self.tracks.read("speech", self.rows[index])
        assert track is not None
        return track

    def onsets(self, index: int) -> NDArray[np.int32]:
        """Return the samples of a track [O] at which a sound begins after a pause."""
        onsets = self.tracks.read("onsets", self.rows[index])
        assert onsets is not None
        return onsets

    def select(self, speakers: Iterable[str]) -> Voices:
        """Return some of the voices; raises AffectError for a speaker that isn't there."""
        places = dict(zip(self.speakers, self.rows, strict=True))
        names = sorted(set(speakers))
        if missing := [name for name in names if name not in places]:
            raise AffectError(f"no voice of the speaker {missing[0]!r}: there are {len(self)}")
        return replace(self, speakers=tuple(names), rows=tuple(places[name] for name in names))

    def hold_out(self, count: int, seed: int) -> tuple[Voices, Voices]:
        """Return the voices but `count` random ones, and those; raises AffectError where one of the two is empty."""
        if not 0 < count < len(self):
            raise AffectError(f"{count} of {len(self)} voices can't be held out: give from 1 to {len(self) - 1}")
        order = np.random.default_rng(seed).permutation(len(self)).tolist()
        names = [self.speakers[place] for place in order]
        return self.select(names[count:]), self.select(names[:count])


def at_speeds(own: Voices, speeds: Sequence[float]) -> Voices:
    """Return the voices and, at each of these speeds, as many further ones, whose pitch changes with their tempo.

    Each counts as a speaker of its own (Yamamoto et al. 2019).
    """
    if not speeds:
        return own
    key = hashlib.sha256(repr((_VERSION, own.fingerprint, [*speeds])).encode()).hexdigest()
    folder = cache_folder() / "voices"
    file = folder / f"{key[:24]}.arrow"
    with lock(folder, "voices"):
        if not file.is_file():
            _LOG.info("voices: %d voices at other speeds are put into the cache", len(own) * len(speeds))
            store.write(file, _FEATURES, _at_speeds(own, speeds))
    tracks = store.Store(file)
    return replace(own, speakers=tuple(tracks.ids), rows=tuple(range(len(tracks))), tracks=tracks)


def _at_speeds(own: Voices, speeds: Sequence[float]) -> Iterator[tuple[str, store.Arrays]]:
    for place, speaker in enumerate(own.speakers):
        speech, onsets = own.speech(place), own.onsets(place)
        yield speaker, {"speech": speech, "onsets": onsets}
        for speed in speeds:
            # What is said to have `speed` times the rate sounds so much faster at ours.
            other = soxr.resample(speech, RATE * speed, RATE, quality="HQ")
            starts = np.rint(onsets / speed).astype(np.int32)
            yield f"{speaker} x{speed:g}", {"speech": other, "onsets": starts[starts < len(other)]}


def read(
    root: str | Path, *, speaker: Literal["auto", "folder", "name"] = "auto", separator: str = "-",
    table: str | None = None, columns: tuple[str, str] = ("path", "speaker"), corpus: str | None = None,
    seconds: float | None = None,
) -> Voices:  # fmt: skip
    """Return the voices of a corpus, at most `seconds` of speech of each.

    Who speaks is told by the first folder below `root` ("folder"), by what is before the first `separator` of the
    file's name ("name", as LibriSpeech has it), or, "auto", by the folder where there is one. With a `table`, a CSV
    below `root`, by two `columns` of it, the recording's path (from the table's folder) and the speaker; with
    `corpus`, the name of a layout that affect reads, by its rows. Recordings that can't be used, and speakers with
    less than 1 s of speech, are exclusions. Raises AffectError where no voice is left.
    """
    root = Path(root)
    if corpus is not None:
        sources, left_out = _of_corpus(root, corpus)
    elif table is not None:
        sources, left_out = _of_table(root / table, *columns)
    else:
        sources, left_out = _of_names(root, speaker, separator)
    return _voices(root, sorted(sources), left_out, seconds)


def _of_names(root: Path, told: str, separator: str) -> tuple[list[Source], list[Exclusion]]:
    if not root.is_dir():
        raise AffectError(f"{root}: no such folder of voices")
    sources = list[Source]()
    paths, left_out = audio_files(root)
    for path in paths:
        folder, *inside = path.relative_to(root).parts
        before, parted, _ = path.stem.partition(separator)
        speaker = folder if inside and told != "name" else before if parted and told != "folder" else ""
        if speaker:
            sources.append((speaker, path))
        else:
            reason = "in no folder of a speaker" if told == "folder" else f"no speaker: its name has no {separator!r}"
            left_out.append(Exclusion(what=str(path.relative_to(root)), reason=reason))
    return sources, left_out


def _of_table(table: Path, path: str, speaker: str) -> tuple[list[Source], list[Exclusion]]:
    _, records = read_csv(table, (path, speaker), separators=SEPARATORS)
    sources, left_out, files = list[Source](), list[Exclusion](), NamedFiles(table.parent)
    for line, cells in records:
        file = files.place(cells[path])
        if not cells[speaker]:
            left_out.append(Exclusion(what=cells[path] or f"{table.name}:{line}", reason="no speaker"))
        elif reason := absence(file, "audio file") if cells[path] else "missing audio file":
            left_out.append(Exclusion(what=cells[path] or f"{table.name}:{line}", reason=reason))
        else:
            sources.append((cells[speaker], file))
    named = [table.parent / cells[path] for _, cells in records if cells[path]]
    return sources, [*left_out, *unnamed(table.parent, named, f"recording that no line of {table.name} names")]


def _of_corpus(root: Path, name: str) -> tuple[list[Source], list[Exclusion]]:
    made = corpora.read(corpora.UTTERANCES, name, root)
    # Of a recording that several share, each would have the voices of all.
    rows = made.utterances.select_columns(["speaker", "path", "id", "offset"]).to_list()
    cut = [Exclusion(what=row["id"], reason="part of a recording") for row in rows if row["offset"] == row["offset"]]
    rows = [row for row in rows if row["offset"] != row["offset"]]
    nobody = [row["id"] for row in rows if not (row["speaker"] and row["path"])]
    left_out = [*made.exclusions, *cut, *(Exclusion(what=name, reason="no speaker or no file") for name in nobody)]
    return [(row["speaker"], Path(row["path"])) for row in rows if row["id"] not in {*nobody}], left_out


def _voices(root: Path, sources: Sequence[Source], left_out: list[Exclusion], seconds: float | None) -> Voices:
    """Return the voices of recordings, from the cache where they are there."""
    most = None if seconds is None else round(seconds * RATE)
    key = hashlib.sha256(repr((_VERSION, most, [(who, stamp(path)) for who, path in sources])).encode()).hexdigest()
    folder = cache_folder() / "voices"
    file = folder / f"{key[:24]}.arrow"
    # Written last: without it the tracks are not all there.
    told = file.with_suffix(".json")
    with lock(folder, "voices"):
        kept = read_json(told) if file.is_file() else None
        if kept is None:
            _LOG.info("voices: the speech of %d recordings of %s is put into the cache", len(sources), root)
            kept = {"faults": [], "contents": {}}
            store.write(file, _FEATURES, _tracks(sources, root, most, **kept))
            write_json(told, kept)
    tracks = store.Store(file)
    exclusions = [*left_out, *(Exclusion(what=what, reason=reason) for what, reason in kept["faults"])]
    reasons = summary(exclusions)
    if not len(tracks):
        raise AffectError(f"{root} has no voice that can be used ({reasons or 'it holds no recording'})")
    if exclusions:
        _LOG.warning("%s: %s", root, held(len(tracks), "voice", exclusions))
    return Voices(tuple(tracks.ids), tuple(range(len(tracks))), tracks, tuple(exclusions), kept["contents"])


def _tracks(
    sources: Sequence[Source],
    root: Path,
    most: int | None,
    faults: list[tuple[str, str]],
    contents: dict[str, list[str]],
) -> Iterator[tuple[str, store.Arrays]]:
    """Yield each speaker's track, of `most` samples at most.

    What can't be used is added to `faults`, hashes of the recordings' speech to `contents`.
    """
    for speaker, group in groupby(_trimmed_all(sources), key=lambda each: each[0]):
        pieces, onsets, size = list[NDArray[np.int16]](), list[NDArray[np.int64]](), 0
        for _, path, made in group:
            if isinstance(made, str):
                faults.append((os.path.relpath(path, root), made))
            elif most is None or size < most:
                contents.setdefault(speaker, []).append(hashlib.sha256(made[0].tobytes()).hexdigest()[:16])
                pieces.append(made[0])
                onsets.append(made[1] + size)
                size += len(made[0])
        if size < LEAST * RATE:
            faults.append((speaker, f"less than {LEAST:g} s of speech"))
            continue
        starts = np.concatenate(onsets).astype(np.int32)
        size = size if most is None else min(size, most)
        yield speaker, {"speech": np.concatenate(pieces)[:size], "onsets": starts[starts < size]}


def _trimmed_all(sources: Sequence[Source]) -> Iterator[tuple[str, Path, Trimmed | str]]:
    """Yield speaker, recording and what is made of it, decoded in threads, a bounded number at once."""
    for first in range(0, len(sources), _AT_ONCE):
        some = sources[first : first + _AT_ONCE]
        for (speaker, path), made in zip(some, in_threads(_trimmed, [path for _, path in some], "voices"), strict=True):
            yield speaker, path, made


def _trimmed(path: Path) -> Trimmed | str:
    """Return a recording's speech [S] and onsets [O], or why it has none."""
    try:
        samples = audio.load(path)
    except AffectError as error:
        return f"bad audio: {str(error).removeprefix(f'{path}: ')}"
    spans = speech_spans(samples)
    if not len(spans.borders):
        return "no speech"
    speech = np.concatenate([samples[start:end] for start, end in spans.borders]).astype(np.float64)
    speech *= LEVEL * _SCALE / np.sqrt((speech**2).mean())
    before = np.cumsum([0, *(spans.borders[:, 1] - spans.borders[:, 0])])
    inside = np.searchsorted(spans.borders[:, 0], spans.onsets, side="right") - 1
    track = np.clip(np.rint(speech), -_SCALE, _SCALE - 1).astype(np.int16)
    return track, spans.onsets - spans.borders[inside, 0] + before[inside]
