import pytest
from iemocap_tree import write_tree, write_wav

from affect.data import inspect
from affect.data.corpora import UTTERANCES, detect, read
from affect.errors import AffectError


def test_describe_an_iemocap(tmp_path):
    root = write_tree(tmp_path / "corpus")
    text = inspect.describe(read(UTTERANCES, "iemocap", root))
    lines = text.splitlines()
    assert lines[0].startswith("iemocap: 64 utterances, fingerprint ")
    assert "scale: 1 to 5" in lines
    for expected in (
        "groups: 5 sessions, 16 dialogues, 10 speakers",
        "by session: Ses01 16, Ses02 12, Ses03 12, Ses04 12, Ses05 12",
        "by emotion: neu 62, ",
        "valence: mean ",
        "split by session: 5 folds (Ses01, Ses02, Ses03, Ses04, Ses05); fold 1 has 36 / 12 / 16 train / valid / test",
        "split by speaker: 10 folds",
        "split by column: not possible",
        "split by script: 5 folds",
        "exclusions: 9",
        "  3 malformed evaluation line",
        "    Ses01F_impro01_F005: missing wav",
    ):
        assert expected in text, expected


def test_describe_lists_ten_exclusions_and_counts_all(tmp_path):
    rows = "".join(f"{i}.wav,s,1,1\n" for i in range(13))
    (tmp_path / "labels.csv").write_text("path,speaker,valence,arousal\na.wav,s,1,2\n" + rows)
    write_wav(tmp_path / "a.wav")
    text = inspect.describe(read(UTTERANCES, "csv_folder", tmp_path))
    assert "exclusions: 13" in text
    assert text.count("missing audio file") == 11
    assert "... and 3 more (--all lists them)" in text
    every = inspect.describe(read(UTTERANCES, "csv_folder", tmp_path), listed=None)
    assert every.count("missing audio file") == 14
    assert "12.wav: missing audio file" in every
    assert "more" not in every
    assert "dominance: none" in text
    assert "not possible" in text


def test_describe_says_that_labels_are_mapped(real_emodb):
    text = inspect.describe(read(UTTERANCES, "emodb", real_emodb))
    assert "scale: -1 to 1, mapped from the emotion, not rated" in text
    assert "exclusions: none" in text
    assert "by emotion: anger 72, neutral 52" in text


def test_detect(tmp_path):
    write_tree(tmp_path / "i" / "IEMOCAP_full_release", sessions=1)
    write_wav(tmp_path / "e" / "wav" / "03a01Wa.wav")
    write_wav(tmp_path / "c" / "a.wav")
    (tmp_path / "c" / "labels.csv").write_text("path,speaker,valence,arousal\n")
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "state.json").write_text("{}")
    (tmp_path / "p" / "data").mkdir(parents=True)
    (tmp_path / "p" / "data" / "train.parquet").write_bytes(b"")
    found = {name: detect(tmp_path / name) for name in "iechp"}
    assert found == {"i": "iemocap", "e": "emodb", "c": "csv_folder", "h": "hub", "p": "hub"}
    (tmp_path / "x").mkdir()
    for name, message in (("x", "no known corpus: no Session1"), ("absent", "not a folder")):
        with pytest.raises(AffectError, match=message) as caught:
            detect(tmp_path / name)
        assert "\n" not in str(caught.value)
