import math
import shutil

import pytest
from iemocap_tree import write_wav

from affect.data import audio, splits
from affect.data.corpora import UTTERANCES, emodb, read
from affect.errors import AffectError


def test_names_to_labels(tmp_path):
    expected = {
        "03a01Wa": ("anger", -0.51, 0.59, "M"),
        "08a02La": ("boredom", -0.65, -0.62, "F"),
        "09a04Ea": ("disgust", -0.60, 0.35, "F"),
        "10a05Aa": ("fear", -0.64, 0.60, "M"),
        "11a07Fb": ("happiness", 0.81, 0.51, "M"),
        "16b01Tc": ("sadness", -0.63, -0.27, "F"),
        "13b10N": ("neutral", 0.0, 0.0, "F"),
    }
    for name in expected:
        write_wav(tmp_path / "wav" / f"{name}.wav")
    write_wav(tmp_path / "wav" / "noise.wav")
    write_wav(tmp_path / "wav" / "03a01Xa.wav")
    (tmp_path / "wav" / "._03a01Wa.wav").write_bytes(b"junk")
    corpus = emodb.read(tmp_path)
    rows = {row["id"]: row for row in corpus.utterances}
    assert rows.keys() == expected.keys()
    for name, (emotion, valence, arousal, gender) in expected.items():
        row = rows[name]
        assert (row["emotion"], row["valence"], row["arousal"], row["gender"]) == (emotion, valence, arousal, gender)
        assert row["speaker"] == row["session"] == row["dialogue"] == name[:2]
        assert row["script"] == name[2:5]
        assert math.isnan(row["dominance"])
    assert {exclusion.what for exclusion in corpus.exclusions} == {"noise.wav", "03a01Xa.wav"}
    assert corpus.mapped
    assert corpus.scale == (-1.0, 1.0)


def test_root_may_be_the_wav_folder(tmp_path):
    write_wav(tmp_path / "wav" / "03a01Wa.wav")
    assert emodb.read(tmp_path).fingerprint == emodb.read(tmp_path / "wav").fingerprint


def test_not_emodb(tmp_path):
    write_wav(tmp_path / "speech.wav")
    with pytest.raises(AffectError, match="03a01Fa.wav"):
        emodb.read(tmp_path)
    with pytest.raises(AffectError, match="is not a folder"):
        emodb.read(tmp_path / "absent")


def test_the_real_recordings(real_emodb):
    corpus = read(UTTERANCES, "emodb", real_emodb)
    data = corpus.utterances
    assert len(data) == 304
    assert not corpus.exclusions
    assert sorted(set(data["speaker"])) == ["03", "08", "09", "10", "11", "13"]
    assert splits.folds(data, "speaker") == ["03", "08", "09", "10", "11", "13"]
    row = data[0]
    samples = audio.of_row(row)
    assert len(samples) == pytest.approx(row["duration"] * 16_000, abs=1)


def test_the_cache_is_used_and_a_changed_file_read_again(tmp_path, monkeypatch):
    for name in ("03a01Wa", "08a01Wa"):
        write_wav(tmp_path / f"{name}.wav")
    first = emodb.read(tmp_path)
    decoded = []
    real_check = audio.check
    monkeypatch.setattr(audio, "check", lambda path, name: (decoded.append(path.name), real_check(path, name))[1])
    assert emodb.read(tmp_path).fingerprint == first.fingerprint
    assert decoded == []
    write_wav(tmp_path / "03a01Wa.wav", seconds=0.5)
    second = emodb.read(tmp_path)
    assert decoded == ["03a01Wa.wav"]
    assert second.utterances["duration"][0] == 0.5
    assert second.fingerprint != first.fingerprint


def test_faults_are_not_remembered(tmp_path):
    write_wav(tmp_path / "03a01Wa.wav")
    good = (tmp_path / "03a01Wa.wav").read_bytes()
    write_wav(tmp_path / "08a01Wa.wav")
    (tmp_path / "03a01Wa.wav").write_bytes(good[:100])
    assert len(emodb.read(tmp_path).utterances) == 1
    (tmp_path / "03a01Wa.wav").write_bytes(good)
    assert len(emodb.read(tmp_path).utterances) == 2


def test_a_damaged_or_unwritable_cache_costs_time_only(tmp_path, cache, monkeypatch, caplog):
    write_wav(tmp_path / "03a01Wa.wav")
    first = emodb.read(tmp_path)
    (file,) = (cache / "audio").iterdir()
    file.write_text('{"half of a')
    assert emodb.read(tmp_path).fingerprint == first.fingerprint
    assert "unreadable" in caplog.text
    shutil.rmtree(cache)
    cache.write_text("a file where the folder should be")
    assert emodb.read(tmp_path).fingerprint == first.fingerprint
    assert "checked again next time" in caplog.text
