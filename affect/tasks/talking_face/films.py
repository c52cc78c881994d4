"""Micro-batches of clips as they were recorded: images and sound on one clock, changed in training as recipes ask.

Legend: B clips, T images, S pixels of a side, N samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affect.cache import kept_json, stamp
from affect.data import augment, clip
from affect.data.clip import Clip
from affect.data.faces import kept_boxes
from affect.data.score_corpus import ScoreCorpus
from affect.errors import AffectError
from affect.task import Key, Row
from affect.tasks.talking_face import functionals
from affect.tasks.talking_face.clips import Clips, side_by_side
from affect.tasks.talking_face.config import FRAMES, Augment
from affect.tasks.talking_face.corruptions import Frames, held, offset
from affect.tasks.talking_face.media import AUDIO, FRAMES_A_SECOND, IMAGES, SAMPLES, SOUND_RATE, VIDEO, Media


class FilmClips(Clips):
    """What makes micro-batches of clips that are read when a batch needs them, beside features of the store."""

    def __init__(self, *given: Any, media: Media) -> None:
        """Take what `Clips` does, and what of a clip is seen and heard."""
        super().__init__(*given)
        self._media = media

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of all features that the model fuses."""
        return (*super().streams, *self._media.taken)

    def functionals(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return images and sound of rows in a few hundred numbers a clip, which are kept in the cache."""
        return np.array([self._kept(row) for row in rows], np.float64)

    def _kept(self, row: Row) -> list[float]:
        media, path, boxes = self._media, Path(row["path"]), Path(row["boxes"]) if row["boxes"] else None
        files = (stamp(path), stamp(boxes) if boxes and media.faces else None)
        side, margin = media.side if media.video else None, media.margin if media.faces else None
        taken = (media.rate, media.seconds, side, bool(media.audio), margin, *(["pad"] if media.fit == "pad" else []))

        def make() -> list[float]:
            made: list[float] = functionals.of_clip(read(path, media, boxes, row["id"]), media).tolist()
            return made

        values: list[float] = kept_json("clip-functionals", (functionals.VERSION, files, taken), make)
        return values

    def media(self, rows: Sequence[Row], key: Key | None) -> dict[str, torch.Tensor]:
        """Return images and sound of rows; with a key they are changed as the recipe asks for.

        Under the condition `delay=S` sound is S seconds late; its end comes first, since silence would be heard by
        itself. Raises AffectError for a clip that can't be read.
        """
        clips = []
        for row in rows:
            own = read(Path(row["path"]), self._media, Path(row["boxes"]) if row["boxes"] else None, row["id"])
            if key is not None:
                own = changed(row["id"], own, self.change, key)
            if (by := row.get("condition")) and own.sound is not None:
                own = own._replace(sound=np.roll(own.sound, round(float(by.partition("=")[2]) * SOUND_RATE)))
            clips.append(own)
        return inputs_of(clips, self._media)

    def late(self, row: Row, clip: Mapping[str, Frames | None], by: float) -> tuple[dict[str, Frames | None], float]:
        """Return the features of a row with sound `by` seconds late, and which share of what is heard is left."""
        whole = max(by, row["seconds"])
        return offset(clip, by / whole), 1 - by / min(whole, self._media.seconds)


def read(path: Path, media: Media, boxes: Path | None, id: str) -> Clip:
    """Return what a model sees and hears of a video, by the `boxes` of its faces where these are what it sees.

    Raises AffectError as `clip.read` does, and where there are no boxes of a clip whose face is seen.
    """
    if media.faces and boxes is None:
        raise AffectError(f"{id}: its face is what is seen, and no CSV (py-feat's or OpenFace's) tells where it is")
    return clip.read(
        path, rate=media.rate, seconds=media.seconds, side=media.side if media.video else None,
        sampling_rate=SOUND_RATE if media.audio else None, boxes=kept_boxes(boxes) if media.faces and boxes else None,
        margin=media.margin, whole=media.fit == "pad" and not media.faces,
    )  # fmt: skip


def inputs_of(clips: Sequence[Clip], media: Media) -> dict[str, torch.Tensor]:
    """Return clips as the model takes them, padded with zeros: one image, one sample at least."""
    inputs: dict[str, torch.Tensor] = {}
    kinds: tuple[tuple[str, str, tuple[int, ...], Any], ...] = (
        (VIDEO, IMAGES, (media.side, media.side, 3), np.uint8), (AUDIO, SAMPLES, (), np.float32),
    )  # fmt: skip
    for kind, name, shape, dtype in kinds:
        if kind not in media.taken:
            continue
        given = [own.images if kind == VIDEO else own.sound for own in clips]
        inputs[name], inputs[kind + FRAMES] = side_by_side(given, shape, dtype)
    return inputs


def timed(corpus: ScoreCorpus, media: Media) -> ScoreCorpus:
    """Return a corpus of videos with the length of each clip in the frames of the encoder that has the most."""
    a_second = FRAMES_A_SECOND if media.audio else media.rate
    rows = corpus.utterances
    lengths = []
    for seconds, frames in zip(rows["seconds"], rows["length"], strict=True):
        own = math.ceil(min(seconds, media.seconds) * a_second)
        lengths.append(float(max(1, own, frames if media.features else 1)))
    return replace(corpus, utterances=rows.remove_columns("length").add_column("length", lengths))


def changed(id: str, own: Clip, change: Augment, key: Key) -> Clip:
    """Return a clip changed by the recipe, a function of the seed, the epoch and the clip's id."""
    images, sound = own

    def random(what: str) -> np.random.Generator:
        return augment.generator(key.seed, key.epoch, id, what=what)

    if change.speed:
        factor = (1 + change.speed) ** random("speed").uniform(-1, 1)
        images = None if images is None else faster(images, factor)
        sound = None if sound is None else faster(sound, factor)
    if sound is not None and change.noise is not None:
        sound = augment.add_noise(sound, change.noise, random("noise"))
    if sound is not None and change.gain:
        sound = augment.gain(sound, change.gain, random("gain"))
    if images is not None and change.drop:
        drawn = random("drop")
        kept = drawn.random(len(images)) >= drawn.uniform(0, change.drop)
        images = held(images, kept)
    if images is not None and change.flip and random("flip").random() < 0.5:
        images = images[:, :, ::-1]
    if images is not None and change.crop:
        images = cropped(images, change.crop, random("crop"))
    return Clip(images, sound)


def faster(values: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return images [T, ...], the nearest ones, or sound [N], interpolated, so many times as fast: one at least."""
    places = np.minimum(np.arange(max(1, round(len(values) / factor))) * factor, len(values) - 1)
    if values.ndim > 1:
        return np.asarray(values[np.round(places).astype(np.intp)])
    made: NDArray[Any] = np.interp(places, np.arange(len(values)), values).astype(values.dtype)
    return made


def cropped(images: NDArray[np.uint8], most: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a square of images [T, S, S, 3], the same of all, of which up to `most` is cut away, at their size."""
    side = images.shape[1]
    edge = max(1, round(side * (1 - random.uniform(0, most))))
    top, left = random.integers(side - edge + 1, size=2).tolist()
    return np.stack([clip.square(image[top : top + edge, left : left + edge], side) for image in images])
