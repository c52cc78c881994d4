"""Voices for tests: steady tones, each speaker's own, which tell from the sound alone who speaks when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
TONES = {f"tone{hertz}": hertz for hertz in (500, 900, 1300, 1700, 2100)}
"""Hertz by speaker: whole periods of each in 10 ms, in which they are orthogonal."""


def write(folder: Path, seconds: float = 6.0) -> Path:
    """Write a recording of each tone as `<speaker>-0.wav`, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * RATE)) / RATE
    for name, hertz in TONES.items():
        soundfile.write(folder / f"{name}-0.wav", 0.3 * np.sin(2 * np.pi * hertz * time), RATE)
    return folder


def levels(samples: NDArray[np.float32], hertz: int) -> NDArray[np.float64]:
    """Return how loud a tone is in each 10 ms of samples: its root mean square."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160).astype(np.float64)
    wave = np.exp(-2j * np.pi * hertz * np.arange(160) / RATE)
    return np.asarray(np.abs(frames @ wave) / 160 * 2**0.5)
