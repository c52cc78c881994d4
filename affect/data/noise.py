"""Noise [S samples] to train with: generated, between white and pink, or from a folder of recordings."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.random import Generator
from numpy.typing import NDArray

from affect.data import audio
from affect.data.corpus import Exclusion, summary
from affect.data.endings import SOUND
from affect.data.files import files_below
from affect.errors import AffectError

_PREPARED = (8, 1 << 18)
"""How many generated noises are kept, and their samples: 16 s at 16 kHz."""

_HELD = 4
"""Decoded recordings that a process keeps: enough where there are few long ones, little memory where there are many."""


def power(wave: NDArray[np.floating]) -> float:
    """Return the mean square of `wave` [S] about its mean."""
    return float(np.var(wave, dtype=np.float64))


def audio_files(folder: Path) -> tuple[list[Path], list[Exclusion]]:
    """Return the recordings of a folder, those of its subfolders too, in order, and what can't be read."""
    return files_below(folder, lambda name: Path(name).suffix.lower() in SOUND)


def recordings(folder: str | Path) -> tuple[str, ...]:
    """Return the paths of a folder's noise recordings, those of its subfolders too, in order.

    Every file is decoded once, so that a damaged one stops the run here and not hours later. Raises AffectError
    where there is no such folder, nothing in it, or a file that is no whole recording.
    """
    root = Path(folder)
    if not root.is_dir():
        raise AffectError(f"{root}: no such folder of noise recordings")
    files, left_out = audio_files(root)
    if left_out:
        raise AffectError(f"{root}: {summary(left_out)}")
    paths = [path.as_posix() for path in files]
    if not paths:
        raise AffectError(f"{root}: holds no noise recording ({', '.join(sorted(SOUND))})")
    for path in paths:
        audio.check(path)
    return tuple(paths)


def coloured(size: int, random: Generator) -> NDArray[np.float64]:
    """Return `size` samples of Gaussian noise whose power falls as 1 / frequency^c, c from 0 (white) to 1 (pink)."""
    exponent = random.uniform(0.0, 1.0)
    white = random.standard_normal(size)
    if size < 2:
        return white
    # Lengths that are a large prime would take an FFT many times as long: make a little more, and cut.
    whole = scipy.fft.next_fast_len(size, real=True)
    spectrum = scipy.fft.rfft(white, whole)
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-exponent / 2)
    spectrum[0] = 0
    return np.asarray(scipy.fft.irfft(spectrum, whole)[:size])


@lru_cache(maxsize=1)
def _prepared() -> NDArray[np.float32]:
    colours = np.random.default_rng(0)
    waves = np.stack([coloured(_PREPARED[1], colours).astype(np.float32) for _ in range(_PREPARED[0])])
    waves.flags.writeable = False
    return waves


def prepared(size: int, random: Generator) -> list[NDArray[np.float32]]:
    """Return `size` samples as `coloured` makes them, in pieces [S], at a hundredth of its cost.

    They are those of one of a few long noises from a random place on, again and again if need be; those are made once a
    process, the same ones in each.
    """
    waves = _prepared()
    wave, start = waves[int(random.integers(len(waves)))], int(random.integers(len(waves[0])))
    pieces = [wave[start : start + size]]
    while (left := size - sum(map(len, pieces))) > 0:
        pieces.append(wave[:left])
    return pieces


def excerpt(path: str, size: int, rate: int, random: Generator) -> NDArray[np.float32]:
    """Return `size` samples from a random place of a recording, repeated if need be; raises AffectError if silent."""
    samples = _load(path, rate)
    spare = len(samples) - size
    start = int(random.integers(spare + 1 if spare >= 0 else len(samples)))
    return np.take(samples, np.arange(start, start + size), mode="wrap")


@lru_cache(maxsize=_HELD)
def _load(path: str, rate: int) -> NDArray[np.float32]:
    samples = audio.load(path, rate)
    if not power(samples):
        raise AffectError(f"{path}: is silent, which is no noise")
    samples.flags.writeable = False
    return samples
