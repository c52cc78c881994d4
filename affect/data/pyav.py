"""What FFmpeg can read, by PyAV: containers held against their own headers, and their sound in blocks.

Legend: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from numpy.typing import NDArray

from affect.data.container import opened
from affect.errors import AffectError

Block = NDArray[np.float32]


class Sound(NamedTuple):
    """The first sound track of a file: Hz, channels, seconds by its header (0: unknown), blocks [S, C]."""

    rate: int
    channels: int
    seconds: float
    blocks: Iterator[Block]


@contextmanager
def container(source: str | Path | bytes, name: str) -> Iterator[InputContainer]:
    """Open a container, having held the file against its own header; FFmpeg's errors become AffectErrors."""
    with opened(source, name, "media") as file:
        try:
            # A playlist could name any file or address; with no protocol it opens none. A title has any encoding.
            options = {"protocol_whitelist": "none"}
            with av.open(file, mode="r", options=options, metadata_errors="replace") as held:
                yield held
        except FFmpegError as error:
            reason = error.strerror or type(error).__name__
            raise AffectError(f"{name}: is not readable media, or damaged ({reason})") from error


@contextmanager
def sound(source: str | Path | bytes, name: str) -> Iterator[Sound | None]:
    """Open the first sound track of a file, None where it has none; raises AffectError as `container` does.

    Damage, and a rate that changes, are raised where they are reached.
    """
    with container(source, name) as held:
        if not held.streams.audio:
            yield None
            return
        track = held.streams.audio[0]
        if track.codec_context is None:
            raise AffectError(f"{name}: its sound has a codec that FFmpeg cannot decode")
        blocks = _blocks(held, track, name)
        # Some codecs tell in their frames alone what rate they decode to.
        rate, first = next(blocks, (0, np.zeros((0, 0), np.float32)))
        rest = (block for _, block in blocks)
        yield Sound(rate, first.shape[1], (held.duration or 0) / av.time_base, chain([first], rest))


def readable(source: str | Path | bytes, name: str) -> bool:
    """Say whether FFmpeg knows the format of a file."""
    try:
        with container(source, name):
            return True
    except AffectError:
        return False


def whole(packet: av.Packet[Any], name: str) -> list[Any]:
    """Return a packet's frames; raises AffectError where FFmpeg marks them as damaged, which decoders paint over."""
    decoded = [] if packet.is_corrupt else packet.decode()
    if packet.is_corrupt or any(frame.is_corrupt for frame in decoded):
        at = f" {float(packet.pts * packet.time_base):.2f} s into it" if packet.pts is not None else ""
        raise AffectError(f"{name}: is damaged or truncated{at}")
    return decoded


def _blocks(held: InputContainer, track: AudioStream, name: str) -> Iterator[tuple[int, Block]]:
    """Yield sampling rate, which is always the same, and samples [S, C] of each frame of sound."""
    planes = av.AudioResampler(format="fltp")
    native = 0
    for packet in held.demux(track):
        for plain in (plain for frame in whole(packet, name) for plain in planes.resample(frame)):
            native = native or plain.sample_rate
            if plain.sample_rate != native:
                raise AffectError(f"{name}: its sampling rate changes from {native} to {plain.sample_rate} Hz")
            yield native, np.asarray(plain.to_ndarray(), np.float32).T
