"""Fundamental frequency by autocorrelation and a best path, after Boersma (1993), in plain NumPy.

Source: P. Boersma, Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
ratio of a sampled sound, IFA Proceedings 17 (1993). Every window's FFT is done at once; only the search for
the best path walks over the frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE = 16000
HOP = 160
WINDOW = 768  # 48 ms: three periods of LOWEST, and WINDOW + longest lag still fits FFT without wrapping
FFT = 1024
LOWEST, HIGHEST = 65.0, 500.0  # Hz
CEILING = 2 * HIGHEST  # Hz, to which periods are looked for: what has its own above HIGHEST is no voice of half that
CANDIDATES = 8  # voiced candidates a frame: as many periods of HIGHEST as there are down to LOWEST

SILENCE, VOICING, OCTAVE, JUMP, SWITCH = 0.03, 0.45, 0.01, 0.35, 0.14  # the paper's costs, for a 10 ms hop

_BLOCK = 128
"""Windows that are transformed at once: more than a core's cache holds is no faster."""
_FIRST, _LAST = int(RATE / CEILING), int(RATE / LOWEST)
"""The shortest and the longest lag in samples."""
_COST = (OCTAVE * np.log2(LOWEST / RATE * np.arange(_FIRST, _LAST + 1))).astype(np.float32)
"""What a candidate loses by its lag; the longest loses nothing, shorter ones gain."""
_TAPS = np.arange(-4.5, 5.0)
_BETWEEN = np.sinc(_TAPS) * np.cos(np.pi * _TAPS / (_TAPS.size + 1)) ** 2
_BETWEEN = (_BETWEEN / _BETWEEN.sum()).astype(np.float32)
"""What the values at ten lags give in their middle, between two samples: right to .2 % up to 4 kHz."""
_BEFORE = _TAPS.size // 2
_LAGS = _LAST + 1 + _BEFORE
_HANN = np.hanning(WINDOW).astype(np.float32)
_HANN_CORRELATION = np.correlate(_HANN, _HANN, "full")[WINDOW - 1 :][:_LAGS]
_HANN_CORRELATION = (_HANN_CORRELATION / _HANN_CORRELATION[0]).astype(np.float32)
"""The window's normalised autocorrelation up to the longest lag, and what lies around it."""


@dataclass(frozen=True)
class Pitch:
    """A pitch track at a 10 ms hop: `hertz` [T] (0 where unvoiced), `periodicity` [T] in 0..1, `voiced` [T].

    `power` [T, 513] is the spectrum of the 48 ms windows, for measures at the harmonics.
    """

    hertz: Array
    periodicity: Array
    voiced: NDArray[np.bool_]
    power: Array


def windows(waveform: Array, length: int) -> Array:
    """Return the zero-padded windows [T, length] centred on every hop of `waveform` [S]; T = 1 + S // 160."""
    padded = np.pad(waveform, (length // 2, length))[: len(waveform) // HOP * HOP + length]
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::HOP]


def track(waveform: Array) -> Pitch:
    """Track the pitch of `waveform` [S], float32 at 16 kHz, from 65 to 500 Hz; what is higher counts as unvoiced."""
    cut = windows(waveform, WINDOW)
    cut = cut - cut.mean(axis=1, keepdims=True)
    peak = np.abs(cut).max(axis=1)
    blocks = [_periods(cut[start : start + _BLOCK]) for start in range(0, len(cut), _BLOCK)]
    power, lags, strength = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    relative = peak / max(float(peak.max()), 1e-9)
    unvoiced = VOICING + np.maximum(0.0, 2.0 - relative / (SILENCE / (1.0 + VOICING)))
    local = np.where(strength > 0, strength - OCTAVE * np.log2(LOWEST * lags / RATE), -10.0)
    path = _best_path(np.column_stack([unvoiced, local]), np.log2(lags))
    chosen = np.maximum(path - 1, 0)[:, None]
    # Half a sample short of the shortest period, as a peak is known to.
    within = lags > RATE / HIGHEST - 0.5
    voiced = (path > 0) & np.take_along_axis(within, chosen, 1)[:, 0]
    hertz = np.where(voiced, RATE / np.take_along_axis(lags, chosen, 1)[:, 0], 0.0)
    highest = strength.max(axis=1, where=within, initial=0.0)
    best = np.where(voiced, np.take_along_axis(strength, chosen, 1)[:, 0], highest)
    # a silent frame has no periodicity, whatever its rounding noise correlates with
    periodicity = np.where(peak > 1e-5, np.clip(best, 0.0, 1.0), 0.0)
    voiced &= peak > 1e-5
    hertz = np.where(voiced, hertz, 0.0)
    return Pitch(hertz.astype(np.float32), periodicity.astype(np.float32), voiced, power)


def _periods(cut: Array) -> tuple[Array, Array, Array]:
    """Return the spectra [T, 513] of windows [T, 768], and the lags and strengths [T, K] of their candidates."""
    power = np.abs(scipy.fft.rfft(cut * _HANN, FFT, axis=1)) ** 2
    correlation = scipy.fft.irfft(power, FFT, axis=1)[:, :_LAGS]
    correlation = correlation / np.maximum(correlation[:, :1], 1e-12) / _HANN_CORRELATION
    return power, *_candidates(correlation)


def _candidates(correlation: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
    """Return the lags [T, K] in samples and strengths [T, K] of the best peaks, refined by a parabola.

    At whole samples the peak of a high voice looks lower than that of its double period, which may lie closer to one.
    So the parabola is laid through lags half a sample apart.
    """
    whole = correlation[:, _FIRST - 1 : _LAST + 2]
    halves = _halves(correlation)
    left, middle, right = whole[:, :-2], whole[:, 1:-1], whole[:, 2:]
    # By what the path will rate them: of a steady tone each multiple of the period is as high.
    rated = np.maximum(np.maximum(halves[:, :-1], halves[:, 1:]), middle) - _COST
    peaks = np.where((middle > left) & (middle >= right) & (middle > 0), rated, 0.0)
    top = np.argpartition(peaks, -CANDIDATES, axis=1)[:, -CANDIDATES:]
    there = np.take_along_axis(peaks, top, axis=1) > 0
    around = (left, halves[:, :-1], middle, halves[:, 1:], right)
    a, b, c, d, e = (np.take_along_axis(x, top, axis=1) for x in around)
    before, after = (b > c) & (b > d), (d > c) & (d >= b)
    low, high, next_ = (np.where(before, x, np.where(after, z, y)) for x, y, z in ((a, b, c), (b, c, d), (c, d, e)))
    curve = low - 2.0 * high + next_
    shift = np.clip(np.where(curve < -1e-9, 0.5 * (low - next_) / np.minimum(curve, -1e-9), 0.0), -0.5, 0.5)
    height = np.where(there, high - 0.25 * (low - next_) * shift, 0.0)
    # above 1 the estimate is an artefact of dividing by the window: reflect it, as the paper does
    height = np.where(height > 1.0, 1.0 / np.maximum(height, 1.0), height)
    lags = top + _FIRST + 0.5 * (shift + after - before)
    return lags.astype(np.float32), height.astype(np.float32)


def _halves(correlation: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return the correlation [T, L + 1] half a sample before and behind each of the lags from the shortest on."""
    first, size = _FIRST - _BEFORE, _LAST - _FIRST + 2
    halves: NDArray[np.floating[Any]] = _BETWEEN[0] * correlation[:, first : first + size]
    for k, tap in enumerate(_BETWEEN[1:], first + 1):
        halves += tap * correlation[:, k : k + size]
    return halves


def _best_path(local: Array, log_lags: Array) -> NDArray[np.int64]:
    """Return the candidate of each frame [T] (0 unvoiced) on the path of the highest total strength."""
    frames, states = local.shape
    cost = np.zeros((frames, states, states), dtype=np.float32)  # [to frame, to, from]
    cost[:, 0, 1:] = SWITCH
    cost[:, 1:, 0] = SWITCH
    cost[1:, 1:, 1:] = JUMP * np.abs(log_lags[1:, :, None] - log_lags[:-1, None, :])
    back = np.zeros((frames, states), dtype=np.int64)
    score = local[0]
    row = np.arange(states)
    for t in range(1, frames):
        total = score - cost[t]
        best = total.argmax(axis=1)
        back[t] = best
        score = total[row, best] + local[t]
    path = np.zeros(frames, dtype=np.int64)
    path[-1] = int(score.argmax())
    for t in range(frames - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path
