"""Frames [H, W, 3] and sound [S samples] of what FFmpeg can read, by PyAV, in memory that does not grow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from affect.data import audio, pyav
from affect.data.audio import Samples
from affect.data.container import named
from affect.data.faces import Boxes, Image, crop
from affect.errors import AffectError

_ROUNDING = 1e-3
"""Seconds: containers store the times of frames as whole milliseconds at the coarsest, or exactly."""


class Frame(NamedTuple):
    """An image [H, W, 3] (RGB) of a video and its time, in seconds after the video's first frame."""

    time: float
    image: Image


def frames(
    source: Path | bytes, rate: float, *, boxes: Boxes | None = None, margin: float = 0.3,
    span: tuple[float, float] | None = None, name: str | None = None,
) -> Iterator[Frame]:  # fmt: skip
    """Yield `rate` frames a second of a file, or of its bytes, as shown (rotated, in RGB).

    Of each tick of 1 / rate seconds, from the first frame on, it is the frame at the tick or the next after it; a
    rate above the video's gives each frame once. With `boxes`, images are the squares of the faces (`faces.crop`), and
    frames without a face are left out. Of a `span` (start and end, in seconds) they are as those of a video that holds
    it alone. `name` is for error messages. Raises AffectError where the file is missing,
    empty, no video or cut off (before the first frame), or damaged (where the damage is reached).
    """
    name = named(source, name, "media")
    inside = outside = False
    for index, frame in _sampled(source, rate, span or (0.0, math.inf), name):
        if boxes is None:
            yield frame
            continue
        box = boxes.at(index)
        image = None if box is None else crop(frame.image, box, margin)
        outside |= box is not None and image is None
        if image is not None:
            inside = True
            yield Frame(frame.time, image)
    if outside and not inside:
        raise AffectError(f"{name}: every face box lies outside the image; are they of another video?")


class Starts(NamedTuple):
    """When the first image and the first sound of a file are, in seconds of its own clock; None where it has none."""

    image: float | None
    sound: float | None


def starts(source: Path | bytes, *, name: str | None = None) -> Starts:
    """Return when a file's images and its sound begin: often not together, and images not at 0.

    Raises AffectError where the file is missing, empty, cut off or damaged before either begins.
    """
    name = named(source, name, "media")
    times: list[float | None] = []
    for sound in (False, True):
        # Each in a container of its own: what was decoded for one is lost to the other.
        with pyav.container(source, name) as container:
            stream = next(iter(container.streams.audio), None) if sound else _picture(container)
            frames = (
                (frame for packet in container.demux(stream) for frame in pyav.whole(packet, name)) if stream else ()
            )
            first = next(iter(frames), None)
            times.append(None if first is None else first.time or 0.0)
    return Starts(*times)


def seconds_of(source: Path | bytes, *, name: str | None = None) -> float:
    """Return about how long a file is: as its header says, or by its packets where that says nothing.

    Raises AffectError where the file is missing, empty, no media or cut off.
    """
    with pyav.container(source, named(source, name, "media")) as container:
        if container.duration:
            return container.duration / av.time_base
        times = [float(packet.pts * packet.time_base) for packet in container.demux() if packet.pts is not None]
        return max(times) - min(times) if times else 0.0


def audio_of(
    source: Path | bytes, rate: int = 16_000, *, span: tuple[float, float] | None = None, name: str | None = None
) -> Samples:
    """Return the samples [S] at `rate` Hz, channels averaged, of a video's first sound track or of a sound file.

    Of a `span` (start and end, in seconds) alone, where one is given. Raises AffectError where the file is missing,
    empty, without sound, cut off, damaged or not finite, and where it ends before.
    """
    name = named(source, name, "media")
    return audio.load(source, rate, name) if span is None else audio.part(source, *span, rate, name=name)


def _video(container: InputContainer, name: str) -> VideoStream:
    """Return the first moving picture."""
    stream = _picture(container)
    if stream is not None:
        return stream
    heard = ", only sound" if container.streams.audio else ""
    raise AffectError(f"{name}: has no video stream{heard}")


def _picture(container: InputContainer) -> VideoStream | None:
    """Return the first moving picture, None without any: the cover of a song is a video stream to FFmpeg too."""
    moving = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return next(moving, None)


def _sampled(
    source: Path | bytes, rate: float, span: tuple[float, float], name: str
) -> Iterator[tuple[int, Frame]]:  # fmt: skip
    """Yield the frames of a span that the ticks fall on, each with its place among all frames of the video."""
    with pyav.container(source, name) as container:
        stream = _video(container, name)
        fps = float(stream.guessed_rate or 0)
        slack = min(_ROUNDING, float(stream.time_base or 0)) + 1e-9
        start, tick = 0.0, 0
        begun: float | None = None
        for index, frame in enumerate(_decoded(container, stream, name)):
            if frame.time is None and not fps:
                raise AffectError(f"{name}: tells neither the times of its frames nor how many there are a second")
            # A bare stream, without a container, has no times; its header has a rate.
            time = index / fps if frame.time is None else frame.time
            start = time if index == 0 else start
            if time - start + slack < span[0]:
                continue
            if time - start + slack >= span[1]:
                break
            begun = time if begun is None else begun
            passed = time - begun + slack
            if passed * rate >= tick:
                tick = math.floor(passed * rate) + 1
                yield index, Frame(time - begun, _image(frame))
        if begun is None:
            raise AffectError(f"{name}: has no image from {span[0]:g} to {span[1]:g} s")


def _decoded(container: InputContainer, stream: VideoStream, name: str) -> Iterator[av.VideoFrame]:
    """Yield all frames in the order they are shown in; raises AffectError where there is none, or one is damaged."""
    if stream.codec_context is None:
        raise AffectError(f"{name}: its video has a codec that FFmpeg cannot decode")
    empty = True
    for packet in container.demux(stream):
        for frame in pyav.whole(packet, name):
            empty = False
            yield frame
    if empty:
        raise AffectError(f"{name}: holds no video frame")


def _image(frame: av.VideoFrame) -> Image:
    """Return a frame [H, W, 3] as it is to be shown: telephones turn the picture by a note in the header alone."""
    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))
