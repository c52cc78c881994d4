"""Speech [S samples] from files and bytes of any rate and bit depth, by soundfile and soxr, or else by PyAV.

wav, flac, mp3, ogg and aiff are soundfile's; m4a, mp4, webm, aac, wma and the sound of videos are PyAV's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from affect.data.container import named, opened
from affect.data.stillness import Span, Stillness
from affect.errors import AffectError

Samples = NDArray[np.float32]

_BLOCK = 1 << 16
"""Samples read at once."""
_AROUND = 1 << 10
"""Samples around a piece of a file that its resampling sees: a filter of soxr is shorter."""
_ROUNDED = 2
"""Samples by which a piece may end after its file: durations and resampling are rounded."""
RATES = (1_000, 1_000_000)
"""Sampling rates (Hz) outside are a damaged header: resampling from 1 Hz would fill the memory."""
_OWN = (b"RIFF", b"RF64", b"RIFX", b"FORM", b"fLaC", b"OggS", b"ID3")
"""How files begin that soundfile reads: what it refuses of them is damaged, and FFmpeg would play it all the same."""


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a recording is: its duration in seconds, its sampling rate in Hz, its channels, where it is still.

    `still` are stretches (start, end in seconds) in which nothing is heard, or the signal stays where it is.
    """

    duration: float
    rate: int
    channels: int
    still: tuple[Span, ...] = ()


class _Sound(NamedTuple):
    """An open recording: Hz, channels, seconds by its header, blocks [S]; the file where pieces of it can be read."""

    rate: int
    channels: int
    seconds: float
    blocks: Iterator[Samples]
    file: soundfile.SoundFile | None


def load(source: str | Path | bytes, rate: int = 16_000, name: str | None = None) -> Samples:
    """Return the samples [S] at `rate` Hz of a file, or of its bytes, channels averaged; `name` is for error messages.

    Raises AffectError where it is missing, unreadable, empty, without samples, cut off or not finite.
    """
    name = named(source, name, "audio")
    with _opened(source, name) as sound:
        samples = np.concatenate(list(sound.blocks))
        if sound.rate != rate:
            samples = np.asarray(soxr.resample(samples, sound.rate, rate, quality="HQ"), np.float32)
    if not len(samples):
        raise AffectError(f"{name}: too short to hold a sample at {rate} Hz")
    return samples


def span(source: str | Path | bytes, start: int, size: int, rate: int = 16_000, name: str | None = None) -> Samples:
    """Return `size` samples at `rate` Hz of a file from its sample `start` (at `rate`) on, as `load` gives the whole.

    It reads no more of the file than that, and a little around it, but all of what PyAV reads. Raises AffectError as
    `load` does, and where the file ends before.
    """
    name = named(source, name, "audio")
    wanted = _piece(source, start, size, rate, name)
    if len(wanted) < size:
        raise AffectError(f"{name}: ends {size - len(wanted)} samples before sample {start + size} at {rate} Hz")
    return wanted


def _piece(source: str | Path | bytes, start: int, size: int, rate: int, name: str) -> Samples:
    """Return what there is of `size` samples from `start` on."""
    with _opened(source, name) as sound:
        file = sound.file
        if file is None:
            return np.concatenate(list(resampled(sound.blocks, sound.rate, rate, name)))[start:][:size]
        # Output samples meet those of the file every `step` and `hop` samples: there a piece may begin.
        divisor = math.gcd(file.samplerate, rate)
        step, hop = file.samplerate // divisor, rate // divisor
        around = 0 if file.samplerate == rate else _AROUND
        first = max(0, start // hop - -(-around // step))
        stop = -(-(start + size) * step // hop) + around
        try:
            file.seek(min(first * step, file.frames))
            samples = mixed(file.read(stop - first * step, dtype="float32", always_2d=True), name)
        except soundfile.LibsndfileError as error:
            raise AffectError(f"{name}: is damaged or truncated, decoding fails in samples {first} on") from error
        if file.samplerate != rate and len(samples):
            samples = np.asarray(soxr.resample(samples, file.samplerate, rate, quality="HQ"), np.float32)
    return samples[start - first * hop :][:size]


def of_row(row: Mapping[str, Any], rate: int = 16_000) -> Samples:
    """Return the samples [S] of a row of any corpus: its `audio`'s bytes, else its `path`, else `audio`'s path.

    With an `offset` it is the `duration` from there on (both in seconds) that the row speaks of.
    """
    audio, name = row.get("audio"), f"the audio of {row.get('id', '?')!r}"
    source = audio.get("bytes") if isinstance(audio, Mapping) else None
    if source is None:
        source = row.get("path") or (audio.get("path") if isinstance(audio, Mapping) else audio)
        if not source:
            raise AffectError(f"row {row.get('id', '?')!r} has no audio: neither `audio` nor `path`")
        name = str(source)
    offset = row.get("offset")
    if offset is None or math.isnan(offset):
        return load(source, rate, name)
    return part(source, offset, offset + row["duration"], rate, name=name, whose=repr(row.get("id", "?")))


def part(
    source: str | Path | bytes, start: float, end: float, rate: int = 16_000, *, name: str | None = None,
    whose: str = "what is cut out",
) -> Samples:  # fmt: skip
    """Return the samples [S] at `rate` Hz from `start` to `end` (seconds; infinite: to its end), as `load` does.

    Raises AffectError as `load` does, and where the file ends before, with `whose` end that is.
    """
    name = named(source, name, "audio")
    first = round(start * rate)
    if end == math.inf:
        samples, size = load(source, rate, name)[first:], 1
    else:
        size = round(end * rate) - first
        samples = _piece(source, first, size, rate, name)
    if len(samples) < size - _ROUNDED or not len(samples):
        raise AffectError(f"{name}: ends before {end:.3f} s, where {whose} ends")
    return samples


@contextmanager
def stream(path: str | Path, rate: int = 16_000) -> Iterator[tuple[float, Iterator[Samples]]]:
    """Open a file to be read bit by bit: its length in seconds (mp3: a guess) and its samples, as `load` gives them.

    The samples at `rate` Hz come in blocks [S], in memory that does not grow with the file. Raises AffectError as
    `load` does, where the damage is reached: blocks may have come before.
    """
    with _opened(path, str(path)) as sound:
        yield sound.seconds, resampled(sound.blocks, sound.rate, rate, str(path))


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
        stillness = Stillness(sound.rate)
        for block in sound.blocks:
            stillness.hear(block)
        duration = stillness.samples / sound.rate
        return AudioInfo(duration=duration, rate=sound.rate, channels=sound.channels, still=stillness.spans())


@contextmanager
def _opened(source: str | Path | bytes, name: str) -> Iterator[_Sound]:
    """Open a decoder, having held the file against its own header."""
    refused: Exception | None = None
    with opened(source, name, "audio") as file:
        head = file.read(12)
        file.seek(0)
        # Bare AAC begins as an mp3 does, but for its layer.
        if len(head) < 2 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
            try:
                sound = soundfile.SoundFile(file)
            except (soundfile.LibsndfileError, TypeError) as error:
                refused = error
            else:
                with sound:
                    check_rate(sound.samplerate, name)
                    seconds, blocks = sound.frames / sound.samplerate, _mono_blocks(sound, name)
                    yield _Sound(sound.samplerate, sound.channels, seconds, blocks, sound)
                return
    # The message of a LibsndfileError names the Python object that was opened; its code says enough.
    reason = (getattr(refused, "error_string", "") or "unknown format").rstrip(".")
    if head.startswith(_OWN) and head[8:] != b"AVI ":
        raise AffectError(f"{name}: is not readable audio ({reason})") from refused
    with _by_pyav(source, name, reason) as decoded:
        yield decoded


@contextmanager
def _by_pyav(source: str | Path | bytes, name: str, reason: str) -> Iterator[_Sound]:
    """Open the sound of what soundfile does not read, for a `reason` that counts where FFmpeg knows nothing of it."""
    # Imported here: most corpora have no use for it.
    from affect.data import pyav

    if not pyav.readable(source, name):
        raise AffectError(f"{name}: is not readable audio ({reason})")
    with pyav.sound(source, name) as sound:
        if sound is None:
            raise AffectError(f"{name}: has no sound")
        if not sound.rate:
            raise AffectError(f"{name}: holds no samples")
        check_rate(sound.rate, name)
        blocks = (mixed(block, name) for block in sound.blocks)
        yield _Sound(sound.rate, sound.channels, sound.seconds, blocks, None)


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
