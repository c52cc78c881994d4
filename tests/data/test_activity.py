"""Turns in samples, and the frames in which speakers are active."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data.activity import SampleTurn, activity, excerpt, in_samples, in_seconds
from affect.data.rttm import Turn

quick = settings(max_examples=60, deadline=None)
turns = st.lists(st.builds(lambda a, n, k: SampleTurn(a, a + n, k), st.integers(0, 9000), st.integers(1, 4000),
                           st.sampled_from("AB")), max_size=6)  # fmt: skip


@quick
@given(turns, st.sampled_from([1, 7, 640, 1280]), st.integers(1, 12))
def test_a_frame_is_active_where_its_middle_is_spoken(spoken, size, frames):
    active = activity(spoken, ["B", "A"], frames, size)
    for row, speaker in enumerate("BA"):
        middles = [frame * size + size // 2 for frame in range(frames)]
        expected = [any(a <= at < b for a, b, who in spoken if who == speaker) for at in middles]
        assert active[row].tolist() == expected


def test_frames_by_hand():
    # 25 frames a second: 640 samples, their middles at 320, 960, 1600 ...
    spoken = [SampleTurn(320, 961, "A"), SampleTurn(321, 960, "B"), SampleTurn(0, 5000, "C")]
    assert activity(spoken, ["A", "B"], 3, 640).tolist() == [[1, 1, 0], [0, 0, 0]]


def test_no_frame_is_lost_or_won_over_hours():
    """Times that are rounded to frames drift; whole samples don't."""
    hop, count = 1280, 10 * 3600 * 25 // 2
    spoken = [SampleTurn(at * 3 * hop, at * 3 * hop + hop, "A") for at in range(count // 3)]
    assert activity(spoken, ["A"], count, hop)[0].tolist() == [1, 0, 0] * (count // 3)


@quick
@given(turns, st.integers(0, 5000), st.integers(1, 5000))
def test_an_excerpt_is_what_the_whole_has_there(spoken, start, size):
    whole = activity(spoken, "AB", 14000, 1)
    assert np.array_equal(activity(excerpt(spoken, start, size), "AB", size, 1), whole[:, start : start + size])


def test_seconds_become_the_nearest_samples():
    assert in_samples([Turn(2.3, 4.6, "A"), Turn(1.0, 1.00001, "B")]) == [SampleTurn(36800, 73600, "A")]
    assert in_seconds([SampleTurn(36800, 73600, "A")]) == [Turn(2.3, pytest.approx(4.6), "A")]
