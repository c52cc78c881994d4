"""Images [T, S, S, 3] and sound [N] of a video on one clock: image k is what is seen k / rate seconds after it starts.

Legend: T images, S pixels of a side, N samples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from affect.data import video
from affect.data.audio import Samples
from affect.data.container import named
from affect.data.faces import Boxes, Image
from affect.errors import AffectError

_ROUNDING = 1e-3
"""Seconds: times in containers may be whole milliseconds."""


class Clip(NamedTuple):
    """Images [T, S, S, 3] and sound [N] that begin and end together; None is what a video does not have."""

    images: NDArray[np.uint8] | None
    sound: Samples | None


def read(
    source: Path | bytes, *, rate: float, seconds: float, side: int | None, sampling_rate: int | None,
    boxes: Boxes | None = None, margin: float = 0.3, whole: bool = False, name: str | None = None,
) -> Clip:  # fmt: skip
    """Return the first `seconds` of a video: `rate` images a second of `side` pixels, sound at `sampling_rate` Hz.

    They begin with the first image that has sound, and end where one of the two does. Without a `side` there are no
    images, without a `sampling_rate` no sound. An image is the face that `boxes` tell of, else the square in the
    middle of what is shown, or all of it within a border (`whole`); where there is none at its time, it is the one
    before. A video in which no face is seen has no images. Raises AffectError as `video.frames` and `video.audio_of`
    do, where what is asked for is missing from a file altogether, and where images and sound have no moment in common.
    """
    name = named(source, name, "media")
    starts = video.starts(source, name=name)
    heard = sampling_rate is not None and starts.sound is not None
    if starts.image is None and (side is not None or not heard):
        raise AffectError(f"{name}: has no video stream{', only sound' if starts.sound is not None else ''}")
    samples = video.audio_of(source, sampling_rate, name=name) if heard and sampling_rate else None
    if side is None or starts.image is None:
        return Clip(None, None if samples is None else samples[: math.ceil(seconds * (sampling_rate or 0))])
    first = 0.0 if samples is None else (starts.sound or 0.0) - starts.image
    start, images = _images(source, rate, seconds, side, first, boxes=boxes, margin=margin, whole=whole, name=name)
    if samples is None or sampling_rate is None:
        return Clip(images, None)
    if images is None:
        return Clip(None, samples[: math.ceil(seconds * sampling_rate)])
    samples = samples[round((start - first) * sampling_rate) :][: round(len(images) / rate * sampling_rate)]
    if not len(samples):
        raise AffectError(f"{name}: its sound has ended before its images begin")
    return Clip(images[: math.ceil(len(samples) / sampling_rate * rate)], samples)


def _images(
    source: Path | bytes, rate: float, seconds: float, side: int, first: float, *, boxes: Boxes | None, margin: float,
    whole: bool, name: str,
) -> tuple[float, NDArray[np.uint8] | None]:  # fmt: skip
    """Return when the first image at or after `first` is, in seconds after the video's first, and all [T, S, S, 3]."""
    start = 0.0
    images: list[Image] = []
    for time, image in video.frames(source, rate, boxes=boxes, margin=margin, name=name):
        if time < first - _ROUNDING:
            continue
        start = start if images else time
        place = math.floor((time - start + _ROUNDING) * rate)
        if place >= seconds * rate:
            break
        made = square(image, side, whole=whole)
        # A gap shows the image before it: of a video at a slower rate, or where no face was found.
        images += [images[-1]] * (place - len(images)) if images else []
        images += [made] if place == len(images) else []
    return start, np.stack(images) if images else None


def square(image: Image, side: int, *, whole: bool = False) -> Image:
    """Return the square in the middle of an image [H, W, 3], or the `whole` on black, brought to `side` pixels."""
    height, width = image.shape[:2]
    if whole:
        longer = max(height, width)
        top, left = (longer - height) // 2, (longer - width) // 2
        image = np.pad(image, ((top, longer - height - top), (left, longer - width - left), (0, 0)))
        height = width = longer
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    middle = Pillow.fromarray(np.ascontiguousarray(image[top : top + edge, left : left + edge]))
    return np.asarray(middle.resize((side, side), Pillow.Resampling.BICUBIC), np.uint8)
