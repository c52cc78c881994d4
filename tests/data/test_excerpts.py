"""Parts of recordings that a table asks for: what they are called, and which of them there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile

from affect.data.corpora.verification import Verdict
from affect.data.excerpts import Excerpt, excerpts, of_recordings, settled


def test_a_part_is_called_by_its_id_or_by_its_recording_and_times():
    rows = [
        {"id": "u", "path": "sub\\a.wav", "start": "1", "end": "2.5"},
        {"id": "", "path": "sub\\a.wav", "start": "1", "end": "-1"},
        {"id": "v", "path": "a.wav", "start": "0:01", "end": "NaT"},
        {"id": "v", "path": "a.wav", "start": "0 days 00:00:02", "end": "0 days 00:00:03.250000"},
        {"id": "w", "path": "a.wav", "start": "", "end": ""},
        {"id": "x", "path": "a.wav", "start": "2", "end": "1"},
        {"id": "y", "path": "a.wav", "start": "soon", "end": "1"},
    ]
    assert excerpts(rows) == [
        Excerpt(id="u", span=(1, 2.5)), Excerpt(id="sub/a.wav@1", span=(1, math.inf)),
        Excerpt(id="v@1", span=(1, math.inf)), Excerpt(id="v@2-3.25", span=(2, 3.25)), Excerpt(id="w"),
        Excerpt(id="x", fault="segment without length: from 2 to 1 s"),
        Excerpt(id="y", fault="start is no time: 'soon'"),
    ]  # fmt: skip
    # A start alone is when something is said in its dialogue.
    assert excerpts([{"path": "a.wav", "start": "1"}]) == [Excerpt()]
    assert excerpts([{"start": "1", "duration": ".5"}]) == [Excerpt(span=(1, 1.5))]


def test_an_end_is_the_recordings_and_what_lies_beyond_has_a_fault():
    asked = [
        Excerpt(span=(1, math.inf)),
        Excerpt(span=(3, 5)),
        Excerpt(),
        Excerpt(fault="none"),
        Excerpt(span=(0, 2.04)),
    ]
    verdicts = [Verdict(duration=2.0, digest="a"), Verdict(duration=4.0, digest="b"), Verdict(duration=2.0, digest="a")]
    made = settled(asked, lambda places: [verdicts[k] for k, _ in enumerate(places)])
    assert made[0].facts == {"start": 1, "end": 2}
    assert made[1].fault == "segment beyond the audio: 3 to 5 s of 4.000 s"
    assert made[2:4] == asked[2:4]
    assert made[4].span == (0, 2)


def test_files_that_are_cut_already_are_taken_whole(tmp_path):
    files = []
    for k, seconds in enumerate((0.5, 0.7)):
        files.append(tmp_path / f"{k}.wav")
        soundfile.write(files[-1], np.sin(np.arange(round(seconds * 16_000)) / 9 + k), 16_000)
    there = [Excerpt(id="a", span=(10, 10.5)), Excerpt(id="b", span=(10.5, 11.2))]
    assert [each.span for each in of_recordings(files, there)] == [None, None]
    assert of_recordings(files, ()) == [Excerpt(), Excerpt()]
    files[1].unlink()
    _, lost = of_recordings(files, there)
    assert lost.fault.startswith("bad audio: ") and "\n" not in lost.fault


@pytest.mark.parametrize("span", [(0.25, 1.0), (0.1, math.inf)])
def test_a_table_without_files_asks_for_nothing(span):
    assert of_recordings([], [Excerpt(span=span)]) == []
