"""Voices: who speaks is told in four ways, and of every recording the speech alone is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import talkers

from affect.data import corpora, synthetic_voices, voices
from affect.data.speech_spans import speech_spans
from affect.errors import AffectError

RATE = talkers.RATE


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path_factory.mktemp("cache")))


def tone(seconds: float, hertz: float = 440.0, level: float = 0.2) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def recording(path: Path, *pieces: np.ndarray, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(pieces), rate)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def test_speech_has_borders_of_whole_samples():
    hum = 1e-4 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    wave = hum.copy()
    for start, end in ((0.5, 1.5), (1.7, 2.0), (3.0, 4.0), (4.6, 4.65)):
        wave[round(start * RATE) : round(end * RATE)] += tone(end - start)
    spans = speech_spans(wave)
    # A pause of .2 s is part of the speech, one of 1 s is not, and a click is none; 30 ms around it are.
    assert (spans.borders / RATE).round(4).tolist() == [[0.47, 2.03], [2.97, 4.03]]
    assert spans.borders.dtype == np.int64
    assert (spans.onsets / RATE).round(4).tolist() == [0.5, 1.7, 3.0]


def test_no_speech_in_silence():
    for wave in (np.zeros(RATE, np.float32), np.zeros(0, np.float32), np.full(RATE, 1e-6, np.float32)):
        assert not len(speech_spans(wave).borders)


def test_speech_without_a_pause_is_kept():
    wave = tone(2.0) * np.linspace(1.0, 0.3, 2 * RATE, dtype=np.float32)
    assert speech_spans(wave).borders.tolist() == [[0, 2 * RATE]]


def test_tracks_are_trimmed_and_equally_loud(tmp_path):
    recording(tmp_path / "a-0.wav", silence(1), tone(1.5, level=0.5), silence(1))
    recording(tmp_path / "a-1.wav", tone(0.8, level=0.01))
    recording(tmp_path / "b-0.wav", silence(0.5), tone(2.0, level=0.05))
    made = voices.read(tmp_path)
    assert made.speakers == ("a", "b") and not made.exclusions
    for index, seconds in enumerate((2.36, 2.03)):
        track = made.speech(index)
        assert track.dtype == np.int16 and len(track) == pytest.approx(seconds * RATE, abs=160)
        assert np.sqrt(np.mean(track.astype(float) ** 2)) / 32768 == pytest.approx(voices.LEVEL, rel=0.03)
        assert (made.onsets(index) < len(track)).all()
    assert made.onsets(0).tolist() == [480, 480 + round(1.53 * RATE)]


def test_who_speaks(tmp_path):
    for name in ("x/s1/1-a.wav", "x/s1/deep/er/2-a.wav", "x/s2/1-b.wav", "x/103-1240-0000.wav", "x/plain.wav"):
        recording(tmp_path / name, tone(1.2))
    root = tmp_path / "x"
    assert voices.read(root).speakers == ("103", "s1", "s2")
    assert [e.reason for e in voices.read(root).exclusions] == ["no speaker: its name has no '-'"]
    assert voices.read(root, speaker="name").speakers == ("1", "103", "2")
    folders = voices.read(root, speaker="folder")
    assert folders.speakers == ("s1", "s2") and {e.reason for e in folders.exclusions} == {"in no folder of a speaker"}
    with pytest.raises(AffectError, match="can be used .5 no speaker"):
        voices.read(root, speaker="name", separator=".")


def test_who_speaks_by_a_table(tmp_path):
    for name in ("clips/1.wav", "clips/2.wav"):
        recording(tmp_path / name, tone(1.2))
    (tmp_path / "t.tsv").write_text("file\twho\nclips/1.wav\tAda\nclips/2.wav\t\nclips/3.wav\tEve\n")
    made = voices.read(tmp_path, table="t.tsv", columns=("file", "who"))
    assert made.speakers == ("Ada",)
    assert {e.what: e.reason for e in made.exclusions} == {
        "clips/2.wav": "no speaker", "clips/3.wav": "missing audio file"
    }  # fmt: skip
    with pytest.raises(AffectError, match="has no column 'speaker'"):
        voices.read(tmp_path, table="t.tsv", columns=("file", "speaker"))


def test_who_speaks_in_a_corpus(small_corpus):
    made = voices.read(small_corpus, corpus="iemocap", seconds=1.5)
    rows = corpora.read(corpora.UTTERANCES, "iemocap", small_corpus).utterances
    left_out = {exclusion.what for exclusion in made.exclusions}
    assert {*made.speakers} | left_out == {*rows["speaker"][:]} and len(made) > 1
    assert all(RATE <= len(made.speech(k)) <= 1.5 * RATE for k in range(len(made)))
    with pytest.raises(AffectError, match="is of features"):
        voices.read(small_corpus, corpus="mer2023")


def test_what_cannot_be_used_is_an_exclusion(tmp_path):
    recording(tmp_path / "a-0.wav", tone(2.0))
    recording(tmp_path / "b-0.wav", tone(0.6))
    recording(tmp_path / "c-0.wav", silence(2.0))
    recording(tmp_path / "d-0.wav", np.zeros(0, np.float32))
    (tmp_path / "e-0.wav").write_bytes(b"RIFFnonsense")
    (tmp_path / "notes.txt").write_text("no audio")
    made = voices.read(tmp_path)
    assert made.speakers == ("a",)
    reasons = {exclusion.what: exclusion.reason for exclusion in made.exclusions}
    assert reasons["b"] == "less than 1 s of speech" and reasons["c-0.wav"] == "no speech"
    assert "holds no samples" in reasons["d-0.wav"] and reasons["e-0.wav"].startswith("bad audio: ")
    assert [*voices.read(tmp_path).exclusions] == [*made.exclusions], "from the cache, too"


def test_no_voice_at_all(tmp_path):
    with pytest.raises(AffectError, match="no such folder"):
        voices.read(tmp_path / "none")
    with pytest.raises(AffectError, match="has no voice that can be used .it holds no recording"):
        voices.read(tmp_path)


def test_the_cache_follows_the_files(tmp_path, monkeypatch):
    recording(tmp_path / "a-0.wav", tone(2.0))
    first = voices.read(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(voices, "_trimmed", None)
        assert voices.read(tmp_path).fingerprint == first.fingerprint
    recording(tmp_path / "a-0.wav", tone(3.0))
    assert voices.read(tmp_path).fingerprint != first.fingerprint


def test_some_are_held_out(tmp_path):
    made = voices.read(talkers.write(tmp_path / "tones", 1.5))
    rest, held = made.hold_out(2, seed=0)
    assert len(held) == 2 and sorted((*rest.speakers, *held.speakers)) == [*made.speakers]
    assert made.hold_out(2, seed=0)[1].speakers == held.speakers
    assert len({made.hold_out(2, seed=k)[1].speakers for k in range(8)}) > 1
    name = held.speakers[1]
    assert np.array_equal(held.speech(1), made.speech(made.speakers.index(name)))
    assert held.fingerprint != made.fingerprint
    with pytest.raises(AffectError, match="5 of 5 voices can't be held out: give from 1 to 4"):
        made.hold_out(5, seed=0)
    with pytest.raises(AffectError, match="no voice of the speaker 'Eve'"):
        made.select(["Eve"])


def test_other_speeds_are_voices_of_their_own(tmp_path):
    recording(tmp_path / "a-0.wav", tone(1.5, 440), silence(1), tone(1.0, 440))
    recording(tmp_path / "b-0.wav", tone(1.5, 660))
    own = voices.read(tmp_path)
    made = voices.at_speeds(own, (0.8, 1.25))
    assert made.speakers == ("a", "a x0.8", "a x1.25", "b", "b x0.8", "b x1.25")
    assert np.array_equal(made.speech(0), own.speech(0)) and np.array_equal(made.onsets(0), own.onsets(0))
    for place, hertz in enumerate((440, 352, 550, 660, 528, 825)):
        speech = made.speech(place).astype(float)
        spectrum = np.abs(np.fft.rfft(speech * np.hanning(len(speech))))
        assert abs(spectrum.argmax() * RATE / len(speech) - hertz) < 2
        assert np.sqrt((speech**2).mean()) == pytest.approx(voices.LEVEL * 32768, rel=0.02)
    seconds = [len(made.speech(place)) / len(own.speech(place // 3)) for place in range(6)]
    assert seconds == pytest.approx([1, 1.25, 0.8] * 2, abs=1e-3)
    assert made.onsets(1) == pytest.approx(own.onsets(0) / 0.8, abs=1)
    assert voices.at_speeds(own, (0.8, 1.25)).fingerprint == made.fingerprint != own.fingerprint
    assert voices.at_speeds(own, ()) is own


def test_generated_voices(tmp_path):
    settings = synthetic_voices.VoiceSettings(voices=4, unseen=2, seconds=5.0)
    seen, unseen = (voices.read(path) for path in synthetic_voices.generate(tmp_path / "v", settings))
    assert len(seen) == 4 and len(unseen) == 2 and not {*seen.speakers} & {*unseen.speakers}
    # A mean spectrum tells speakers apart: they are nearer to themselves than to others.
    spectra = []
    for made in (seen, unseen):
        for index in range(len(made)):
            halves = np.array_split(made.speech(index).astype(np.float64), 2)
            frames = [half[: len(half) // 512 * 512].reshape(-1, 512) * np.hanning(512) for half in halves]
            spectra.append([np.log(np.abs(np.fft.rfft(each)) + 1).mean(axis=0) for each in frames])
    first, second = (np.array([pair[side] for pair in spectra]) for side in (0, 1))
    distance = np.linalg.norm(first[:, None] - second[None], axis=2)
    assert np.median(distance) > 1.5 * np.median(distance.diagonal())
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == ["seen", "unseen", "voices.json"]
    with pytest.raises(AffectError, match="seconds=1.0 must be within 2"):
        synthetic_voices.VoiceSettings(seconds=1.0)


def test_librispeech(real_data):
    made = voices.read(real_data / "librispeech" / "test-other", seconds=20.0)
    assert len(made) == 6 and not made.exclusions
    assert all(len(made.speech(index)) == 20 * RATE for index in range(6))


def test_parts_of_a_recording_are_no_voices(tmp_path, monkeypatch):
    """Each would be given the voices of all who speak in it."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000)
    for name in ("long", "own"):
        soundfile.write(folder / f"{name}.wav", noise, 16_000)
    (folder / "labels.csv").write_text(
        "path,speaker,valence,arousal,start,end\nlong.wav,a,1,2,0,1\nlong.wav,b,1,2,1,2\nown.wav,c,1,2,,\n"
    )
    sources, left_out = voices._of_corpus(folder, "csv_folder")
    assert [(who, path.name) for who, path in sources] == [("c", "own.wav")]
    assert [each.reason for each in left_out] == ["part of a recording"] * 2
