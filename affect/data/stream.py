"""Recordings of any length in bounded memory: windows [S samples] while they are read, from a file or a pipe."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from affect.data.audio import RATES, Samples, mixed, resampled
from affect.errors import AffectError

RAW = {"s16": "PCM_16", "f32": "FLOAT"}
"""How a headerless sample may be written, little-endian, and libsndfile's name for it."""

_BLOCK = 1 << 12
"""Frames read from a pipe at once: a quarter of a second of speech, which waits until all of it is there."""
_ENDLESS = 0x7FFF0000
"""A wav's length from here on stands for "unknown": its writer could not go back and fill it in."""
_LARGEST_CHUNK = 1 << 24
"""Bytes of a wav's notes; a longer chunk before the samples is a damaged header."""
_WAV = {(1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32", (3, 32): "FLOAT", (3, 64): "DOUBLE"}
"""libsndfile's names by the format tag and the bits of a wav's header."""


def spans(samples: int, size: int, hop: int, least: int, first: int = 0) -> list[tuple[int, int]]:
    """Return (start, stop) of windows that cover `samples`; a last one under `least` is left to the one before.

    With `first`, those from the window that starts there, which may not be the one that is left to another.
    """
    if first == 0 and samples <= size + least:
        return [(0, samples)]
    places = [(start, min(start + size, samples)) for start in range(first, samples - size + hop, hop)]
    if places[-1][1] - places[-1][0] < least:
        places[-2:] = [(places[-2][0], samples)]
    return places


def windows(blocks: Iterable[Samples], size: int, hop: int, least: int) -> Iterator[tuple[int, Samples]]:
    """Yield the start and the samples [S] of each of `spans`' windows, as soon as the blocks [S] decide it.

    A window waits for `least` samples beyond it. No more than a window, that, and a block is held.
    """
    parts: list[Samples] = []
    start = held = 0  # held: samples from `start` on
    for block in blocks:
        parts.append(block)
        held += len(block)
        if held <= size + least:
            continue
        joined = np.concatenate(parts)
        place = 0
        # Beyond this the next window has at least `least` samples, so this one ends where it should.
        while len(joined) - place > size + least:
            yield start + place, joined[place : place + size]
            place += hop
        start, held = start + place, held - place
        parts = [joined[place:].copy()]
    joined = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    for begin, stop in spans(start + held, size, hop, least, start):
        yield begin, joined[begin - start : stop - start]


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """What a stream of samples is: its rate in Hz, channels, libsndfile's name of a sample, bytes to come or None."""

    rate: int
    channels: int
    subtype: str
    size: int | None

    @property
    def frame(self) -> int:
        """The bytes of one sample of all channels."""
        return self.channels * next(bits for (_, bits), name in _WAV.items() if name == self.subtype) // 8


def raw(rate: int, form: str = "s16") -> Pipe:
    """Return what headerless samples of one channel at `rate` Hz are; `form` is of `RAW`. Raises AffectError."""
    if form not in RAW:
        raise AffectError(f"raw samples are {' or '.join(RAW)}, not {form!r}")
    if not RATES[0] <= rate <= RATES[1]:
        raise AffectError(f"the rate of raw samples is {rate} Hz: it has to be from {RATES[0]} to {RATES[1]}")
    return Pipe(rate=rate, channels=1, subtype=RAW[form], size=None)


def pipe_blocks(file: BinaryIO, pipe: Pipe | None, rate: int, name: str) -> Iterator[Samples]:
    """Yield the samples [S] at `rate` Hz of a file that can't be sought in; without `pipe` it has to be a wav.

    Raises AffectError where it is empty, no wav, cut off, or not finite; blocks may have come before.
    """
    pipe = wav_header(file, name) if pipe is None else pipe
    yield from resampled(_decoded(file, pipe, name), pipe.rate, rate, name)


def wav_header(file: BinaryIO, name: str) -> Pipe:
    """Read a wav's header up to its samples and return what it says of them; raises AffectError."""
    head = file.read(12)
    if not head:
        raise AffectError(f"{name}: is empty (0 bytes)")
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise AffectError(f"{name}: is no wav; raw samples need their rate (--rate)")
    kind: tuple[int, int] | None = None
    rate = channels = 0
    while len(chunk := file.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data" and kind is not None:
            if kind not in _WAV or not channels or not RATES[0] <= rate <= RATES[1]:
                raise AffectError(
                    f"{name}: is a wav of a kind that is not read ({channels} x {kind[1]} bits, {rate} Hz)"
                )
            size = length if 0 < length < _ENDLESS else None
            return Pipe(rate=rate, channels=channels, subtype=_WAV[kind], size=size)
        if length > _LARGEST_CHUNK:
            break
        body = file.read(length + length % 2)
        if chunk[:4] == b"fmt " and len(body) >= 16:
            tag, channels, rate = (int.from_bytes(body[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8)))
            # An extensible header says later what its samples are.
            tag = int.from_bytes(body[24:26], "little") if tag == 0xFFFE else tag
            kind = (tag, int.from_bytes(body[14:16], "little"))
    raise AffectError(f"{name}: is damaged or truncated, its header leads to no samples")


def _decoded(file: BinaryIO, pipe: Pipe, name: str) -> Iterator[Samples]:
    """Yield the samples [S] at the pipe's own rate, channels averaged."""
    left, come, rest, most = pipe.size, 0, b"", _BLOCK * pipe.frame
    while data := file.read(most if left is None else min(most, left)):
        come += len(data)
        left = None if left is None else left - len(data)
        data = rest + data
        whole = len(data) - len(data) % pipe.frame
        data, rest = data[:whole], data[whole:]
        if data:
            block, _ = soundfile.read(
                io.BytesIO(data), dtype="float32", always_2d=True, format="RAW", subtype=pipe.subtype,
                samplerate=pipe.rate, channels=pipe.channels, endian="LITTLE",
            )  # fmt: skip
            yield mixed(block, name)
    if not come:
        raise AffectError(f"{name}: holds no samples")
    if left:
        raise AffectError(f"{name}: is truncated, {left} bytes fewer than its header promises")
    if rest:
        raise AffectError(f"{name}: is truncated, it ends inside a sample")
