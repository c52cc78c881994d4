"""Turns as samples, and frames from them: integers alone, so that no label moves by a rounding of times.

Legend: K speakers, T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from affect.data.rttm import Turn

RATE = 16_000
"""Samples a second of all that is diarized."""


class SampleTurn(NamedTuple):
    """A speaker's stretch of speech from sample `start` on, up to `end`, which is the first one after it."""

    start: int
    end: int
    speaker: str


def in_samples(turns: Iterable[Turn]) -> list[SampleTurn]:
    """Return turns in seconds as samples, each end at the nearest sample; what has none is left out."""
    sampled = (SampleTurn(round(start * RATE), round(end * RATE), speaker) for start, end, speaker in turns)
    return [turn for turn in sampled if turn.start < turn.end]


def in_seconds(turns: Iterable[SampleTurn]) -> list[Turn]:
    """Return turns in samples as seconds."""
    return [Turn(start / RATE, end / RATE, speaker) for start, end, speaker in turns]


def excerpt(turns: Iterable[SampleTurn], start: int, size: int) -> list[SampleTurn]:
    """Return what lies in the `size` samples from `start` on, counted from there."""
    moved = (SampleTurn(max(a - start, 0), min(b - start, size), speaker) for a, b, speaker in turns)
    return [turn for turn in moved if turn.start < turn.end]


def runs(active: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where frames [T] are true: the first frame and the one after the last of each run [M, 2]."""
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).astype(np.int64)


def activity(
    turns: Iterable[SampleTurn], speakers: Sequence[str], frames: int, frame_samples: int
) -> NDArray[np.uint8]:
    """Return who of `speakers` is active in each frame [K, T]: who speaks at the sample in its middle.

    Frame t has the samples from t * `frame_samples` on; of an even number the middle is the first of the second half.
    So a turn has as many frames as its length says, on average, wherever it begins. Turns of others are passed over.
    """
    active = np.zeros((len(speakers), frames), np.uint8)
    places = {speaker: row for row, speaker in enumerate(speakers)}
    middle = frame_samples // 2
    for start, end, speaker in turns:
        if speaker in places:
            # Rounded up: the first frame whose middle is not before the sample.
            first, stop = (max(0, -((middle - at) // frame_samples)) for at in (start, end))
            active[places[speaker], first:stop] = 1
    return active
