"""Manifests of lhotse, read as files: plain and compressed; nothing is run or downloaded."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import soundfile

from affect.data import corpora
from affect.data.corpora.lhotse_manifests import read
from affect.data.recordings import turns_of
from affect.data.rttm import Turn
from affect.errors import AffectError
from tests.data.corpora.exclusions import reasons


def recording(name, source, kind="file", **more):
    sources = [{"type": kind, "channels": [0], "source": source}]
    return {"id": name, "sources": sources, "sampling_rate": 4000, "num_samples": 16000, "duration": 4.0,
            "channel_ids": [0], **more}  # fmt: skip


def supervision(number, name, start, duration, speaker="Ada", channel=0):
    return {"id": f"s{number}", "recording_id": name, "start": start, "duration": duration, "channel": channel,
            "speaker": speaker}  # fmt: skip


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@pytest.fixture
def folder(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full((16000, 2), 0.1), 4000)
    soundfile.write(tmp_path / "b.wav", np.full(16000, 0.1), 4000)
    return tmp_path


def test_manifests(folder, caplog):
    write(folder / "x_recordings_train.jsonl.gz", [recording("a", str(folder / "a.wav"))])
    write(folder / "x_supervisions_train.jsonl.gz", [
        supervision(1, "a", 0.1, 0.2), supervision(2, "a", 1, 2, "Eve", channel=[0, 1]), supervision(3, "a", 2, 0),
    ])  # fmt: skip
    write(folder / "x_recordings_dev.jsonl", [recording("b", "b.wav")])
    write(folder / "x_supervisions_dev.jsonl", [supervision(4, "b", 3, 2), supervision(5, "b", 0, 1, None)])
    corpus = corpora.read(corpora.RECORDINGS, "lhotse_manifests", folder)
    a, b = corpus.recordings
    assert turns_of(a) == [Turn(0.1, 0.3, "Ada"), Turn(1, 3, "Eve")]
    assert (a["part"], a["channels"], b["part"]) == ("train", 2, "valid") and turns_of(b) == [Turn(3, 4, "Ada")]
    assert reasons(corpus) == {
        "a": "zero-length turns: 1", "b": "turns outside of the audio: of 4 s, cut: 1", "s5": "no speaker"
    }  # fmt: skip
    assert "a: its 2 channels are averaged" in caplog.text and corpora.detect(folder) == "lhotse_manifests"


def test_a_recording_whose_supervisions_all_lie_beyond_its_end_is_left_out(folder):
    write(folder / "recordings.jsonl", [recording("a", "a.wav"), recording("b", "b.wav")])
    write(folder / "supervisions.jsonl", [supervision(0, "a", 0, 1), supervision(1, "b", 40.25, 1)])
    corpus = read(folder)
    assert list(corpus.recordings["id"]) == ["a"]
    assert reasons(corpus) == {"b": "no turn inside of the audio: of 4 s, 1 turn from 40.25 s on"}


def test_what_is_not_a_plain_file_is_refused_by_name(folder):
    mark = folder / "ran"
    several = recording("parts", "a.wav")
    several["sources"].append(several["sources"][0])
    write(folder / "recordings.jsonl", [
        recording("b", "b.wav"), recording("piped", f"touch {mark}", "command"),
        recording("far", "http://x.y/z", "url"),
        recording("fast", "b.wav", transforms=[{"name": "Speed"}]), several, recording("gone", "gone.wav"),
        recording("mute", "b.wav"), recording("b", "b.wav"),
    ])  # fmt: skip
    names = ("b", "piped", "far", "fast", "parts", "gone", "alone")
    write(folder / "supervisions.jsonl", [supervision(k, name, 0, 1) for k, name in enumerate(names)])
    corpus = read(folder)
    assert list(corpus.recordings["id"]) == ["b"] and not mark.exists()
    assert reasons(corpus) == {
        "piped": f"a command and no file, which is not run or loaded: {f'touch {mark}'[:60]}",
        "far": "a url and no file, which is not run or loaded: http://x.y/z",
        "fast": "transforms, which are not applied: save the recording as it is to be",
        "parts": "several files: 2, of which one a recording is read", "gone": "no audio: gone.wav",
        "mute": "no turns: no supervision of it has a speaker",
        "alone": "no recording: supervisions alone name it",
        "b": "listed more than once: in recordings.jsonl, too",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("recordings", "{", r"recordings.jsonl line 1: it is no JSON"),
        ("recordings", '{"id": "a"}', r"recordings.jsonl line 1: it is no recording of lhotse"),
        ("recordings", "[]", r"recordings.jsonl line 1: it is no object"),
        ("supervisions", '\n{"id": "a"}', r"supervisions.jsonl line 2: it is no supervision of lhotse"),
        ("supervisions", '{"recording_id": "b", "start": 0, "duration": -1}', r"a duration of -1"),
    ],
)
def test_a_malformed_line_is_named(folder, name, text, words):
    write(folder / "recordings.jsonl", [recording("b", "b.wav")])
    write(folder / "supervisions.jsonl", [supervision(0, "b", 0, 1)])
    (folder / f"{name}.jsonl").write_text(text)
    with pytest.raises(AffectError, match=words):
        read(folder)


def test_what_cannot_be_read(folder):
    with pytest.raises(AffectError, match="has no recordings and supervisions"):
        read(folder)
    write(folder / "recordings.jsonl.gz", [recording("b", "b.wav")])
    (folder / "supervisions.jsonl.gz").write_bytes(b"nonsense")
    with pytest.raises(AffectError, match="supervisions.jsonl.gz cannot be read"):
        read(folder)


def test_names_that_are_no_text_and_lines_that_are_too_deep(folder):
    write(
        folder / "recordings.jsonl", [recording("a", "a.wav"), recording("b\ud800", "b.wav"), recording("c", "x" * 999)]
    )
    write(folder / "supervisions.jsonl", [supervision(k, name, 0, 1) for k, name in enumerate(("a", "b\ud800", "c"))])
    corpus = read(folder)
    assert list(corpus.recordings["id"]) == ["a"]
    assert reasons(corpus) == {
        "b\\ud800": "name that is no UTF-8: of it, its file or a speaker", "c": f"no audio: {'x' * 60}",
    }  # fmt: skip
    (folder / "recordings.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(AffectError, match=r"recordings.jsonl line 1: it is no JSON") as caught:
        read(folder)
    assert "\n" not in str(caught.value)
