"""Turns of activity that comes bit by bit are those of all of it at once, each told as soon as it stands."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.tasks.diarization.turn_stream import TurnStream

FRAME = 1280


def plainly(row: np.ndarray, least: int) -> list[tuple[int, int]]:
    """Return the turns of one speaker [T], pauses and then turns under `least` frames left out."""
    row = row.copy()
    spoken = np.flatnonzero(row)
    for a, b in zip(spoken, spoken[1:], strict=False):
        if b - a - 1 < least:
            row[a:b] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return [(a, b) for a, b in edges.reshape(-1, 2).tolist() if b - a >= least]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 4), st.lists(st.integers(0, 60), max_size=6))
def test_cut_anywhere_they_are_the_same(row, least, cuts):
    active = np.array([row, row[::-1]], bool)
    stream, told = TurnStream(FRAME, least * FRAME / 16_000), []
    for piece in np.split(active, sorted(min(cut, len(row)) for cut in cuts), axis=1):
        told += stream.push(piece, [0, 1])
    told += stream.finish(len(row) * FRAME)
    for speaker in (0, 1):
        found = [(a // FRAME, b // FRAME) for a, b, who in told if who == str(speaker)]
        assert found == plainly(active[speaker], max(1, least))


def test_a_turn_is_told_when_its_pause_is_long_enough():
    stream = TurnStream(FRAME, 2 * FRAME / 16_000)
    assert stream.push(np.array([[True] * 3 + [False]]), [7]) == []
    assert stream.push(np.array([[False]]), [7]) == [(0, 3 * FRAME, "7")]
    # One who was merged into another is not asked any more.
    assert stream.push(np.array([[True] * 3]), [8]) == []
    assert stream.push(np.zeros((0, 5), bool), []) == [(5 * FRAME, 8 * FRAME, "8")]


def test_the_last_turn_ends_with_the_sound():
    stream = TurnStream(FRAME, 0.0)
    assert stream.push(np.array([[True]]), [0]) == []
    assert stream.finish(300) == [(0, 300, "0")]
    assert stream.finish(300) == []
