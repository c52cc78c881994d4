"""What makes features of media: an encoder, how its frames become a file's numbers, and how to have it again.

Legend: T frames, D channels, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from affect.data.audio import Samples
from affect.data.faces import Image, read_boxes
from affect.data.media import Medium
from affect.data.video import audio_of, frames
from affect.errors import AffectError, nearest
from affect.extraction import AudioExtraction, Extraction, TextExtraction, VideoExtraction
from affect.inference import manifest
from affect.models.encoder import by_length
from affect.models.extractors.audio import AudioExtractor
from affect.models.extractors.loading import fingerprint
from affect.models.extractors.text import TextExtractor
from affect.models.extractors.video import VideoExtractor

Features = NDArray[np.floating[Any]]
E = TypeVar("E", AudioExtractor, TextExtractor, VideoExtractor)

_LEAST = 0.025
"""Seconds of the shortest recording: what one frame of an encoder hears."""
_POOL = 8
"""Budgets of audio or tokens that are read before they are sorted by length: little padding, little memory."""
_MIXED = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Accelerate's mixed precisions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of a medium: its features; zeros, and why there is nothing to make any of; or what is wrong."""

    name: str
    values: Features | None = None
    absent: str = ""
    fault: str = ""


class Extractor:
    """Features of one modality, as an extraction's settings ask for.

    An utterance's features do not depend on the others of its batch. `mixed` is the precision that the encoder
    computes in, as Accelerate names it.
    """

    def __init__(self, settings: Extraction, device: torch.device | str = "cpu", mixed: str = "no") -> None:
        """Read the encoder; raises AffectError where it can't be had, or the precision is another."""
        if mixed not in _MIXED:
            raise AffectError(f"mixed precision {mixed!r} is not supported; {nearest(mixed, _MIXED)}")
        self.settings = settings
        self.mixed = mixed
        self.device = torch.device(device)
        self.encoder = _build(settings)
        self.weights = fingerprint(self.encoder)
        self.encoder.to(self.device)
        self.width: int = self.encoder.width

    @classmethod
    def from_manifest(
        cls, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None, revision: str | None = None
    ) -> Extractor:
        """Return the extractor that made the features whose manifest.json (or folder) `path` is.

        `encoder` and `revision` say where the same weights are now, if no longer where they were. Raises AffectError
        where the manifest can't be read, or the encoder's weights or preprocessing are others.
        """
        file = path / manifest.FILE if path.is_dir() else path
        facts = manifest.read(file)
        if facts is None:
            raise AffectError(f"{file}: no such manifest; recipes/extract_features.py writes one beside the features")
        settings, mixed = manifest.settings_of(facts, file, encoder, revision)
        made = cls(settings, device, mixed)
        manifest.check(facts, manifest.deciding(made), file, "give the encoder that made the features")
        return made

    def facts(self) -> dict[str, Any]:
        """Return what is done to a medium before the encoder."""
        return self.encoder.facts()

    def audio(self, samples: Samples) -> Features:
        """Return the features [D], or [T, D] at frame level, of a recording [S] at the encoder's sampling rate."""
        encoder = self._of(AudioExtractor)
        with self._precision():
            return self._finish(encoder([samples])[0])

    def text(self, text: str) -> Features:
        """Return the features [D] or [T, D] of a text; zeros where it is blank."""
        encoder = self._of(TextExtractor)
        tokens = encoder.tokens(text)
        if tokens is None:
            return self.nothing()
        with self._precision():
            return self._finish(encoder([tokens])[0])

    def video(self, images: Iterable[Image]) -> Features:
        """Return the features [D] or [T, D] of RGB images [H, W, 3]; zeros where there are none."""
        encoder = self._of(VideoExtractor)
        prepared = (encoder.prepare(image) for image in images)
        most = int(cast(VideoExtraction, self.settings).budget)
        vectors = []
        while part := list(islice(prepared, most)):
            with self._precision():
                vectors.append(encoder(part))
        return self._finish(np.concatenate(vectors)) if vectors else self.nothing()

    def extract(self, medium: Medium) -> Features:
        """Return the features [D] or [T, D] of a medium; zeros where it lacks what they are made of.

        Raises AffectError where it can't be read.
        """
        (outcome,) = self.outcomes([medium])
        if outcome.values is None:
            raise AffectError(outcome.fault)
        return outcome.values

    def outcomes(self, media: Iterable[Medium]) -> Iterator[Outcome]:
        """Yield what becomes of each of the media, in another order."""
        if isinstance(self.encoder, VideoExtractor):
            for medium in media:
                yield self._film(medium)
            return
        pool: list[tuple[str, Any]] = []
        held = 0.0
        budget = float(cast(Any, self.settings).budget)
        for medium in media:
            try:
                value, absent = self._read(medium)
            except AffectError as error:
                yield Outcome(name=medium.name, fault=str(error))
                continue
            if value is None:
                yield Outcome(name=medium.name, values=self.nothing(), absent=absent)
                continue
            pool.append((medium.name, value))
            held += self.encoder.cost(value)
            if held >= _POOL * budget:
                yield from self._batches(pool, budget)
                pool, held = [], 0.0
        yield from self._batches(pool, budget)

    def nothing(self) -> Features:
        """Return the layout's mark of what is missing: zeros [D], or [1, D]."""
        shape = (self.width,) if self.settings.level == "utterance" else (1, self.width)
        return np.zeros(shape, self.settings.precision)

    def _read(self, medium: Medium) -> tuple[Any, str]:
        """Return what the encoder takes of a medium, or None and what is missing."""
        if isinstance(self.encoder, AudioExtractor):
            if medium.sound is None:
                return None, "no audio"
            shown = _shown(medium.sound, medium)
            samples = audio_of(medium.sound, self.encoder.rate, name=shown)
            if len(samples) < _LEAST * self.encoder.rate:
                # Of less an encoder would hear the padding.
                heard = 1000 * len(samples) / self.encoder.rate
                raise AffectError(f"{shown}: too short: {heard:.3g} ms, it has to be at least {1000 * _LEAST:g} ms")
            return samples, ""
        encoder = self._of(TextExtractor)
        return (None, "no text") if medium.text is None else (encoder.tokens(medium.text), "empty text")

    def _batches(self, pool: list[tuple[str, Any]], budget: float) -> Iterator[Outcome]:
        """Yield the outcomes of audio or texts, in batches of like length within the budget."""
        encoder = cast("AudioExtractor | TextExtractor", self.encoder)
        lengths = torch.tensor([encoder.cost(value) for _, value in pool], dtype=torch.float64)
        for group in by_length(lengths, budget) if pool else ():
            with self._precision():
                made = encoder([pool[place][1] for place in group.tolist()])
            for place, values in zip(group.tolist(), made, strict=True):
                yield self._outcome(pool[place][0], values)

    def _film(self, medium: Medium) -> Outcome:
        """Return the outcome of a video, whose images are read as they are needed."""
        settings = cast(VideoExtraction, self.settings)
        if medium.video is None:
            return Outcome(name=medium.name, values=self.nothing(), absent="no video")
        try:
            boxes = None
            if settings.boxes:
                if medium.boxes is None:
                    return Outcome(name=medium.name, fault="has no table of face boxes (column boxes)")
                boxes = read_boxes(medium.boxes)
            name = _shown(medium.video, medium)
            taken = frames(medium.video, settings.rate, boxes=boxes, margin=settings.margin, name=name)
            values = self.video(frame.image for frame in taken)
        except AffectError as error:
            return Outcome(name=medium.name, fault=str(error))
        # No vector of an encoder is all zeros.
        return Outcome(name=medium.name, values=values, absent="" if values.any() else "no face")

    def _outcome(self, name: str, values: NDArray[np.float32]) -> Outcome:
        try:
            return Outcome(name=name, values=self._finish(values))
        except AffectError as error:
            return Outcome(name=name, fault=str(error))

    def _finish(self, values: NDArray[np.float32]) -> Features:
        """Return the frames [T, D], or their mean [D], as a file holds them; raises AffectError if it can't."""
        # Summed in float64: the mean of the frames is that of a file of them.
        whole = values.mean(0, dtype=np.float64) if self.settings.level == "utterance" else values
        with np.errstate(over="ignore"):
            found: Features = whole.astype(np.float32).astype(self.settings.precision)
        if not np.isfinite(found).all():
            hint = " (float16 ends at 65504: give --precision float32)" if np.isfinite(whole).all() else ""
            raise AffectError(f"its features hold NaN or infinite values{hint}")
        return found

    def _of(self, kind: type[E]) -> E:
        if not isinstance(self.encoder, kind):
            raise AffectError(f"{self.settings.encoder!r} makes features of {self.settings.modality} alone")
        return self.encoder

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, _MIXED[self.mixed], enabled=self.mixed != "no")


def _build(settings: Extraction) -> AudioExtractor | TextExtractor | VideoExtractor:
    if isinstance(settings, AudioExtraction):
        return AudioExtractor.build(settings.encoder, settings.revision, settings.layers)
    if isinstance(settings, TextExtraction):
        dtype = getattr(torch, settings.dtype)
        return TextExtractor.build(
            settings.encoder, settings.revision, settings.layers, dtype=dtype, trust=settings.trust_remote_code
        )
    return VideoExtractor.build(settings.encoder, settings.revision)


def _shown(source: Path | bytes, medium: Medium) -> str:
    """Return what an error calls a medium's file."""
    return str(source) if isinstance(source, Path) else f"the media of {medium.name!r}"
