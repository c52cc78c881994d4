"""Utterance functionals [D] of frame descriptors [T, F]: what a clip's pitch, loudness, timbre and tempo are like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from affect.data.activity import runs
from affect.data.descriptors import BANDS, CEPSTRA, FRAME_FEATURES, frames
from affect.data.pitch import HOP, RATE

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

SECOND = RATE // HOP  # frames
ACTIVE = 30.0  # dB under the loud frames (95th percentile) that still count as speech
TIMBRE = ("alpha_ratio", "hammarberg", "slope_low", "slope_high", "centroid", "flatness", "flux")
VOICE = ("periodicity", "h1_h2", "f1", "f2", "f3")
MFCC = tuple(f"mfcc_{i}" for i in range(1, CEPSTRA + 1))
MEL = tuple(f"mel_{i}" for i in range(1, BANDS + 1))
SPREAD = ("mean", "sd", "p20", "p50", "p80", "range")
COLUMN = {name: i for i, name in enumerate(FRAME_FEATURES)}


def functionals(waveform: Array, rate: int = RATE) -> Array:
    """Return the functionals [D], named by `FUNCTIONAL_NAMES`, of `waveform` [S]; every number is finite.

    Voice measures are taken over voiced frames, timbre over voiced and over unvoiced active ones; a statistic of
    nothing is 0. Raises AffectError where the waveform is not one channel of finite numbers.
    """
    values = measure(frames(waveform, rate))
    return np.fromiter(values.values(), dtype=np.float32, count=len(values))


def measure(track: Array) -> dict[str, float]:
    """Return the functionals by name of the descriptors `track` [T, F]."""
    column = {name: track[:, i].astype(np.float64) for name, i in COLUMN.items()}
    energy = column["energy"]
    active = energy > max(float(np.percentile(energy, 95)) - ACTIVE, -80.0)
    voiced = (column["voicing"] > 0) & active
    values = _pitch(column["f0"], voiced)
    values |= _loudness(column, active)
    for name in VOICE:
        values |= _moments(f"{name}_voiced", column[name][voiced])
    for name in TIMBRE:
        values |= _moments(f"{name}_voiced", column[name][voiced])
        values[f"{name}_unvoiced_mean"] = _mean(column[name][active & ~voiced])
    for name in MFCC:
        values |= _moments(name, column[name][active])
        values[f"{name}_voiced_mean"] = _mean(column[name][voiced])
        # what no pitch shapes: the lips and the tongue alone
        values[f"{name}_unvoiced_mean"] = _mean(column[name][active & ~voiced])
        values[f"{name}_delta_sd"] = _deviation((column[name][4:] - column[name][:-4])[active[2:-2]])
    for name in MEL:
        values[f"{name}_sd"] = _deviation(column[name][active])
    values |= _tempo(column["loudness"], active, voiced)
    return values


def _mean(x: NDArray[np.float64]) -> float:
    return float(x.mean()) if x.size else 0.0


def _deviation(x: NDArray[np.float64]) -> float:
    return float(x.std()) if x.size else 0.0


def _moments(name: str, x: NDArray[np.float64]) -> dict[str, float]:
    return {f"{name}_mean": _mean(x), f"{name}_sd": _deviation(x)}


def _spread(name: str, x: NDArray[np.float64]) -> dict[str, float]:
    """Return mean, deviation, the 20th, 50th and 80th percentile and the range between 5th and 95th."""
    if not x.size:
        return {f"{name}_{part}": 0.0 for part in SPREAD}
    low, p20, p50, p80, high = np.percentile(x, (5, 20, 50, 80, 95))
    numbers = (x.mean(), x.std(), p20, p50, p80, high - low)
    return {f"{name}_{part}": float(n) for part, n in zip(SPREAD, numbers, strict=True)}


def _slope(x: NDArray[np.float64], frame: NDArray[np.intp]) -> float:
    """Return the least-squares slope a second of values `x` seen at `frame`; 0 for less than 50 ms of them."""
    if x.size < 5:
        return 0.0
    time = (frame - frame.mean()) / SECOND
    return float(time @ (x - x.mean()) / max(float(time @ time), 1e-6))


def _pitch(semitones: NDArray[np.float64], voiced: Mask) -> dict[str, float]:
    """Return level, spread, slopes and roughness of the pitch of voiced frames, in semitones and seconds."""
    frame = np.flatnonzero(voiced)
    pitch = semitones[frame]
    values = _spread("f0", pitch)
    step = np.diff(pitch)[np.diff(frame) == 1] * SECOND  # within a voiced segment
    values["f0_rise"] = _mean(step[step > 0])
    values["f0_fall"] = _mean(step[step < 0])
    values["f0_rising_share"] = _mean((step > 0).astype(np.float64))
    values["f0_slope"] = _slope(pitch, frame)
    half = frame.size // 2
    values["f0_turn"] = _slope(pitch[half:], frame[half:]) - _slope(pitch[:half], frame[:half])
    segments = np.split(np.arange(frame.size), np.flatnonzero(np.diff(frame) > 1) + 1)
    values |= _moments("f0_segment_slope", np.array([_slope(pitch[s], frame[s]) for s in segments if s.size >= 5]))
    # second differences leave a smooth melody out: what remains is the cycle-to-cycle roughness of the voice
    bend = np.abs(np.diff(pitch, 2))[(np.diff(frame[1:]) == 1) & (np.diff(frame[:-1]) == 1)]
    values["f0_roughness"] = _mean(np.minimum(bend, 2.0))
    return values


def _loudness(column: dict[str, NDArray[np.float64]], active: Mask) -> dict[str, float]:
    """Return level, spread and slopes of loudness and energy over active frames."""
    loudness = column["loudness"]
    values = _spread("loudness", loudness[active])
    values["loudness_variation"] = values["loudness_sd"] / max(values["loudness_mean"], 1e-6)
    step = np.diff(loudness) * SECOND / max(values["loudness_mean"], 1e-6)
    values["loudness_rise"] = _mean(step[step > 0])
    values["loudness_fall"] = _mean(step[step < 0])
    energy = column["energy"][active]
    values |= _spread("energy", energy)
    values["energy_slope"] = _slope(energy, np.flatnonzero(active))
    return values


def _runs(mask: Mask) -> NDArray[np.float64]:
    """Return the lengths in seconds of the runs of true."""
    return np.asarray(np.diff(runs(mask))[:, 0] / SECOND)


def _tempo(loudness: NDArray[np.float64], active: Mask, voiced: Mask) -> dict[str, float]:
    """Return rates a second of syllables and segments, and how long segments and pauses last."""
    seconds = max(len(active) / SECOND, 0.1)
    speaking = max(float(active.sum()) / SECOND, 0.1)
    smooth = gaussian_filter1d(loudness, 2.5)
    top = float(smooth.max())
    syllables = 0
    if top > 0:
        # Imported here: it takes half a second, and with kept functionals a run finds no peaks.
        from scipy.signal import find_peaks

        syllables = len(find_peaks(smooth, prominence=0.08 * top, distance=8)[0])
    values = {
        "syllable_rate": syllables / seconds,
        "articulation_rate": syllables / speaking,
        "active_share": float(active.mean()),
        "voiced_share": float(voiced.sum()) / max(float(active.sum()), 1.0),
        "voiced_rate": len(_runs(voiced)) / seconds,
    }
    values |= _moments("voiced_seconds", _runs(voiced))
    values |= _moments("unvoiced_seconds", _runs(~voiced))
    inside = np.flatnonzero(active)
    pauses = _runs(~active[inside[0] : inside[-1] + 1]) if inside.size else np.zeros(0)
    values |= _moments("pause_seconds", pauses)
    return values


FUNCTIONAL_NAMES: tuple[str, ...] = tuple(measure(np.zeros((2, len(FRAME_FEATURES)), dtype=np.float32)))
