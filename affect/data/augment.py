"""Changes to training recordings [S samples], each a function of (seed, epoch, ids) alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import noise as noises
from affect.errors import AffectError

Samples = NDArray[np.float32]


def number(seed: int, epoch: int, *ids: str, what: str) -> int:
    """Return a number in [0, 2^63) that these arguments decide on any machine; each use `what` has its own stream."""
    return int.from_bytes(_digest(seed, epoch, *ids, what=what)[:8], "little") >> 1


def generator(seed: int, epoch: int, *ids: str, what: str) -> Generator:
    """Return a random generator that these arguments decide, as in `number`."""
    return np.random.default_rng(int.from_bytes(_digest(seed, epoch, *ids, what=what), "little"))


def _digest(seed: int, epoch: int, *ids: str, what: str) -> bytes:
    # repr keeps the parts apart: ("a", "bc") is not ("ab", "c").
    text = repr((int(seed), int(epoch), what, [str(id) for id in ids]))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is changed about training recordings; everything is off by default.

    `stretch`: largest change of tempo, .1 up to a tenth faster or slower, pitch kept. `shift`: longest shift
    in time, in seconds. `noise`: lowest and highest signal-to-noise ratio in dB of added noise, which is
    generated, or taken from `noise_files` (`noise.recordings` lists a folder's). `gain`: largest change of
    level, in dB. `mixup`: alpha of the Beta distribution by which two utterances are mixed.
    """

    stretch: float = 0.0
    shift: float = 0.0
    noise: tuple[float, float] | None = None
    noise_files: tuple[str, ...] = ()
    gain: float = 0.0
    mixup: float = 0.0

    def apply(self, wave: Samples, rate: int, seed: int, epoch: int, id: str) -> Samples:
        """Return `wave` [S] changed, but not mixed; raises AffectError where a noise recording can't be read."""
        if self.stretch:
            wave = stretch(wave, self.stretch, generator(seed, epoch, id, what="stretch"))
        if self.shift:
            wave = shift(wave, self.shift * rate, generator(seed, epoch, id, what="shift"))
        if self.noise is not None:
            random = generator(seed, epoch, id, what="noise")
            wave = add_noise(wave, self.noise, random, files=self.noise_files, rate=rate)
        if self.gain:
            wave = gain(wave, self.gain, generator(seed, epoch, id, what="gain"))
        return wave


_WINDOW, _HOP = 1024, 256
"""64 ms and 16 ms at 16 kHz: several periods of any voice, and little smearing of consonants."""


def stretch(wave: Samples, strength: float, random: Generator) -> Samples:
    """Return `wave` [S] at another tempo and the same pitch, round(S / r) samples, at least one.

    The tempo r = (1 + strength)^u, u uniform in [-1, 1]: at most `strength` faster, as often faster as
    slower. Strength 0 returns `wave` itself. A phase vocoder.
    """
    tempo = (1.0 + strength) ** random.uniform(-1.0, 1.0)
    if tempo == 1.0:
        return wave
    return _at_tempo(np.asarray(wave, np.float32), tempo, max(1, round(len(wave) / tempo)))


def _at_tempo(wave: Samples, tempo: float, size: int) -> Samples:
    """Return `size` samples of `wave` [S] played `tempo` times as fast, its pitch kept.

    Spectra are read between the wave's own, and each bin's phase goes on by what it advances there in one hop (Flanagan
    and Golden 1966, Phase Vocoder). As librosa.effects.time_stretch, whose compiled kernels several processes that
    start in a new environment may read from one cache while it is written: one crashed of that.
    """
    window = np.hanning(_WINDOW + 1)[:-1]
    # What is shorter than a window is stretched with silence behind it, which is cut off again.
    padded = np.pad(wave, (_WINDOW // 2, _WINDOW // 2 + max(0, _WINDOW - len(wave))))
    spectra = np.fft.rfft(sliding_window_view(padded, _WINDOW)[::_HOP] * window.astype(np.float32), axis=1)  # [T, K]
    at = np.arange(0, len(spectra), tempo)
    index = at.astype(int)
    share = (at - index)[:, None]
    # By two: rounding may put the last place at the end.
    spectra = np.pad(spectra, ((0, 2), (0, 0)))
    here, following = spectra[index], spectra[index + 1]
    # Whole turns don't matter: pieces are set down at the hop that they were taken at.
    advance = np.angle(following) - np.angle(here).astype(np.float64)
    phase = np.cumsum(np.concatenate([np.angle(spectra[:1]), advance[:-1]]), axis=0)
    magnitude = (1.0 - share) * np.abs(here) + share * np.abs(following)
    pieces = np.fft.irfft(magnitude * np.exp(1j * phase), axis=1) * window
    shares = _WINDOW // _HOP
    sound, weight = np.zeros((2, len(pieces) + shares - 1, _HOP))
    for part in range(shares):
        rows, columns = slice(part, part + len(pieces)), slice(part * _HOP, (part + 1) * _HOP)
        sound[rows] += pieces[:, columns]
        weight[rows] += window[columns] ** 2
    whole = (sound / np.maximum(weight, 1e-8)).reshape(-1)[_WINDOW // 2 :]
    return np.ascontiguousarray(whole[:size], dtype=np.float32)


def shift(wave: Samples, longest: float, random: Generator) -> Samples:
    """Return `wave` [S] moved by up to `longest` samples to either side, zeros moving in; its length stays.

    What moves out is never more than half of the energy, so some speech stays whatever the recording is like.
    """
    drawn = round(random.uniform(-longest, longest))
    if not drawn:
        return wave
    exact = np.asarray(wave, np.float64)
    energy = np.cumsum((exact - exact.mean()) ** 2)
    middle = int(np.searchsorted(energy, energy[-1] / 2))
    moved = np.zeros_like(wave, dtype=np.float32)
    if drawn > 0:
        # The last `by` samples leave: those before them must hold half.
        by = min(drawn, len(wave) - 1 - middle)
        moved[by:] = wave[: len(wave) - by]
    else:
        by = min(-drawn, middle)
        moved[: len(wave) - by] = wave[by:]
    return moved


def add_noise(
    wave: Samples, decibels: tuple[float, float], random: Generator, *, files: Sequence[str] = (), rate: int = 16_000
) -> Samples:
    """Return `wave` [S] with noise at a signal-to-noise ratio drawn from `decibels`, lowest and highest.

    The ratio is that of the powers (about the mean) of the whole recording. The noise is generated, between
    white and pink, or an excerpt of one of `files`. Silence stays silent: nothing has a ratio to it. So does a
    recording whose excerpt is silent. Raises AffectError where a file can't be read.
    """
    ratio = random.uniform(*decibels)
    added: NDArray[np.floating[Any]]
    if files:
        added = noises.excerpt(files[int(random.integers(len(files)))], len(wave), rate, random)
    else:
        added = noises.coloured(len(wave), random)
    have = noises.power(added)
    if not have:
        return wave
    scale = math.sqrt(noises.power(wave) / have * 10.0 ** (-ratio / 10.0))
    return np.asarray(wave + scale * (added - added.mean(dtype=np.float64)), np.float32)


def gain(wave: Samples, largest: float, random: Generator) -> Samples:
    """Return `wave` [S] at a level changed by up to `largest` dB, down, or up to a peak of 1, so that nothing clips."""
    factor = 10.0 ** (random.uniform(-largest, largest) / 20.0)
    peak = float(np.abs(wave).max())
    if factor > 1.0 and peak * factor > 1.0:
        factor = max(1.0, 1.0 / peak)
    return np.asarray(wave * np.float32(factor), np.float32)


def partner(ids: Sequence[str], seed: int, epoch: int, id: str) -> int:
    """Return the place in `ids` of what `id` is mixed with, any other alike; raises AffectError if there is none."""
    random = generator(seed, epoch, id, what="partner")
    if len(ids) < 2:
        raise AffectError("mixup needs two training utterances at least")
    place = int(random.integers(len(ids)))
    while ids[place] == id:
        place = int(random.integers(len(ids)))
    return place


def share(alpha: float, seed: int, epoch: int, id: str, other: str) -> float:
    """Return the larger part of a draw from Beta(alpha, alpha): a mix keeps the length and the group of `id`."""
    drawn = float(generator(seed, epoch, id, other, what="share").beta(alpha, alpha))
    return max(drawn, 1.0 - drawn)


def mix(wave: Samples, other: Samples, share: float) -> Samples:
    """Return `share` of `wave` [S] and 1 - `share` of another utterance, as loud as `wave`.

    The other is cut, or followed by zeros, to S, brought to the level of `wave` (root mean square about the
    mean), so that what is heard of it is what its labels weigh; the sum is scaled to keep that level. Source: Zhang
    et al. 2018, and, for the levels, Tokozume et al. 2018.
    """
    if share == 1.0:
        return wave
    kept = other[: len(wave)]
    fitted = np.pad(kept.astype(np.float64), (0, len(wave) - len(kept)))
    level = noises.power(kept)
    if level:
        fitted *= math.sqrt(noises.power(wave) / level)
    mixed = (share * wave + (1.0 - share) * fitted) / math.hypot(share, 1.0 - share)
    return np.asarray(mixed, np.float32)
