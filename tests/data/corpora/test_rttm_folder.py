"""RTTM files beside audio, UEM files and lists: every trap is handled, or said in one line."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
import soundfile

from affect.data import corpora, inspect_recordings
from affect.data.corpora.rttm_folder import read
from affect.data.recordings import turns_of
from affect.data.rttm import Turn
from affect.errors import AffectError
from tests.data.corpora.exclusions import reasons


def sound(path, seconds=4.0, channels=1, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, wave, rate)


def lines(*turns):
    return "".join(
        f"SPEAKER {name} 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n" for name, start, length, who in turns
    )


def row_of(corpus, name):
    return corpus.recordings[list(corpus.recordings["id"]).index(name)]


def test_a_folder(tmp_path):
    for name in ("audio/a.wav", "audio/b.c.wav", "audio/quiet.wav", "audio/still.wav"):
        sound(tmp_path / name)
    (tmp_path / "still.rttm").write_text(";; nobody\n")
    (tmp_path / "other.rttm").write_text("")
    (tmp_path / "x.train.rttm").write_text(
        ";; a comment\n\n" + lines(("a", 0.5, 1.25, "Ada"), ("a", 1, 2, "Eve"), ("b.c", 0, 1, "Ada"))
        + "SPEAKER a 1 3 .5 <NA> <NA> Ada\nSPKR-INFO a 1 <NA> <NA> <NA> unknown Ada <NA>\n"
    )  # fmt: skip
    (tmp_path / "x.train.uem").write_text("a 1 0 2\na 1 2.5 3.5\nquiet NA 0 4\n")
    corpus = corpora.read(corpora.RECORDINGS, "rttm_folder", tmp_path)
    assert list(corpus.recordings["id"]) == ["a", "b.c", "quiet", "still"] and not corpus.exclusions
    row = row_of(corpus, "a")
    assert turns_of(row) == [Turn(0.5, 1.75, "Ada"), Turn(1, 3, "Eve"), Turn(3, 3.5, "Ada")]
    assert row["uem"] == [{"start": 0.0, "end": 2.0}, {"start": 2.5, "end": 3.5}]
    assert row["seconds"] == row["length"] == 4.0 and row["channels"] == 1 and row["part"] == "train"
    assert row_of(corpus, "b.c")["uem"] == [{"start": 0.0, "end": 4.0}], "all of it where the UEM says nothing"
    assert row_of(corpus, "quiet")["turns"] == row_of(corpus, "still")["turns"] == [], "annotated, and nobody speaks"
    assert corpora.detect(tmp_path) == "rttm_folder" and corpus.identity.startswith("rttm_folder@")


def test_what_is_left_out_is_said(tmp_path, caplog):
    for name in ("a", "cut", "stereo", "both", "listed", "nowhere", "twice", "outside"):
        sound(tmp_path / f"{name}.wav", channels=2 if name == "stereo" else 1)
    sound(tmp_path / "other" / "twice.flac")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 8000)
    (tmp_path / "train.rttm").write_text(
        lines(("a", 1, 0, "Ada"), ("a", 2, 1, "Ada"), ("a", 2.5, 1, "Ada"), ("a", 2, 1, "Ada"), ("gone", 0, 1, "Ada"))
        + lines(("cut", 3, 2, "Ada"), ("cut", 3.5, 0.505, "Eve"), ("cut", 5, 1, "Ada"), ("stereo", 0, 1, "Ada"))
        + lines(("both", 0, 1, "Ada"), ("nothing", 0, 1, "Ada"), ("twice", 0, 1, "Ada"), ("outside", 0, 1, "Ada"))
    )
    (tmp_path / "dev.lst").write_text("both\nlisted.wav\n\nabsent\n")
    (tmp_path / "train.uem").write_text("outside 1 9 12\n")
    with caplog.at_level("INFO"):
        corpus = read(tmp_path)
    assert list(corpus.recordings["id"]) == ["a", "cut", "outside", "stereo"]
    said = reasons(corpus)
    assert said.pop("twice").startswith("several audio files: ")
    assert said.pop("nothing") == "bad audio: holds no samples"
    cut = [exclusion.reason for exclusion in corpus.exclusions if exclusion.what == "cut"]
    assert cut == ["turns outside of the audio: of 4 s, cut: 1", "turns outside of the audio: of 4 s, all of it: 1"]
    del said["cut"]
    assert said == {
        "a": "zero-length turns: 1", "gone": "no audio: lists, RTTM or UEM files name it",
        "absent": "no audio: lists, RTTM or UEM files name it", "both": "in several parts: train, valid",
        "listed": "no turns: a list names it, and no RTTM or UEM", "nowhere": "no turns: no file names it",
        "outside": "nothing annotated: the UEM lies outside of the audio",
    }  # fmt: skip
    assert turns_of(row_of(corpus, "a")) == [Turn(2, 3.5, "Ada")], "one speaker's turns that overlap are one"
    assert turns_of(row_of(corpus, "cut")) == [Turn(3, 4, "Ada"), Turn(3.5, 4, "Eve")]
    assert "a: 1 turns go on another one of their speaker" in caplog.text
    assert "stereo: its 2 channels are averaged" in caplog.text and "1 lines are repeated" in caplog.text
    assert "rttm_folder: 4 recordings, 11 exclusions (2 no audio, " in caplog.text


def test_a_recording_whose_turns_all_lie_beyond_its_end_is_left_out(tmp_path):
    for name in ("a", "b"):
        sound(tmp_path / f"{name}.wav")
    (tmp_path / "x.rttm").write_text(lines(("a", 0, 1, "Ada"), ("b", 4, 1, "Ada"), ("b", 61.5, 2, "Eve")))
    corpus = read(tmp_path)
    assert list(corpus.recordings["id"]) == ["a"]
    assert reasons(corpus) == {"b": "no turn inside of the audio: of 4 s, 2 turns from 4 s on"}
    (tmp_path / "a.wav").unlink()
    with pytest.raises(
        AffectError, match="can be used .1 no audio, 1 no turn inside of the audio; for example"
    ) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_parts_and_another_folder_of_audio(tmp_path):
    for name in ("one", "two", "three", "four"):
        sound(tmp_path / "sounds" / ("eval" if name == "four" else "all") / f"{name}.wav", 1.0)
    labels = tmp_path / "labels"
    for part, name in (("development", "one"), ("trn", "two")):
        (labels / part).mkdir(parents=True)
        (labels / part / f"{name}.rttm").write_text(lines((name, 0, 1, "Ada")))
    (labels / "rest.rttm").write_text(lines(("three", 0, 1, "Ada"), ("four", 0, 1, "Ada")))
    corpus = read(labels, audio=str(tmp_path / "sounds"))
    parts = dict(zip(corpus.recordings["id"], corpus.recordings["part"], strict=True))
    assert parts == {"one": "valid", "two": "train", "three": "", "four": "test"}
    assert list(corpus.part("valid", "test")["id"]) == ["four", "one"]
    with pytest.raises(AffectError, match="no recording of the part trial; its parts: test, train, valid"):
        corpus.part("trial")


def test_names_that_differ_in_accents(tmp_path, caplog):
    for name in ("trñ00", "café", "cafe", unicodedata.normalize("NFD", "é1")):
        sound(tmp_path / f"{name}.wav", 1.0)
    names = ("trn00", "cafe", "é1", "cafè")
    (tmp_path / "x.rttm").write_text(lines(*((name, 0, 1, "MÉO069") for name in names)))
    corpus = read(tmp_path)
    # cafe is there, and cafè may be café or not: no other line names café.
    assert {*corpus.recordings["id"]} == {"trñ00", "cafe", "café", unicodedata.normalize("NFD", "é1")}
    assert "trn00 is taken to be the recording trñ00" in caplog.text and not corpus.exclusions
    assert turns_of(row_of(corpus, "trñ00")) == [Turn(0, 1, "MÉO069")]


def test_the_fingerprint_follows_turns_and_audio_wherever_they_lie(tmp_path):
    prints = []
    for folder, end, seconds in (("a", 1, 2.0), ("b", 1, 2.0), ("c", 1.5, 2.0), ("d", 1, 2.5)):
        sound(tmp_path / folder / "f.wav", seconds)
        (tmp_path / folder / "f.rttm").write_text(lines(("f", 0, end, "Ada")))
        prints.append(read(tmp_path / folder).fingerprint)
    assert prints[0] == prints[1] and len({*prints}) == 3


def test_errors_of_one_line(tmp_path):
    with pytest.raises(AffectError, match="has no RTTM file"):
        read(tmp_path)
    (tmp_path / "x.rttm").write_text("SPEAKER f 1 0 one <NA> <NA> Ada <NA> <NA>\n")
    with pytest.raises(AffectError, match=r"x.rttm line 1: 'one' is no time"):
        read(tmp_path)
    (tmp_path / "x.rttm").write_text(lines(("f", 0, 1, "Ada")))
    with pytest.raises(AffectError, match=r"no recording of .* can be used .1 no audio; for example f: no audio: "):
        read(tmp_path)


def test_inspect(tmp_path, affect):
    sound(tmp_path / "a.wav")
    (tmp_path / "train.rttm").write_text(lines(("a", 0, 2, "Ada"), ("a", 1, 2, "Eve"), ("b", 0, 1, "Ada")))
    code, out, _ = affect("inspect", tmp_path)
    assert code == 0
    assert "rttm_folder: 1 recording, " in out and "no audio" in out
    assert "train: 1 recording, 0.1 min, 0.1 min of speech in 2 turns of 2 speakers, 2 to 2 a recording" in out
    assert "overlap: 33.3 % of the speech" in out


def test_excerpts_of_ami(real_data):
    corpus = read(real_data / "ami_excerpts")
    assert len(corpus.part("train")) == 10 and list(corpus.part("valid")["id"]) == ["dev00", "dev01"]
    assert reasons(corpus) == {"empty": "no turns: no file names it"}
    row = row_of(corpus, "trñ00")
    assert len(row["turns"]) == 14 and {turn.speaker for turn in turns_of(row)} == {"MÉO069", "MEE067", "MEE068"}
    assert turns_of(row)[0] == Turn(3.168, 3.968, "MÉO069")
    assert corpora.detect(real_data / "ami_excerpts") == "rttm_folder"


def test_links_are_followed_and_what_is_no_file_is_left_out(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    for name in ("a", "b"):
        sound(other / f"{name}.wav", 1.0)
        (other / f"{name}.rttm").write_text(lines((name, 0, 1, "Ada")))
    root.mkdir()
    (root / "linked").symlink_to(other)
    (other / "up").symlink_to(root)
    (root / "gone.rttm").symlink_to("nowhere")
    os.mkfifo(root / "pipe.wav")
    os.mkfifo(root / "pipe.rttm")
    corpus = read(root)
    assert list(corpus.recordings["id"]) == ["a", "b"]
    assert reasons(corpus) == {
        "linked/up": f"loop of links: it leads to {root}", "gone.rttm": "dangling link: to nowhere",
        "pipe.wav": "no file: a FIFO", "pipe.rttm": "no file: a FIFO",
    }  # fmt: skip
    text = inspect_recordings.recordings("rttm_folder", root, {}, None)
    assert "links: 2 lead out of the folder" in text
