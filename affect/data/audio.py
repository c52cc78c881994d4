"""Speech [S samples] from files and bytes: any rate and bit depth; wav, flac, mp3 and ogg, by soundfile and soxr."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affect.data.container import named, opened
from affect.errors import AffectError

Samples = NDArray[np.float32]

_BLOCK = 1 << 16
"""Samples read at once."""
_AROUND = 1 << 10
"""Samples around a piece of a file that its resampling sees: a filter of soxr is shorter."""
RATES = (1_000, 1_000_000)
"""Sampling rates (Hz) outside are a damaged header: resampling from 1 Hz would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a recording is: its duration in seconds, its sampling rate in Hz and its channels."""

    duration: float
    rate: int
    channels: int


def load(source: str | Path | bytes, rate: int = 16_000, name: str | None = None) -> Samples:
    """Return the samples [S] at `rate` Hz of a file, or of its bytes, channels averaged; `name` is for error messages.

    Raises AffectError where it is missing, unreadable, empty, without samples, cut off or not finite.
    """
    name = named(source, name, "audio")
    with _opened(source, name) as sound:
        samples = np.concatenate(list(_mono_blocks(sound, name)))
        if sound.samplerate != rate:
            samples = np.asarray(soxr.resample(samples, sound.samplerate, rate, quality="HQ"), np.float32)
    if not len(samples):
        raise AffectError(f"{name}: too short to hold a sample at {rate} Hz")
    return samples


def span(path: str | Path, start: int, size: int, rate: int = 16_000) -> Samples:
    """Return `size` samples at `rate` Hz of a file from its sample `start` (at `rate`) on, as `load` gives the whole.

    It reads no more of the file than that, and a little around it. Raises AffectError as `load` does, and where the
    file ends before.
    """
    name = str(path)
    with _opened(path, name) as sound:
        # Output samples meet those of the file every `step` and `hop` samples: there a piece may begin.
        divisor = math.gcd(sound.samplerate, rate)
        step, hop = sound.samplerate // divisor, rate // divisor
        around = 0 if sound.samplerate == rate else _AROUND
        first = max(0, start // hop - -(-around // step))
        stop = -(-(start + size) * step // hop) + around
        try:
            sound.seek(min(first * step, sound.frames))
            samples = mixed(sound.read(stop - first * step, dtype="float32", always_2d=True), name)
        except soundfile.LibsndfileError as error:
            raise AffectError(f"{name}: is damaged or truncated, decoding fails in samples {first} on") from error
        if sound.samplerate != rate and len(samples):
            samples = np.asarray(soxr.resample(samples, sound.samplerate, rate, quality="HQ"), np.float32)
    wanted = samples[start - first * hop :][:size]
    if len(wanted) < size:
        raise AffectError(f"{name}: ends {size - len(wanted)} samples before sample {start + size} at {rate} Hz")
    return wanted


def of_row(row: Mapping[str, Any], rate: int = 16_000) -> Samples:
    """Return the samples [S] of a row of any corpus: its `audio`'s bytes, else its `path`, else `audio`'s path."""
    audio = row.get("audio")
    if isinstance(audio, Mapping):
        if audio.get("bytes") is not None:
            return load(audio["bytes"], rate, name=f"the audio of {row.get('id', '?')!r}")
        audio = audio.get("path")
    path = row.get("path") or audio
    if not path:
        raise AffectError(f"row {row.get('id', '?')!r} has no audio: neither `audio` nor `path`")
    return load(path, rate)


@contextmanager
def stream(path: str | Path, rate: int = 16_000) -> Iterator[tuple[float, Iterator[Samples]]]:
    """Open a file to be read bit by bit: its length in seconds (mp3: a guess) and its samples, as `load` gives them.

    The samples at `rate` Hz come in blocks [S], in memory that does not grow with the file. Raises AffectError as
    `load` does, where the damage is reached: blocks may have come before.
    """
    with _opened(path, str(path)) as sound:
        blocks = resampled(_mono_blocks(sound, str(path)), sound.samplerate, rate, str(path))
        yield sound.frames / sound.samplerate, blocks


def resampled(blocks: Iterable[Samples], source: int, rate: int, name: str) -> Iterator[Samples]:
    """Yield `blocks` [S] at `source` Hz as blocks at `rate` Hz; raises AffectError where nothing comes out."""
    empty = True
    for block in blocks if source == rate else _resampled(blocks, source, rate):
        if len(block):
            empty = False
            yield block
    if empty:
        raise AffectError(f"{name}: too short to hold a sample at {rate} Hz")


def _resampled(blocks: Iterable[Samples], source: int, rate: int) -> Iterator[Samples]:
    resampler = soxr.ResampleStream(source, rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def check(source: str | Path | bytes, name: str | None = None) -> AudioInfo:
    """Decode a whole file, in blocks, and return what it is; raises AffectError as `load` does."""
    name = named(source, name, "audio")
    with _opened(source, name) as sound:
        frames = sum(len(block) for block in _mono_blocks(sound, name))
        return AudioInfo(duration=frames / sound.samplerate, rate=sound.samplerate, channels=sound.channels)


@contextmanager
def _opened(source: str | Path | bytes, name: str) -> Iterator[soundfile.SoundFile]:
    """Open a decoder, having held the file against its own header."""
    with opened(source, name, "audio") as file:
        try:
            sound = soundfile.SoundFile(file)
        except (soundfile.LibsndfileError, TypeError) as error:
            # The message of a LibsndfileError names the Python object that was opened; its code says enough.
            reason = getattr(error, "error_string", "") or "unknown format"
            raise AffectError(f"{name}: is not readable audio ({reason.rstrip('.')})") from error
        with sound:
            check_rate(sound.samplerate, name)
            yield sound


def check_rate(rate: int, name: str) -> None:
    """Raise AffectError for a sampling rate that no recording has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise AffectError(f"{name}: has a sampling rate of {rate} Hz; its header must be damaged")


def mixed(block: Samples, name: str) -> Samples:
    """Return the mean [S] over the channels of `block` [S, C]; raises AffectError where it is not finite."""
    mono: Samples = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AffectError(f"{name}: holds NaN or infinite samples")
    return mono


def _mono_blocks(sound: soundfile.SoundFile, name: str) -> Iterator[Samples]:
    """Yield all samples in blocks [S], channels averaged; raises AffectError where they are not to be used."""
    done = 0
    try:
        while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
            done += len(block)
            yield mixed(block, name)
    except soundfile.LibsndfileError as error:
        raise AffectError(f"{name}: is damaged or truncated, decoding fails after {done} samples") from error
    if not done:
        raise AffectError(f"{name}: holds no samples")
    # An mp3 without a Xing header has an estimated length, so only the other formats can be held to theirs.
    if sound.format != "MP3" and done < sound.frames < 1 << 62:
        raise AffectError(f"{name}: is truncated, {sound.frames} samples are promised and {done} are there")
