"""What is named for a model of features: files, folders of features, media and words, put together to utterances.

Legend: D numbers of a feature, T frames.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affect.data.endings import FILM, SOUND
from affect.data.excerpts import Excerpt
from affect.data.feature_corpus import MODALITIES, Stream, mean_of, read_frames
from affect.errors import AffectError, reading

Vector = NDArray[np.float32]
Kind = Literal["nothing", "features", "folder", "media", "words", "unknown"]

_MEDIA = {"audio": SOUND | FILM, "text": frozenset((".txt",)), "video": FILM}
"""Endings of the raw files of a modality; the sound of a video is audio too."""
_WANTED = {
    "audio": "a .npy file, a folder or a sound file such as .wav",
    "text": "a .npy file, a folder, a .txt file or words",
    "video": "a .npy file, a folder or a video such as .mp4",
}


@dataclass(frozen=True)
class Source:
    """What stands for one modality of an utterance, and what it is."""

    value: str
    kind: Kind
    part: Excerpt = Excerpt()
    """What a table asks for of a recording or video."""

    @property
    def raw(self) -> bool:
        """Whether an encoder has to make features of it first."""
        return self.kind in ("media", "words")

    @property
    def name(self) -> str | None:
        """The file's name without its ending, a folder's whole one; None for words and for nothing."""
        if self.kind in ("words", "nothing"):
            return None
        return os.path.basename(os.path.normpath(self.value)) if self.kind == "folder" else Path(self.value).stem


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """An utterance to predict: its name, and a source by the place of each stream that it has one of."""

    name: str
    sources: Mapping[int, Source]
    times: Mapping[str, float] = field(default_factory=dict)
    """Start and end (s), where a table cuts it."""


def gather(streams: Sequence[Stream], given: Mapping[str, Sequence[str]]) -> list[Utterance]:
    """Return the utterances that `given`, values by modality, names for a model of these streams.

    A value is a .npy file, a folder of frames, a raw file, words, or "" for what is missing; NAME=VALUE is of the
    feature of that name alone, raw ones without NAME= are of all features of their modality. One a modality are the
    same utterance, several are utterances in the same order. Where every value is a folder, one a feature, and none a
    folder of frames in that feature's own folder, they hold utterances by name. Raises AffectError where they fit
    neither one another nor the model.
    """
    columns = _columns(streams, given)
    if all(_of_many(column, streams[place]) for place, column in columns.items()):
        return _by_name(streams, {place: column[0] for place, column in columns.items()})
    counts = {_called(streams[place]): len(column) for place, column in columns.items()}
    (most, high), (least, low) = (pick(counts.items(), key=lambda pair: pair[1]) for pick in (max, min))
    if high != low:
        raise AffectError(f"{most}: {high} are given, {least}: {low}; give as many in the same order, '' for a missing")
    for place, column in columns.items():
        for folder in (source.value for source in column if source.kind == "folder"):
            own = Path(folder).resolve()
            # A feature in a corpus's layout: its mean would be of all utterances.
            if own.name == streams[place].name or own.parent.name == "features":
                raise AffectError(f"{folder} holds the features of many utterances: give such folders alone")
    _check_order(streams, columns)
    return [
        Utterance(name=name, sources={place: column[row] for place, column in columns.items()})
        for row, name in enumerate(_names(columns))
    ]


def read_vector(source: Source, stream: Stream) -> Vector | None:
    """Return the features [D] of a source that is not raw, the mean of its frames; None where all are zero.

    Raises AffectError where there is no such file, it can't be read, or it has another width than the stream.
    """
    if source.kind == "nothing":
        return None
    path = Path(source.value)
    if source.kind == "unknown":
        # os.path: a name may be too long for pathlib, which raises.
        there = "is no kind of file that is known" if os.path.exists(path) else "no such file"
        raise AffectError(f"{path}: {there}; --{stream.modality} takes {_WANTED[stream.modality]}")
    files = _inside(path) if source.kind == "folder" else [path]
    if not files:
        raise AffectError(f"{path}: holds no .npy file of a frame")
    parts = [read_frames(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        check_width(str(file), part.shape[1], stream)
    return vector_of(parts)


def vector_of(parts: Sequence[NDArray[np.floating[Any]]]) -> Vector | None:
    """Return the mean [D] of frames [T, D], as a corpus has it; None where all are zero, or there is none."""
    mean = mean_of(parts)
    return mean.astype(np.float32) if mean is not None and mean.any() else None


def check_width(what: str, width: int, stream: Stream) -> None:
    """Raise AffectError, naming both numbers, where `what` has another width than the stream."""
    if width != stream.width:
        raise AffectError(
            f"{what} has {width} numbers, the model's {stream.modality} feature {stream.name} has {stream.width}"
        )


def _columns(streams: Sequence[Stream], given: Mapping[str, Sequence[str]]) -> dict[int, list[Source]]:
    """Return the sources of each stream that has any, in the order given."""
    columns: dict[int, list[Source]] = {}
    for modality in MODALITIES:
        values = given.get(modality, ())
        places = {stream.name: place for place, stream in enumerate(streams) if stream.modality == modality}
        if values and not places:
            there = ", ".join(dict.fromkeys(stream.modality for stream in streams))
            raise AffectError(f"this model takes no {modality}: leave --{modality} out; it takes {there}")
        for value in values:
            name, equals, rest = value.partition("=")
            named = bool(equals) and name in places
            source = _source(modality, rest if named else value)
            if not named and len(places) > 1 and source.kind in ("features", "folder"):
                raise AffectError(
                    f"this model has {len(places)} features of {modality}: give --{modality} NAME={value} "
                    f"with NAME one of {', '.join(places)}"
                )
            for place in [places[name]] if named else places.values():
                columns.setdefault(place, []).append(source)
    if not columns:
        raise AffectError("this model takes features: name some with --audio, --text or --video")
    return columns


def _source(modality: str, value: str) -> Source:
    ending = os.path.splitext(value)[1].lower()
    kind: Kind = "unknown"
    if not value.strip():
        kind = "nothing"
    # os.path: words may be too long for a file's name, which pathlib raises for.
    elif os.path.isdir(value):
        kind = "folder"
    elif ending == ".npy":
        kind = "features"
    elif ending in _MEDIA[modality]:
        kind = "media"
    # What looks like another medium is a slip, not a text.
    elif modality == "text" and ending not in SOUND | FILM and not os.path.isfile(value):
        kind = "words"
    return Source(value, kind)


def _of_many(column: Sequence[Source], stream: Stream) -> bool:
    """Whether this is one folder, and not one of frames inside the folder of the feature."""
    (first, *others) = column
    return not others and first.kind == "folder" and Path(first.value).resolve().parent.name != stream.name


def _by_name(streams: Sequence[Stream], folders: Mapping[int, Source]) -> list[Utterance]:
    """Return the utterances of folders of features, by name: what one of them lacks is missing."""
    utterances: dict[str, dict[int, Source]] = {}
    for place, folder in folders.items():
        path = Path(folder.value)
        files = {file.stem: Source(str(file), "features") for file in _inside(path)}
        frames = {
            inner.name: Source(str(inner), "folder")
            for inner in path.iterdir()
            if inner.is_dir() and inner.name[0] != "." and _inside(inner)
        }
        for name in files.keys() & frames.keys():
            raise AffectError(f"{path} has both {name}.npy and a folder {name}: remove one of them")
        if not files and not frames:
            raise AffectError(f"{path}: holds no .npy file and no folder of frames; name media files one by one")
        sources = files | frames
        _check_first(sources[min(sources)], streams[place])
        for name, source in sources.items():
            utterances.setdefault(name, {})[place] = source
    return [Utterance(name=name, sources=utterances[name]) for name in sorted(utterances)]


def _check_first(source: Source, stream: Stream) -> None:
    """Raise AffectError where a folder's first vector has another width: the folder is that of another feature."""
    path = Path(source.value)
    try:
        width = read_frames(path if source.kind == "features" else _inside(path)[0]).shape[1]
    except AffectError:
        # One bad file: its own line will say so.
        return
    check_width(source.value, width, stream)


def _inside(folder: Path) -> list[Path]:
    """Return the .npy files of a folder by name; those that start with a dot are what other systems leave."""
    with reading(folder):
        return sorted(path for path in folder.iterdir() if path.suffix == ".npy" and path.name[0] != ".")


def _check_order(streams: Sequence[Stream], columns: Mapping[int, Sequence[Source]]) -> None:
    """Raise AffectError where two streams name the same utterances in different orders."""
    named = [(streams[place], [source.name for source in column]) for place, column in columns.items()]
    files = [(stream, names) for stream, names in named if None not in names]
    for stream, names in files[1:]:
        first, others = files[0]
        if names != others and set(names) == set(others):
            both = f"{_called(first)} and {_called(stream)}"
            raise AffectError(f"{both} name the same utterances in another order: give them in the same")


def _names(columns: Mapping[int, Sequence[Source]]) -> list[str]:
    """Return the utterances' names: of the first files, whole where two have the same; else the words."""
    sources = [
        next((source for source in row if source.name is not None), max(row, key=lambda source: bool(source.value)))
        for row in zip(*columns.values(), strict=True)
    ]
    short = [source.name or source.value for source in sources]
    return short if len(set(short)) == len(short) else [source.value for source in sources]


def _called(stream: Stream) -> str:
    return f"{stream.modality} ({stream.name})"
