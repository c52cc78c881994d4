"""Noise on training features at a signal-to-noise ratio, drawn anew for each utterance in each epoch.

Legend: B utterances, D features of a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affect.data.augment import generator
from affect.task import Key


@dataclass(frozen=True)
class Noise:
    """Gaussian noise at a ratio between `low` and `high` dB, a function of the key and an utterance's id."""

    key: Key
    low: float
    high: float

    def add(self, ids: Sequence[str], stream: str, values: NDArray[np.float32], power: float) -> NDArray[np.float32]:
        """Return a stream's features [B, D] with noise against its `power`; rows of zeros, which are missing, stay."""
        noisy = np.array(values, np.float32)
        for k in np.flatnonzero(values.any(1)).tolist():
            # One ratio for all of an utterance's streams: a noisy recording is noisy as a whole.
            ratio = generator(self.key.seed, self.key.epoch, ids[k], what="noise level").uniform(self.low, self.high)
            drawn = generator(self.key.seed, self.key.epoch, ids[k], stream, what="training noise")
            deviation = np.float32(np.sqrt(power * 10.0 ** (-ratio / 10.0)))
            noisy[k] += deviation * drawn.standard_normal(values.shape[1], dtype=np.float32)
        return noisy
