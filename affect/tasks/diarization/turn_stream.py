"""Turns of activity that comes bit by bit, each told once nothing can change it. Legend: K speakers, T frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affect.data.activity import RATE, SampleTurn, runs

Active = NDArray[np.bool_]
"""Who speaks in each frame [K, T]."""


class TurnStream:
    """Takes activity in order and gives turns, without pauses of a speaker, and turns, that are too short.

    `frame` is samples of a frame, `shortest` seconds.
    """

    def __init__(self, frame: int, shortest: float):
        self.frame, self.size = frame, round(shortest * RATE)
        self.end = 0
        """Frames taken in so far."""
        self.waiting: dict[int, tuple[int, int]] = {}
        """Of each speaker the last turn, in frames, which may go on."""

    def push(self, active: Active, speakers: list[int]) -> list[SampleTurn]:
        """Take in the next frames [K, T] of `speakers` [K] and return the turns that no later frame can change."""
        told = []
        for speaker, row in zip(speakers, active, strict=True):
            for begin, stop in (self.end + runs(row)).tolist():
                before = self.waiting.get(speaker)
                if before is not None and self._short(begin - before[1]):
                    begin = before[0]
                elif before is not None:
                    told.append((before, speaker))
                self.waiting[speaker] = (begin, stop)
        self.end += active.shape[1]
        for speaker, turn in list(self.waiting.items()):
            if not self._short(self.end - turn[1]):
                told.append((self.waiting.pop(speaker), speaker))
        return self._turns(told, self.end * self.frame)

    def finish(self, samples: int) -> list[SampleTurn]:
        """Return the turns that are left of a stream of `samples`."""
        told = [(turn, speaker) for speaker, turn in self.waiting.items()]
        self.waiting = {}
        return self._turns(told, samples)

    def _short(self, frames: int) -> bool:
        return frames * self.frame < max(1, self.size)

    def _turns(self, told: list[tuple[tuple[int, int], int]], samples: int) -> list[SampleTurn]:
        ends = ((begin * self.frame, min(stop * self.frame, samples), speaker) for (begin, stop), speaker in told)
        least = max(1, self.size)
        return sorted(SampleTurn(begin, end, str(speaker)) for begin, end, speaker in ends if end - begin >= least)
