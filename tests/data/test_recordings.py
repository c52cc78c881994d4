"""Windows of real recordings: whole samples, labels and sound of the same place, and another window beside each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import talkers

from affect.data import inspect_recordings
from affect.data.activity import RATE, SampleTurn, activity
from affect.data.parts import part_of_names
from affect.data.recordings import (
    Annotated,
    Partners,
    corpus_of,
    sample_turns_of,
    sound_of,
    windows,
)
from affect.data.rttm import Turn
from affect.errors import AffectError

TURNS = [Turn(0.5, 3.25, "tone500"), Turn(2.0, 6.5, "tone900"), Turn(9.1, 11.7, "tone500")]
SECONDS = 12.2


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Return two recordings whose tones are where their turns are, at 16 and at 22.05 kHz."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    made = []
    for name, rate, uem in (("low", 16_000, None), ("high", 22_050, [(1.0, 7.5), (9.0, 30.0)])):
        time = np.arange(round(SECONDS * rate)) / rate
        wave = sum(
            np.where((time >= start) & (time < end), np.sin(2 * np.pi * talkers.TONES[who] * time), 0)
            for start, end, who in TURNS
        )
        soundfile.write(tmp_path / f"{name}.wav", 0.2 * wave, rate, subtype="FLOAT")
        made.append(Annotated(id=name, path=tmp_path / f"{name}.wav", turns=TURNS, uem=uem, part="train"))
    return corpus_of("toy", tmp_path, made, [])


def test_windows_cover_what_is_annotated(corpus):
    table = windows(corpus.recordings, 2.0, 1.5)
    places = {name: [(row["start"] / RATE, row["samples"] / RATE) for row in table if row["recording"] == name]
              for name in ("low", "high")}  # fmt: skip
    assert places["high"] == [(1.0, 2.0), (2.5, 2.0), (4.0, 2.0), (5.5, 2.0), (9.0, 2.0), (10.2, 2.0)]
    assert places["low"] == [(0, 2), (1.5, 2), (3, 2), (4.5, 2), (6, 2), (7.5, 2), (9, 2), (10.2, 2)]
    assert set(table["length"]) == {2.0} and len({*table["id"]}) == len(table) and set(table["part"]) == {"train"}
    short = windows(corpus.recordings, 8.0, 8.0)
    assert [row["length"] for row in short] == [6.5, 3.2, 8.0, 8.0], "a span that is shorter is one window"


def test_sound_and_labels_are_of_the_same_place(corpus):
    for row in windows(corpus.recordings, 2.0, 1.3):
        samples = sound_of(row)
        assert samples.shape == (row["samples"],) and samples.dtype == np.float32
        turns = sample_turns_of(row)
        for name in ("tone500", "tone900"):
            heard = talkers.levels(samples, talkers.TONES[name])
            (active,) = activity(turns, [name], 200, 160)
            borders = {edge // 160 + by for a, b, who in turns if who == name for edge in (a, b) for by in (-1, 0, 1)}
            inside = np.array([frame not in borders for frame in range(200)])
            assert np.array_equal(heard[inside] > 0.07, active[inside].astype(bool))


def test_a_file_that_has_changed(corpus, tmp_path):
    last = windows(corpus.recordings, 2.0, 2.0)[-1]
    soundfile.write(tmp_path / "low.wav", np.zeros(RATE), RATE)
    with pytest.raises(AffectError, match="low.wav: ends 32000 samples before sample"):
        sound_of(last)


def test_another_window_of_the_recording(corpus):
    table = windows(corpus.recordings, 2.0, 1.0)
    partners = Partners(table)
    for row, window in enumerate(table):
        chosen = {partners.of(row, 0, epoch) for epoch in range(12)}
        assert len(chosen) > 2 and row not in chosen
        for other in (table[k] for k in chosen):
            assert other["recording"] == window["recording"]
            assert abs(other["start"] - window["start"]) >= 2 * RATE, "they share no sample"
        assert partners.of(row, 3, 4) == Partners(table).of(row, 3, 4)
    alone = Partners(windows(corpus.recordings, 8.0, 8.0).select([0, 2, 3]))
    assert alone.of(0, 0, 0) == 0 and {alone.of(1, 0, k) for k in range(4)} == {2}


def test_turns_that_touch_are_one_and_negative_times_are_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    turns = [Turn(-0.5, 0.25, "A"), Turn(0.25, 0.5, "A"), Turn(0.5, 0.5, "B")]
    made = corpus_of("toy", Path(tmp_path), [Annotated(id="a", path=tmp_path / "a.wav", turns=turns)], [])
    assert made.recordings[0]["turns"] == [{"start": 0.0, "end": 0.5, "speaker": "A"}]
    assert [each.reason for each in made.exclusions] == [
        "zero-length turns: 1", "turns outside of the audio: of 1 s, cut: 1"
    ]  # fmt: skip
    (row,) = windows(made.recordings, 2.0, 1.0)
    assert sample_turns_of(row) == [SampleTurn(0, 8000, "A")] and row["samples"] == RATE


def test_a_recording_whose_turns_all_lie_outside_is_left_out(tmp_path, monkeypatch):
    """Its speech would be taken for silence; one without turns, or with zero-length ones alone, is silent."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    turns = {"late": [Turn(600.5, 602, "A"), Turn(1, 3, "B"), Turn(2, 2, "A")], "early": [Turn(-2, 0, "A")],
             "edge": [Turn(0.9, 5, "A"), Turn(7, 9, "B")], "quiet": [], "empty": [Turn(5, 5, "A")]}  # fmt: skip
    each = [Annotated(id=name, path=tmp_path / "a.wav", turns=own) for name, own in turns.items()]
    made = corpus_of("toy", Path(tmp_path), each, [])
    assert list(made.recordings["id"]) == ["edge", "empty", "quiet"]
    assert [(left.what, left.reason) for left in made.exclusions if left.what in ("early", "late")] == [
        ("early", "no turn inside of the audio: of 1 s, 1 turn from -2 s on"),
        ("late", "no turn inside of the audio: of 1 s, 2 turns from 1 s on"),
    ]  # fmt: skip
    with pytest.raises(AffectError, match=r"^toy: no recording of .* can be used \(2 no turn inside of the audio; .*"):
        corpus_of("toy", Path(tmp_path), each[:2], [])


@pytest.mark.parametrize(
    ("names", "part"),
    [(("debug.development.lst",), "valid"), (("data", "train_clean_100.rttm"), "train"),
     (("ami-eval", "x.uem"), "test"), (("train", "test.lst"), "test"), (("contest", "attestation.rttm"), ""), ((), "")],
)  # fmt: skip
def test_parts_are_words_of_names(names, part):
    assert part_of_names(*names) == part


def test_silent_recordings_are_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    soundfile.write(tmp_path / "b.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    both = [Annotated(id=name, path=tmp_path / f"{name}.wav", turns=[Turn(0, 1, "A")]) for name in "ab"]
    made = corpus_of("toy", Path(tmp_path), both, [])
    assert made.still == ("a",) and "toy: 1 recordings are silent or constant, a for one" in caplog.text
    assert "copies" not in inspect_recordings.describe(made, 10)
    assert "silent recordings: 1 of 2 recordings are silent or constant: a" in inspect_recordings.describe(made, 10)


def test_inspect_tells_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    for part, words in (("train", "there under two names: a (train) = b"), ("test", "in two parts under two names: a")):
        told = [("a", "train"), ("b", part)]
        both = [Annotated(id=k, path=tmp_path / f"{k}.wav", part=own, turns=[Turn(0, 1, "A")]) for k, own in told]
        text = inspect_recordings.describe(corpus_of("toy", Path(tmp_path), both, []), 10)
        assert f"copies: 1 recordings are {words}" in text
