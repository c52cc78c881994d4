import logging
import math
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
from iemocap_tree import evaluation, line, write_dialogue, write_trap_dialogue, write_tree, write_wav

from affect.data import splits
from affect.data.corpora import iemocap
from affect.errors import AffectError
from tests.data.corpora.exclusions import reasons


@pytest.fixture
def traps(tmp_path):
    write_trap_dialogue(tmp_path / "corpus")
    return iemocap.read(tmp_path / "corpus")


def by_id(corpus):
    return {row["id"]: row for row in corpus.utterances}


def test_rows_of_the_trap_dialogue(traps):
    rows = by_id(traps)
    assert sorted(rows) == [f"Ses01F_impro01_{n}" for n in ("F000", "F002", "M001", "M003")]
    man = rows["Ses01F_impro01_M001"]
    assert (man["session"], man["speaker"], man["gender"]) == ("Ses01", "Ses01M", "M")
    assert (man["dialogue"], man["script"], man["emotion"]) == ("Ses01F_impro01", "impro01", "ang")
    assert (man["valence"], man["arousal"], man["dominance"]) == (1.5, 4.5, 3.5)
    assert rows["Ses01F_impro01_F002"]["emotion"] == "xxx"
    assert rows["Ses01F_impro01_F000"]["transcript"] == "Excuse me."
    assert man["transcript"] == "It\ufffds caf\ufffd."
    assert rows["Ses01F_impro01_F002"]["transcript"] == ""
    assert rows["Ses01F_impro01_F000"]["duration"] == pytest.approx(0.1)
    assert (rows["Ses01F_impro01_M003"]["valence"], rows["Ses01F_impro01_M003"]["arousal"]) == (5.5, 0.5)
    assert not traps.mapped
    assert traps.scale == (1.0, 5.0)


def test_everything_left_out_is_listed_once(traps):
    found = reasons(traps)
    prefix = "Ses01F_impro01_"
    assert found.pop(f"{prefix}F004").startswith("label out of range")
    assert found.pop(f"{prefix}F005") == "missing wav"
    assert found.pop(f"{prefix}F007").startswith("malformed evaluation line")
    assert found.pop(f"{prefix}F008") == "missing evaluation"
    assert found.pop(f"{prefix}F009").startswith("label out of range")
    assert found.pop(f"{prefix}F000").startswith("evaluated more than once")
    assert found.pop("Ses02F_impro01_F010").startswith("in the folder of another session")
    malformed = [reason for what, reason in found.items() if what.startswith("Session1/Ses01F_impro01.txt:")]
    assert len(malformed) == len(found) == 2, found
    assert all(reason.startswith("malformed evaluation line") for reason in malformed)
    assert len(traps.exclusions) == 9


def test_exclusions_are_logged(tmp_path, caplog):
    write_trap_dialogue(tmp_path)
    with caplog.at_level(logging.WARNING, logger="affect"):
        iemocap.read(tmp_path)
    assert "4 utterances, 9 exclusions" in caplog.text
    assert "3 malformed evaluation line" in caplog.text


@pytest.mark.parametrize(
    ("utterance", "speaker", "dialogue", "script"),
    [
        ("Ses03M_impro05a_M001", "Ses03M", "Ses03M_impro05a", "impro05"),
        ("Ses03M_impro05b_F011", "Ses03F", "Ses03M_impro05b", "impro05"),
        ("Ses05M_script01_1b_F002", "Ses05F", "Ses05M_script01_1b", "script01_1"),
        ("Ses01F_script03_2_M045", "Ses01M", "Ses01F_script03_2", "script03_2"),
        ("Ses04F_script02_2_MXX0", "Ses04M", "Ses04F_script02_2", "script02_2"),
    ],
)
def test_names(tmp_path, utterance, speaker, dialogue, script):
    write_dialogue(tmp_path, int(utterance[3:5]), dialogue, evaluation(line(utterance)), b"", [utterance])
    (row,) = iemocap.read(tmp_path).utterances
    assert (row["speaker"], row["dialogue"], row["script"]) == (speaker, dialogue, script)
    assert row["gender"] == speaker[-1]


def test_bad_audio_is_an_exclusion(tmp_path):
    name = "Ses01F_impro01"
    names = [f"{name}_F{number:03d}" for number in range(6)]
    write_dialogue(tmp_path, 1, name, evaluation(*map(line, names)), b"", names)
    wav = tmp_path / "Session1" / "sentences" / "wav" / name
    (wav / f"{names[0]}.wav").write_bytes(b"")
    (wav / f"{names[1]}.wav").write_bytes(b"this is no wav at all, not even nearly one")
    soundfile.write(wav / f"{names[2]}.wav", np.full(800, np.nan, np.float32), 16_000, subtype="FLOAT")
    soundfile.write(wav / f"{names[3]}.wav", np.zeros(0, np.float32), 16_000)
    whole = (wav / f"{names[4]}.wav").read_bytes()
    (wav / f"{names[4]}.wav").write_bytes(whole[: len(whole) // 2])
    corpus = iemocap.read(tmp_path)
    assert corpus.utterances["id"][:] == [names[5]]
    found = reasons(corpus)
    for index, word in enumerate(("empty", "not readable", "NaN", "no samples", "truncated")):
        assert found[names[index]].startswith("bad audio: ") and word in found[names[index]], found


def test_a_corpus_of_which_nothing_is_left(tmp_path):
    write_dialogue(tmp_path, 1, "Ses01F_impro01", evaluation(line("Ses01F_impro01_F000")), b"", [])
    with pytest.raises(AffectError, match=r"no utterance of .* can be used \(1 missing wav; for example .*\)"):
        iemocap.read(tmp_path)


def test_roots(tmp_path):
    inner = tmp_path / "downloads" / "IEMOCAP_full_release"
    write_trap_dialogue(inner)
    expected = iemocap.read(inner)
    for root in (tmp_path / "downloads", inner / "Session1"):
        assert iemocap.read(root).fingerprint == expected.fingerprint
    (tmp_path / "other").mkdir()
    for root in (tmp_path / "other", tmp_path / "absent"):
        with pytest.raises(AffectError, match="iemocap: "):
            iemocap.read(root)


def test_the_fingerprint_follows_labels_and_audio_not_the_place(tmp_path):
    first = write_tree(tmp_path / "a", sessions=2)
    shutil.copytree(first, tmp_path / "b")
    reference = iemocap.read(first).fingerprint
    assert iemocap.read(tmp_path / "b").fingerprint == reference
    evaluation_file = tmp_path / "b" / "Session1" / "dialog" / "EmoEvaluation" / "Ses01M_impro02.txt"
    text = evaluation_file.read_text()
    evaluation_file.write_text(text.replace("3.0000", "3.0001", 1))
    assert iemocap.read(tmp_path / "b").fingerprint != reference
    evaluation_file.write_text(text)
    assert iemocap.read(tmp_path / "b").fingerprint == reference
    wav = next((tmp_path / "b" / "Session2" / "sentences" / "wav").rglob("*.wav"))
    size = wav.stat().st_size
    write_wav(wav, (size - 44) / 32_000, frequency=330.0)
    assert wav.stat().st_size == size
    assert iemocap.read(tmp_path / "b").fingerprint != reference


def test_the_standard_protocols(tmp_path):
    data = iemocap.read(write_tree(tmp_path)).utterances
    assert splits.folds(data, "session") == [f"Ses0{n}" for n in range(1, 6)]
    parts = splits.split(data, "session", 5)
    assert set(parts["test"]["session"]) == {"Ses05"}
    assert set(parts["valid"]["session"]) == {"Ses01"}
    assert set(parts["train"]["session"]) == {"Ses02", "Ses03", "Ses04"}
    assert len(splits.folds(data, "speaker")) == 10
    parts = splits.split(data, "speaker", 1)
    assert set(parts["test"]["speaker"]) == {"Ses01F"}
    assert set(parts["valid"]["speaker"]) == {"Ses01M"}
    assert set(parts["train"]["session"]) == {"Ses02", "Ses03", "Ses04", "Ses05"}
    assert Counter(data["gender"])["M"] == 5 * 6 + 2
    assert all(not math.isnan(value) for value in data["dominance"])
