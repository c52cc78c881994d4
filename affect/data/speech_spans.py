"""Where a recording of one speaker has speech: by energy alone, with borders that are whole samples.

Legend: S samples, F frames of 10 ms, M spans, O onsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affect.data.activity import RATE, runs

HOP = RATE // 100
_LOUD, _BELOW, _OVER, _LEAST = 95, 35.0, 6.0, 12.0
"""Speech is less than 35 dB below the frames' 95th percentile, and 6 dB over their 5th, which is no more than 12 dB
below the 95th where nobody pauses."""
_SILENT = -75.0
"""dB of full scale: a recording whose 95th percentile is below has no speech."""
_BRIDGED, _SHORTEST, _AROUND, _APART = 30, 10, 3, 5
"""Frames: pauses up to 300 ms belong to the speech, bursts under 100 ms don't; 30 ms around it do. An onset follows a
pause of 50 ms at least."""


@dataclass(frozen=True, eq=False)
class Spans:
    """Speech of a recording: first sample and the one after the last [M, 2], and where a sound begins in it [O]."""

    borders: NDArray[np.int64]
    onsets: NDArray[np.int64]


def speech_spans(samples: NDArray[np.float32]) -> Spans:
    """Return where samples [S] at 16 kHz have speech; no spans where nothing is louder than silence."""
    count = len(samples) // HOP
    frames = samples[: count * HOP].reshape(count, HOP).astype(np.float64)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud, quiet = np.percentile(level, [_LOUD, 100 - _LOUD]) if count else (_SILENT, _SILENT)
    if loud <= _SILENT:
        return Spans(np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    heard = level > max(loud - _BELOW, min(quiet + _OVER, loud - _LEAST))
    sounds = runs(heard)
    spans = _bridged(sounds, _BRIDGED)
    spans = spans[spans[:, 1] - spans[:, 0] >= _SHORTEST]
    spans = np.clip(spans + (-_AROUND, _AROUND), 0, count)
    gaps = sounds[1:, 0] - sounds[:-1, 1]
    onsets = sounds[np.concatenate([[True], gaps >= _APART]), 0]
    inside = np.searchsorted(spans[:, 0], onsets, side="right") - 1
    kept = (inside >= 0) & (onsets < spans[np.maximum(inside, 0), 1]) if len(spans) else np.zeros(len(onsets), bool)
    return Spans(spans * HOP, onsets[kept] * HOP)


def _bridged(sounds: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Return runs [M, 2] joined over gaps of so many frames at most."""
    apart = sounds[1:, 0] - sounds[:-1, 1] > longest
    return np.stack([sounds[np.concatenate([[True], apart]), 0], sounds[np.concatenate([apart, [True]]), 1]], axis=1)
