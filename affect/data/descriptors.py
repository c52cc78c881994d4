"""Frame descriptors of a voice: pitch, loudness, spectral balance, formants and cepstrum at a 10 ms hop.

What is measured follows the eGeMAPS list (Eyben et al. 2016, The Geneva Minimalistic Acoustic Parameter Set);
how, is written here from published formulas with NumPy and SciPy alone, so nothing is bound to a research licence.
Legend: S samples, T frames, F features.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray

from affect.data import pitch
from affect.data.pitch import RATE
from affect.errors import AffectError

Array = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]

WINDOW, FFT, BANDS, CEPSTRA = 400, 512, 26, 12
FORMANT_RATE, FORMANT_ORDER, FORMANT_GRID = 10000, 12, 256
FORMANT_RANGES = ((220.0, 1000.0), (800.0, 2700.0), (1900.0, 3900.0))  # Hz
REFERENCE = 27.5  # Hz, 0 semitones
FLOOR = 1e-12  # power: 120 dB under full scale, well under the rounding of 16 bits
NEPER = 10.0 / np.log(10.0)  # dB of a power's natural logarithm

_KILOHERTZ = np.linspace(0.0, RATE / 2, FFT // 2 + 1, dtype=np.float32) / 1000.0
"""The frequency of each bin."""
_HANN = np.hanning(WINDOW).astype(np.float32)
_HANN = (_HANN / np.sqrt(np.mean(_HANN**2) * WINDOW / FFT)).astype(np.float32)
"""The analysis window, scaled so that the mean power of a bin is the signal's."""

FRAME_FEATURES: tuple[str, ...] = (
    "f0",  # semitones over 27.5 Hz; interpolated where unvoiced, 0 where the whole clip is
    "voicing",  # 1 where `f0` was measured, 0 where it was filled in
    "periodicity",  # height of the autocorrelation peak, 0..1
    "energy",  # dB of full scale, floor -120
    "loudness",  # mean over mel bands of power ** 0.3
    "alpha_ratio",  # dB, 50..1000 Hz over 1..5 kHz (openSMILE's is the other way round)
    "hammarberg",  # dB, strongest below 2 kHz over strongest in 2..5 kHz
    "slope_low",  # dB a kHz in 0..500 Hz
    "slope_high",  # dB a kHz in 500..1500 Hz
    "centroid",  # octaves over 1 kHz
    "flatness",  # dB, geometric over arithmetic mean of the power
    "flux",  # change of the unit-sum magnitude spectrum, 0..2
    "f1",  # formants, octaves over 500, 1500 and 2500 Hz
    "f2",
    "f3",
    "h1_h2",  # dB, first over second harmonic; 0 where unvoiced
    *(f"mfcc_{i}" for i in range(1, CEPSTRA + 1)),
    *(f"mel_{i}" for i in range(1, BANDS + 1)),  # dB under the loudest frame's mean, floor -60
)


def frames(waveform: Array, rate: int = RATE) -> Array:
    """Return the descriptors [T, F], named by `FRAME_FEATURES`, of `waveform` [S]; T = 1 + S // 160 at 16 kHz.

    All but `energy` and `loudness` are independent of level, all of a constant offset. Every number is finite: silence
    gives zeros and floors.
    Raises AffectError where the waveform is not one channel of finite numbers.
    """
    waveform = prepare(waveform, rate)
    if len(waveform):
        # A recorder's offset is no sound, and leaks into the low bands of every frame.
        waveform = waveform - np.float32(waveform.mean(dtype=np.float64))
    pitched = pitch.track(waveform)
    power = np.abs(scipy.fft.rfft(pitch.windows(waveform, WINDOW) * _HANN, FFT, axis=1)) ** 2 / FFT
    mel = power @ _mel().T
    # the floor follows the loudest frame, so that digital silence and a quiet room look alike
    loudest = float(mel.mean(axis=1).max())
    floor = max(1e-6 * loudest, FLOOR)
    decibel = 10.0 * np.log10(power + floor)
    bands = 10.0 * np.log10(mel + floor)
    cepstrum = scipy.fft.dct(bands / NEPER, axis=1, norm="ortho")[:, 1 : CEPSTRA + 1]
    energy = 10.0 * np.log10(power.mean(axis=1) + FLOOR)
    columns = [
        _semitones(pitched), pitched.voiced, pitched.periodicity, energy, (mel**0.3).mean(axis=1),
        *_balance(power, decibel, floor), *_formants(power), _first_harmonics(pitched), *cepstrum.T,
        *(bands - 10.0 * np.log10(max(loudest, floor))).T,
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float32)


def prepare(waveform: Array, rate: int) -> Array:
    """Return `waveform` [S] as float32 at 16 kHz; raises AffectError where it is not one channel of finite numbers.

    Whole numbers are refused: they say nothing of what full scale is.
    """
    given = np.asarray(waveform)
    if given.dtype.kind != "f":
        raise AffectError(
            f"prosody needs samples from -1 to 1 in floating point, not {given.dtype}: "
            "divide by full scale (32768 for 16 bits)"
        )
    waveform = given.astype(np.float32, copy=False)
    if waveform.ndim != 1:
        raise AffectError(f"prosody needs one channel, a waveform of shape [samples], not {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise AffectError("prosody can't be computed: the waveform holds NaN or infinity")
    if rate == RATE or not len(waveform):
        return waveform
    return np.asarray(soxr.resample(waveform, rate, RATE), np.float32)


@lru_cache(maxsize=1)
def _mel() -> Array:
    """Return the mel filters [BANDS, FFT / 2 + 1], each of unit sum."""
    # Imported here: half a second that who has functionals in the cache has no use for.
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(FFT // 2 + 1, BANDS, 50.0, 7600.0, RATE, mel_scale="slaney").T
    return np.asarray(filters / filters.sum(axis=1, keepdims=True), np.float32)


def _between(low: float, high: float) -> slice:
    """Return the bins from `low` to `high` Hz."""
    return slice(int(np.ceil(low * FFT / RATE)), int(high * FFT / RATE) + 1)


def _semitones(pitched: pitch.Pitch) -> Array:
    """Return the pitch [T] in semitones, unvoiced frames interpolated (held at the ends), 0 if none is voiced."""
    where = np.flatnonzero(pitched.voiced)
    if not len(where):
        return np.zeros(len(pitched.hertz), dtype=np.float32)
    measured = 12.0 * np.log2(pitched.hertz[where] / REFERENCE)
    return np.asarray(np.interp(np.arange(len(pitched.hertz)), where, measured), np.float32)


def _balance(power: Numbers, decibel: Numbers, floor: float) -> list[Numbers]:
    """Return alpha ratio, Hammarberg index, the two slopes, centroid, flatness and flux, each [T]."""
    low = power[:, _between(50, 1000)].sum(axis=1) + floor
    high = power[:, _between(1000, 5000)].sum(axis=1) + floor
    strongest = decibel[:, _between(0, 2000)].max(axis=1) - decibel[:, _between(2000, 5000)].max(axis=1)
    slopes = []
    for band in (_between(0, 500), _between(500, 1500)):
        x = _KILOHERTZ[band] - _KILOHERTZ[band].mean()
        slopes.append(decibel[:, band] @ x / (x @ x))
    audible = power[:, 1:] + floor
    centroid = np.log2(np.maximum(audible @ _KILOHERTZ[1:] / audible.sum(axis=1), 1e-3))
    flatness = decibel[:, 1:].mean(axis=1) - 10.0 * np.log10(audible.mean(axis=1))
    shape = np.sqrt(power)
    shape /= np.maximum(shape.sum(axis=1, keepdims=True), 1e-6)
    flux = np.abs(np.diff(shape, axis=0, prepend=shape[:1])).sum(axis=1)
    return [10.0 * np.log10(low / high), strongest, *slopes, centroid, flatness, flux]


def _first_harmonics(pitched: pitch.Pitch) -> Array:
    """Return the level of the first harmonic over the second [T] in dB, 0 where unvoiced."""
    decibel = 10.0 * np.log10(pitched.power + 1e-10)
    first = pitched.hertz * pitch.FFT / RATE
    levels = []
    for harmonic in (1, 2):
        near = np.rint(first * harmonic).astype(np.int64)[:, None] + np.arange(-1, 2)
        levels.append(np.take_along_axis(decibel, np.clip(near, 0, decibel.shape[1] - 1), axis=1).max(axis=1))
    return np.where(pitched.voiced, np.clip(levels[0] - levels[1], -40.0, 40.0), 0.0).astype(np.float32)


def _formants(power: Numbers) -> list[Array]:
    """Return F1 to F3 [T], octaves over 500, 1500, 2500 Hz: peaks of the linear-prediction envelope below 5 kHz."""
    band = power[:, : int(FORMANT_RATE / 2 * FFT / RATE) + 1]
    # 6 dB an octave of pre-emphasis, so that the voice's own tilt does not hide the upper formants
    emphasis = np.sin(np.pi * np.arange(band.shape[1]) / (2 * band.shape[1])) ** 2 + 1e-3
    correlation = scipy.fft.irfft(band * emphasis.astype(np.float32), axis=1)[:, : FORMANT_ORDER + 1].astype(np.float64)
    correlation /= np.maximum(correlation[:, :1], 1e-20)
    correlation[:, 0] = 1.0001  # a little white noise keeps the recursion stable, also in silence
    lag = np.abs(np.subtract.outer(np.arange(FORMANT_ORDER), np.arange(FORMANT_ORDER)))
    predictor = np.linalg.solve(correlation[:, lag], -correlation[:, 1:, None])[:, :, 0]
    response = np.abs(scipy.fft.rfft(np.insert(predictor, 0, 1.0, axis=1), 2 * FORMANT_GRID, axis=1))
    envelope = -np.log(response + 1e-9)
    left, middle, right = envelope[:, :-2], envelope[:, 1:-1], envelope[:, 2:]
    peak = (middle > left) & (middle >= right)
    shift = 0.5 * (left - right) / np.minimum(left - 2.0 * middle + right, -1e-9)  # a parabola's, between bins
    bins = np.arange(1, middle.shape[1] + 1) + np.where(peak, shift, 0.0)
    hertz = bins * FORMANT_RATE / 2 / FORMANT_GRID
    formants: list[Array] = []
    below = np.zeros(len(power))
    for centre, (low, high) in zip((500.0, 1500.0, 2500.0), FORMANT_RANGES, strict=True):
        # the lowest peak of its range above the formant before; without one the neutral vowel's
        allowed = peak & (hertz >= low) & (hertz <= high) & (hertz > below[:, None] + 150.0)
        lowest = np.take_along_axis(hertz, allowed.argmax(axis=1)[:, None], axis=1)[:, 0]
        below = np.where(allowed.any(axis=1), lowest, centre)
        formants.append(np.log2(below / centre).astype(np.float32))
    return formants
