"""Features of what is named for a model of features: read from files, or made of media and words by their encoders.

Legend: D numbers of a feature.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affect.data.corpora.segments import name_of
from affect.data.excerpts import Excerpt
from affect.data.feature_corpus import Stream
from affect.data.media import Medium, film, parts_of
from affect.data.table_file import read_text
from affect.errors import AffectError
from affect.inference import device, manifest
from affect.inference.streams import Source, Utterance, Vector, check_width, read_vector, vector_of

if TYPE_CHECKING:
    from affect.inference.extractor import Extractor


class Reader:
    """Features of utterances: read from files, or made by the encoders of the model's features."""

    def __init__(
        self, streams: Sequence[Stream], utterances: Iterable[Utterance], weights: Path, features: Path | None, *,
        trust: bool = False,
    ) -> None:  # fmt: skip
        """Read the encoders that the utterances need; raises AffectError where one can't be had.

        Their manifests lie below `features` ([features/]<name>/), or where the run of the folder `weights` had them.
        `trust` lets a program run that made features of texts.
        """
        self.streams = streams
        self.extractors: dict[int, Extractor] = {}
        raw = {place for one in utterances for place, source in one.sources.items() if source.raw}
        root = _root_of(weights) if features is None else features
        # All manifests before the first encoder is read, which may take minutes.
        files = {place: _manifest(streams[place], root) for place in sorted(raw)}
        if files:
            # Loads transformers, which a prediction from features does without.
            from affect.inference.extractor import Extractor

            there = device.of_predictions()
            self.extractors = {
                place: Extractor.from_manifest(file, there, trust=trust) for place, file in files.items()
            }

    def read(self, utterance: Utterance) -> dict[int, Vector]:
        """Return the features [D] by the place of their stream; raises AffectError if one is bad, or none there."""
        vectors = {
            place: self._made(place, source) if source.raw else read_vector(source, self.streams[place])
            for place, source in utterance.sources.items()
        }
        there = {place: vector for place, vector in vectors.items() if vector is not None}
        if not there:
            raise AffectError("nothing of it is there: all that is given is empty or all zero")
        return there

    def _made(self, place: int, source: Source) -> Vector | None:
        """Return the features [D] that the encoder makes of a raw source, None where it has nothing of it."""
        extractor = self.extractors[place]
        boxes = bool(getattr(extractor.settings, "boxes", False))
        medium = _medium_of(source, self.streams[place], boxes=boxes)
        values = extractor.extract(replace(medium, part=source.part))
        # As it would be in a file, whose frames are averaged when it is read.
        return vector_of([np.atleast_2d(values)])


def as_listed(
    streams: Sequence[Stream], utterances: Sequence[Utterance], listed: Sequence[Excerpt]
) -> list[Utterance]:  # fmt: skip
    """Return utterances called as the lines of a table call them, with the parts of their media that these ask for.

    Raises AffectError where a part is asked for of features, which can't be cut.
    """
    if len(listed) != len(utterances):
        # One line names folders of many.
        listed = [replace(listed[0], id="")] * len(utterances)
    named = [replace(one, name=_name(one, own)) for one, own in zip(utterances, listed, strict=True)]
    for place, stream in enumerate(streams):
        rows = [row for row, one in enumerate(named) if place in one.sources]
        if stream.modality == "text" or not any(listed[row].span or listed[row].fault for row in rows):
            continue
        media = [_asked(named[row].sources[place], listed[row]) for row in rows]
        for row, part in zip(rows, parts_of(media, seen=stream.modality == "video"), strict=True):
            one = named[row]
            sources = {**one.sources, place: replace(one.sources[place], part=part)}
            times = {name: time for name, time in part.facts.items() if name != "id"}
            named[row] = replace(one, sources=sources, times=times or one.times)
    return named


def _name(utterance: Utterance, own: Excerpt) -> str:
    return own.id or (utterance.name if own.span is None else name_of(utterance.name, own.span))


def _asked(source: Source, part: Excerpt) -> Medium:
    """Return a source as what it is looked at for."""
    path = Path(source.value)
    if source.kind in ("features", "folder") and (part.span is not None or part.fault):
        raise AffectError(f"{path}: features can't be cut to start and end: name recordings, or leave these out")
    return Medium(name=source.value, audio=path, video=path, part=part) if source.raw else Medium(name=source.value)


def _medium_of(source: Source, stream: Stream, *, boxes: bool) -> Medium:
    """Return a raw source as an extractor takes it, with `boxes` a video with the CSV of faces that lies beside it."""
    if source.kind == "words":
        return Medium(name="words", text=source.value.strip())
    path = Path(source.value)
    if not path.is_file():
        raise AffectError(f"{path}: no such file")
    if stream.modality == "text":
        return Medium(name=path.stem, text=read_text(path).replace("\r\n", "\n").strip())
    if stream.modality == "audio":
        return Medium(name=path.stem, audio=path)
    return film(path, stream.name, boxes=boxes)


def _root_of(weights: Path) -> Path | None:
    """Return the root of the corpus that a run was trained on; None where no recipe lies where a run's does."""
    if weights.parts[-2:] != ("checkpoints", "best"):
        return None
    try:
        recipe = json.loads((weights.parents[1] / "recipe.json").read_text(encoding="utf-8"))
        return Path(recipe["data"]["root"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _manifest(stream: Stream, root: Path | None) -> Path:
    """Return the manifest of a stream's features; raises AffectError where it is missing or of other features."""
    if root is None:
        raise AffectError(
            f"raw {stream.modality} needs the manifest of {stream.name}, and no recipe.json says where it is: "
            f"give --features with the folder of features/{stream.name}/{manifest.FILE}"
        )
    folders = [root / "features" / stream.name, root / stream.name, *([root] if root.name == stream.name else [])]
    files = [folder / manifest.FILE for folder in folders]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise AffectError(
            f"{files[0]}: no such manifest, which raw {stream.modality} needs (recipes/extract_features.py writes it): "
            f"give features (.npy), or --features with the folder that holds features/{stream.name}"
        )
    facts = manifest.read(file)
    if facts.get("modality") != stream.modality:
        raise AffectError(f"{file}: is of {facts.get('modality')}, the model's {stream.name} is of {stream.modality}")
    if isinstance(facts.get("width"), int):
        check_width(str(file), facts["width"], stream)
    return file
