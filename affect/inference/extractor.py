"""What makes features of media: an encoder, how its frames become a file's numbers, and how to have it again.

Legend: T frames, D channels, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from affect.data.faces import read_boxes
from affect.data.media import Medium
from affect.data.video import audio_of, frames
from affect.errors import AffectError, nearest
from affect.extraction import AudioExtraction, Extraction, TextExtraction, VideoExtraction
from affect.inference import manifest
from affect.inference.windows import check_length
from affect.models.encoder import by_length
from affect.models.extractors.audio import AudioExtractor
from affect.models.extractors.loading import fingerprint
from affect.models.extractors.text import TextExtractor
from affect.models.extractors.video import VideoExtractor

Features = NDArray[np.floating[Any]]

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
    """Features of one modality, as settings ask for; an utterance's do not depend on the others of its batch."""

    def __init__(self, settings: Extraction, device: torch.device | str = "cpu", mixed: str = "no") -> None:
        """Read the encoder, to compute in Accelerate's precision `mixed`; raises AffectError where it can't be had."""
        if mixed not in _MIXED:
            raise AffectError(f"mixed precision {mixed!r} is not supported; {nearest(mixed, _MIXED)}")
        self.settings = settings
        self.mixed = mixed
        self.device = torch.device(device)
        self.encoder: Any = _build(settings)
        self.weights = fingerprint(self.encoder)
        self.encoder.to(self.device)

    @classmethod
    def from_manifest(cls, path: Path, device: torch.device | str = "cpu", *, trust: bool = False) -> Extractor:
        """Return the extractor that made the features whose manifest.json (or folder) `path` is.

        Raises AffectError where the manifest can't be read, the encoder's weights or preprocessing are others, or a
        program of the encoder's folder would have to run without `trust`.
        """
        file = path / manifest.FILE if path.is_dir() else path
        return cls.from_facts(manifest.read(file), file, device, trust=trust)

    @classmethod
    def from_facts(
        cls, facts: dict[str, Any], file: Path, device: torch.device | str = "cpu", *, trust: bool = False
    ) -> Extractor:
        """Return the extractor of a manifest that was read before, which errors call `file`; raises as those do."""
        settings, mixed = manifest.settings_of(facts, file, trust=trust)
        made = cls(settings, device, mixed)
        manifest.check(facts, manifest.deciding(made), file, "give the encoder that made the features")
        return made

    def extract(self, medium: Medium) -> Features:
        """Return the features [D] or [T, D] of a medium, zeros where it lacks what they are of; raises AffectError."""
        (outcome,) = self.outcomes([medium])
        if outcome.values is None:
            raise AffectError(outcome.fault)
        return outcome.values

    def outcomes(self, media: Iterable[Medium]) -> Iterator[Outcome]:
        """Yield what becomes of each of the media, in another order."""
        pool: list[tuple[str, Any]] = []
        held = 0.0
        for medium in media:
            try:
                value = self._read(medium)
            except AffectError as error:
                value = Outcome(name=medium.name, fault=str(error))
            if isinstance(value, Outcome):
                yield value
                continue
            pool.append((medium.name, value))
            held += self.encoder.cost(value)
            if held >= _POOL * self.settings.budget:
                yield from self._batches(pool)
                pool, held = [], 0.0
        yield from self._batches(pool)

    def nothing(self) -> Features:
        """Return the layout's mark of what is missing: zeros [D], or [1, D]."""
        shape = (self.encoder.width,) if self.settings.level == "utterance" else (1, self.encoder.width)
        return np.zeros(shape, self.settings.precision)

    def _read(self, medium: Medium) -> Any:
        """Return what the encoder takes of a medium, or the outcome where that is known already."""
        absent, part = f"no {self.settings.modality}", medium.part
        if part.fault and self.settings.modality != "text":
            raise AffectError(part.fault)
        if isinstance(self.encoder, TextExtractor) and medium.text is not None:
            tokens = self.encoder.tokens(medium.text)
            if tokens is not None:
                return tokens
            absent = "empty text"
        if isinstance(self.encoder, AudioExtractor) and medium.sound is not None:
            name, rate = _shown(medium.sound, medium), self.encoder.rate
            samples = audio_of(medium.sound, rate, span=part.span, name=name)
            check_length(samples, rate, name)
            return samples
        if isinstance(self.encoder, VideoExtractor) and medium.video is not None:
            values = self._film(medium, medium.video, self.encoder)
            # No vector of an encoder is all zeros.
            return Outcome(name=medium.name, values=values, absent="" if values.any() else "no face")
        return Outcome(name=medium.name, values=self.nothing(), absent=absent)

    def _film(self, medium: Medium, source: Path | bytes, encoder: VideoExtractor) -> Features:
        """Return the features of a video, whose images are read as they are needed; zeros where there are none."""
        settings = cast(VideoExtraction, self.settings)
        if settings.boxes and medium.boxes is None:
            raise AffectError("has no table of face boxes (column boxes)")
        boxes = read_boxes(medium.boxes) if settings.boxes and medium.boxes else None
        name, span = _shown(source, medium), medium.part.span
        shown = frames(source, settings.rate, boxes=boxes, margin=settings.margin, span=span, name=name)
        prepared = (encoder.prepare(frame.image) for frame in shown)
        vectors = []
        while part := list(islice(prepared, int(settings.budget))):
            vectors.append(self._encode(part))
        return self._finish(np.concatenate(vectors)) if vectors else self.nothing()

    def _batches(self, pool: list[tuple[str, Any]]) -> Iterator[Outcome]:
        """Yield the outcomes of audio or texts, in batches of like length within the budget."""
        lengths = torch.tensor([self.encoder.cost(value) for _, value in pool], dtype=torch.float64)
        for group in by_length(lengths, self.settings.budget) if pool else ():
            names, values = zip(*(pool[place] for place in group.tolist()), strict=True)
            for name, made in zip(names, self._encode(values), strict=True):
                try:
                    outcome = Outcome(name=name, values=self._finish(made))
                except AffectError as error:
                    outcome = Outcome(name=name, fault=str(error))
                yield outcome

    def _encode(self, values: Any) -> Any:
        with torch.autocast(self.device.type, _MIXED[self.mixed], enabled=self.mixed != "no"):
            return self.encoder(values)

    def _finish(self, values: NDArray[np.float32]) -> Features:
        """Return the frames [T, D], or their mean [D], as a file holds them; raises AffectError if it can't."""
        # Summed in float64: the mean of the frames is that of a file of them.
        whole = values.mean(0, dtype=np.float64) if self.settings.level == "utterance" else values
        with np.errstate(over="ignore"):
            features: Features = whole.astype(np.float32).astype(self.settings.precision)
        if not np.isfinite(features).all():
            hint = " (float16 ends at 65504: give --precision float32)" if np.isfinite(whole).all() else ""
            raise AffectError(f"its features hold NaN or infinite values{hint}")
        return features


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
