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
CANDIDATES = 5  # voiced candidates a frame

SILENCE, VOICING, OCTAVE, JUMP, SWITCH = 0.03, 0.45, 0.01, 0.35, 0.14  # the paper's costs, for a 10 ms hop

_HANN = np.hanning(WINDOW).astype(np.float32)
_HANN_CORRELATION = np.correlate(_HANN, _HANN, "full")[WINDOW - 1 :][: int(RATE / LOWEST) + 2]
_HANN_CORRELATION = (_HANN_CORRELATION / _HANN_CORRELATION[0]).astype(np.float32)
"""The window's normalised autocorrelation up to the longest lag."""


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
    """Track the pitch of `waveform` [S], float32 at 16 kHz, between 65 and 500 Hz."""
    cut = windows(waveform, WINDOW)
    cut = cut - cut.mean(axis=1, keepdims=True)
    peak = np.abs(cut).max(axis=1)
    power = np.abs(scipy.fft.rfft(cut * _HANN, FFT, axis=1)) ** 2
    correlation = scipy.fft.irfft(power, FFT, axis=1)[:, : _HANN_CORRELATION.size]
    correlation = correlation / np.maximum(correlation[:, :1], 1e-12) / _HANN_CORRELATION
    lags, strength = _candidates(correlation)
    relative = peak / max(float(peak.max()), 1e-9)
    unvoiced = VOICING + np.maximum(0.0, 2.0 - relative / (SILENCE / (1.0 + VOICING)))
    local = np.where(strength > 0, strength - OCTAVE * np.log2(LOWEST * lags / RATE), -10.0)
    path = _best_path(np.column_stack([unvoiced, local]), np.log2(lags))
    chosen = np.maximum(path - 1, 0)[:, None]
    voiced = path > 0
    hertz = np.where(voiced, RATE / np.take_along_axis(lags, chosen, 1)[:, 0], 0.0)
    best = np.where(voiced, np.take_along_axis(strength, chosen, 1)[:, 0], strength.max(axis=1))
    # a silent frame has no periodicity, whatever its rounding noise correlates with
    periodicity = np.where(peak > 1e-5, np.clip(best, 0.0, 1.0), 0.0)
    voiced &= peak > 1e-5
    hertz = np.where(voiced, hertz, 0.0)
    return Pitch(hertz.astype(np.float32), periodicity.astype(np.float32), voiced, power.astype(np.float32))


def _candidates(correlation: NDArray[np.floating[Any]]) -> tuple[Array, Array]:
    """Return the lags [T, K] in samples and strengths [T, K] of the highest peaks, refined by a parabola."""
    first = int(RATE / HIGHEST)
    left, middle, right = correlation[:, first - 1 : -2], correlation[:, first:-1], correlation[:, first + 1 :]
    peaks = np.where((middle > left) & (middle >= right) & (middle > 0), middle, 0.0)
    top = np.argpartition(peaks, -CANDIDATES, axis=1)[:, -CANDIDATES:]
    a, b, c = (np.take_along_axis(x, top, axis=1) for x in (left, middle, right))
    curve = a - 2.0 * b + c
    shift = np.clip(np.where(curve < -1e-9, 0.5 * (a - c) / np.minimum(curve, -1e-9), 0.0), -0.5, 0.5)
    height = np.where(np.take_along_axis(peaks, top, axis=1) > 0, b - 0.25 * (a - c) * shift, 0.0)
    # above 1 the estimate is an artefact of dividing by the window: reflect it, as the paper does
    height = np.where(height > 1.0, 1.0 / np.maximum(height, 1.0), height)
    return (top + first + shift).astype(np.float32), height.astype(np.float32)


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
