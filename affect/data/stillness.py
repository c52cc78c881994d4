"""Where a recording is still: nothing is heard, or the signal stays where it is. Legend: S samples, F frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Span = tuple[float, float]

_FRAMES = 100
"""Frames a second."""
_LEAST = 10
"""Frames of the shortest stretch that counts."""
_STILL = 2e-4
"""Largest less smallest sample of what is still, of a full scale of 2: 80 dB below it, a few steps of 16 bits."""


class Stillness:
    """Finds the still stretches of a recording that is heard block by block, by frames of 10 ms."""

    def __init__(self, rate: int) -> None:
        self.samples = 0
        """Those heard so far."""
        self._frame = max(1, rate // _FRAMES)
        self._rate = rate
        self._rest = np.zeros(0, np.float32)
        self._lows: list[NDArray[np.float32]] = []
        self._highs: list[NDArray[np.float32]] = []

    def hear(self, block: NDArray[np.float32]) -> None:
        """Take in the next samples [S]."""
        self.samples += len(block)
        joined = np.concatenate([self._rest, block]) if len(self._rest) else block
        count = len(joined) // self._frame
        frames = joined[: count * self._frame].reshape(count, self._frame)
        self._rest = joined[count * self._frame :]
        if count:
            self._lows.append(frames.min(1))
            self._highs.append(frames.max(1))

    def spans(self) -> tuple[Span, ...]:
        """Return the stretches (start, end in seconds) of a tenth of a second or more, or of the whole recording."""
        if len(self._rest):
            self._lows.append(self._rest.min(keepdims=True))
            self._highs.append(self._rest.max(keepdims=True))
            self._rest = self._rest[:0]
        if not self._lows:
            return ()
        lows, highs = np.concatenate(self._lows), np.concatenate(self._highs)
        found_at: list[tuple[int, int]] = []
        start, low, high = 0, np.inf, -np.inf
        # A frame that is not still, or far from those before it, ends a stretch.
        for place in [*np.flatnonzero(highs - lows > _STILL).tolist(), len(lows)]:
            for at in range(start, place):
                low, high = min(low, lows[at]), max(high, highs[at])
                if high - low > _STILL:
                    found_at.append((start, at))
                    start, low, high = at, lows[at], highs[at]
            found_at.append((start, place))
            start, low, high = place + 1, np.inf, -np.inf
        frames, whole = self._frame / self._rate, (0, len(lows))
        kept = [pair for pair in found_at if pair[1] - pair[0] >= _LEAST or pair == whole]
        return tuple((begin * frames, min(end * frames, self.samples / self._rate)) for begin, end in kept)
