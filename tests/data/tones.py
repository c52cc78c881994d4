"""Sounds of a known pitch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATE = 16000


def harmonics(hertz: ArrayLike, amplitudes: ArrayLike) -> NDArray[np.float32]:
    """Return a sound [S] whose pitch is `hertz` [S], of harmonics with these amplitudes."""
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    return sum(a * np.sin((k + 1) * phase) for k, a in enumerate(np.asarray(amplitudes))).astype(np.float32)
