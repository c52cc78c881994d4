"""Kaldi data folders: wav.scp, segments and utt2spk; nothing is run."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from affect.data import corpora
from affect.data.corpora.kaldi_folder import read
from affect.data.recordings import turns_of
from affect.data.rttm import Turn
from affect.errors import AffectError
from tests.data.corpora.exclusions import reasons


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "wav").mkdir(parents=True)
    for name in ("a", "b"):
        soundfile.write(root / "wav" / f"{name}.wav", np.full(16000, 0.1), 4000)
    return root


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)


def test_a_folder(folder):
    write(
        folder, wav_scp=f"rec-a wav/a.wav\nrec-b  {folder}/wav/b.wav\n", utt2spk="u1 Ada\nu2 Eve\nu3 Ada\nu4 Ada\n",
        segments="u1 rec-a 0.5 2\nu2 rec-a 1 -1\nu3 rec-b 0 1.5 1\nu4 rec-b 2 2\n", uem="rec-a 1 0 3\n",
    )  # fmt: skip
    corpus = corpora.read(corpora.RECORDINGS, "kaldi_folder", folder)
    a, b = corpus.recordings
    assert turns_of(a) == [Turn(0.5, 2, "Ada"), Turn(1, 4, "Eve")] and a["uem"] == [{"start": 0.0, "end": 3.0}]
    assert turns_of(b) == [Turn(0, 1.5, "Ada")] and b["seconds"] == 4.0 and b["part"] == ""
    assert reasons(corpus) == {"rec-b": "zero-length turns: 1"}, "an end of -1 leaves nothing out"
    assert corpora.detect(folder) == "kaldi_folder"


def test_a_recording_whose_segments_all_lie_beyond_its_end_is_left_out(folder):
    write(
        folder, wav_scp="rec-a wav/a.wav\nrec-b wav/b.wav\n", utt2spk="u1 Ada\nu2 Eve\nu3 Ada\n",
        segments="u1 rec-a 0.5 2\nu2 rec-b 5 -1\nu3 rec-b 6 9.5\n",
    )  # fmt: skip
    corpus = read(folder)
    assert list(corpus.recordings["id"]) == ["rec-a"]
    assert reasons(corpus) == {"rec-b": "no turn inside of the audio: of 4 s, 2 turns from 5 s on"}


def test_without_segments_and_with_parts(folder):
    write(folder / "train", wav_scp=f"a {folder}/wav/a.wav\n", utt2spk="a Ada\n")
    write(folder / "dev", wav_scp=f"b {folder}/wav/b.wav\na {folder}/wav/a.wav\n", utt2spk="b Eve\na Ada\n")
    corpus = read(folder)
    parts = dict(zip(corpus.recordings["id"], corpus.recordings["part"], strict=True))
    assert parts == {"a": "valid", "b": "valid"}
    assert reasons(corpus) == {"a": "listed more than once: in train, too"}
    assert turns_of(corpus.recordings[1]) == [Turn(0, 4, "Eve")]


def test_a_command_is_refused_by_name(folder, tmp_path):
    mark = tmp_path / "ran"
    write(
        folder, wav_scp=f"a wav/a.wav\npiped touch {mark}; cat x.sph |\ngone wav/gone.wav\nmute wav/b.wav\n",
        utt2spk="u1 Ada\nu3 Ada\n", segments="u1 a 0 1\nu2 a 1 2\nu3 other 0 1\nu4 piped 0 1\n",
    )  # fmt: skip
    corpus = read(folder)
    assert list(corpus.recordings["id"]) == ["a"] and not mark.exists()
    assert reasons(corpus) == {
        "piped": f"a command in wav.scp, which is not run: {f'touch {mark}; cat x.sph |'[:60]}",
        "gone": "no audio: wav/gone.wav", "mute": "no turns: no utterance of it has a speaker",
        "u2": "no speaker: it is not in utt2spk", "u4": "no speaker: it is not in utt2spk",
        "u3": "no recording: other is not in wav.scp",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("segments", "u1 a 0\n", "segments line 1: a segment is NAME RECORDING START END, not u1 a 0"),
        ("segments", "u1 a 0 1\nu2 a 3 two\n", "segments line 2"), ("segments", "u1 a 2 1\n", "segments line 1"),
        ("segments", "u1 a 0_3 1\n", "segments line 1"), ("segments", "u1 a 0 1e400\n", "segments line 1"),
        ("segments", "u1 a -1 1\n", "segments line 1"), ("wav_scp", "a\n", "wav.scp line 1: 'a' stands alone"),
        ("wav_scp", "a a.wav\na b.wav\n", "wav.scp line 2: 'a' is listed more than once"),
        ("utt2spk", "u1\n", "utt2spk line 1: 'u1' stands alone"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(folder, name, text, words):
    files = {"wav_scp": "a wav/a.wav\n", "segments": "u1 a 0 1\n", "utt2spk": "u1 Ada\n", name: text}
    write(folder, **files)
    with pytest.raises(AffectError, match=words):
        read(folder)


def test_what_is_not_there(folder):
    with pytest.raises(AffectError, match="has no wav.scp"):
        read(folder)
    write(folder, wav_scp="a wav/a.wav\n")
    with pytest.raises(AffectError, match="utt2spk cannot be read"):
        read(folder)
