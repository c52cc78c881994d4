"""MSP-Podcast: a tiny tree with every trap of its layout."""

import csv
import logging
import math
from collections import Counter

import pytest
from iemocap_tree import write_wav

from affect.data import corpora, inspect, splits
from affect.data.corpora import UTTERANCES, msp_podcast, read
from affect.errors import AffectError

HEADER = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")


def turn(podcast: int, number: int) -> str:
    return f"MSP-PODCAST_{podcast:04d}_{number:04d}.wav"


GOOD = {
    turn(1, 1): ("N", "2.5", "4.25", "3", "11", "Male", "Train"),
    turn(1, 2): ("A", "6", "1.5", "5.5", "Unknown", "Unknown", "Train"),
    turn(1, 3): ("X", "1", "7", "4", "Unknown", "Unknown", "Train"),
    turn(2, 1): ("h", "5", "6", "4", "12", "Female", "development"),
    turn(2, 2): ("O", "5", "", "4", "", "", "Development"),
    turn(3, 1): ("N_A", "4", "3", "NaN", "13", "female", "Test1"),
    turn(1, 4): ("C", "3", "2", "N_A", "Unknown", "Unknown", "Test1"),
    turn(4, 1): ("U", "4", "4", "4", "unknown", "Unknown", "Test2"),
    turn(5, 1): ("S", "", "", "", "14", "Male", "Train"),
}
BAD = {
    turn(6, 1): (("", "", "", "", "Unknown", "Unknown", "Test3"), "no label: Test3"),
    turn(6, 2): (("X", "N_A", "nan", "", "Unknown", "Unknown", "Test3"), "no label: Test3"),
    turn(7, 1): (("N", "4", "4", "4", "15", "Male", ""), "in no part: (empty)"),
    turn(7, 2): (("N", "4", "4", "4", "15", "Male", "Holdout"), "in no part: Holdout"),
    turn(7, 3): (("N", "7.5", "4", "4", "15", "Male", "Train"), "label out of range: arousal 7.5 on 1..7"),
    turn(7, 4): (("N", "4", "0", "4", "15", "Male", "Train"), "label out of range: valence 0 on 1..7"),
    turn(7, 5): (("N", "4", "4", "high", "15", "Male", "Train"), "label is no number: dominance 'high'"),
    turn(7, 6): (("Q", "4", "4", "4", "15", "Male", "Train"), "unknown emotion: Q"),
    turn(8, 1): (("N", "4", "4", "4", "15", "Male", "Train"), "missing audio file: Train"),
    turn(8, 2): (("N", "4", "4", "4", "15", "Male", "Train"), "bad audio"),
}


def write_tree(root, good=GOOD, bad=BAD, header=HEADER, order=HEADER, mark="", extra=()):
    """Write a corpus whose columns are called `header` and stand in `order`, and return its folder."""
    (root / "Labels").mkdir(parents=True)
    cells = [(name, *values) for name, values in good.items()]
    cells += [(name, *values) for name, (values, _) in bad.items()]
    cells += list(extra)
    names = dict(zip(HEADER, header, strict=True))
    with (root / "Labels" / "labels_consensus.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        writer = csv.DictWriter(file, [names.get(name, name) for name in order])
        writer.writeheader()
        for row in cells:
            given = {names[name]: value for name, value in zip(HEADER, row, strict=True)}
            writer.writerow({name: given.get(name, "9") for name in writer.fieldnames})
    for name in (*good, *bad):
        if name != turn(8, 1):
            write_wav(root / "Audios" / name)
    if turn(8, 2) in bad:
        (root / "Audios" / turn(8, 2)).write_bytes(b"RIFF")
    return root


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "MSP", extra=[("", "N", "4", "4", "4", "15", "Male", "Train")])


def rows_of(corpus):
    return {row["id"]: row for row in corpus.utterances}


def test_rows_and_their_labels(tree):
    corpus = read(UTTERANCES, "msp_podcast", tree)
    rows = rows_of(corpus)
    assert sorted(rows) == sorted(name.removesuffix(".wav") for name in GOOD)
    assert corpus.scale == (1.0, 7.0)
    assert not corpus.mapped
    first = rows["MSP-PODCAST_0001_0001"]
    assert (first["valence"], first["arousal"], first["dominance"]) == (4.25, 2.5, 3.0)
    assert (first["speaker"], first["gender"], first["split"]) == ("11", "M", "Train")
    assert (first["session"], first["dialogue"]) == ("MSP-PODCAST_0001", "MSP-PODCAST_0001 11")
    assert first["duration"] == pytest.approx(0.2)
    emotions = {name: rows[name.removesuffix(".wav")]["emotion"] for name in GOOD}
    assert emotions == dict(
        zip(
            GOOD,
            ["neutral", "anger", "no_agreement", "happiness", "other", "", "contempt", "surprise", "sadness"],
            strict=True,
        )
    )
    assert math.isnan(rows["MSP-PODCAST_0002_0002"]["valence"])
    assert rows["MSP-PODCAST_0002_0002"]["arousal"] == 5.0
    assert math.isnan(rows["MSP-PODCAST_0003_0001"]["dominance"])
    assert rows["MSP-PODCAST_0002_0001"]["split"] == "Development"
    assert [rows[name]["gender"] for name in ("MSP-PODCAST_0003_0001", "MSP-PODCAST_0004_0001")] == ["F", ""]


def test_everything_left_out_is_listed_with_its_reason(tree):
    write_wav(tree / "Audios" / turn(9, 9))
    (tree / "Audios" / f"._{turn(1, 1)}").write_bytes(b"")
    table = tree / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text() + f"{turn(1, 1)},A,7,7,7,11,Male,Test1\n")
    corpus = msp_podcast.read(tree)
    found = {exclusion.what: exclusion.reason for exclusion in corpus.exclusions}
    assert len(found) == len(corpus.exclusions)
    assert found.pop(turn(9, 9)) == "audio file without labels"
    assert found.pop("MSP-PODCAST_0001_0001") == "listed more than once"
    assert rows_of(corpus)["MSP-PODCAST_0001_0001"]["split"] == "Train"
    assert found.pop(f"labels_consensus.csv:{len(GOOD) + len(BAD) + 2}") == "no file name"
    assert found.pop("MSP-PODCAST_0008_0002").startswith("bad audio: ")
    assert found == {name: reason for name, (_, reason) in BAD.items() if reason != "bad audio"}
    text = inspect.describe(corpus)
    for line in ("  2 no label", "  2 in no part", "  1 missing audio file", "  1 audio file without labels"):
        assert line in text


def test_official_parts_are_of_one_training_though_speakers_are_unknown(tree, caplog):
    with caplog.at_level(logging.WARNING, logger="affect"):
        data = msp_podcast.read(tree).utterances
    told = [record.getMessage() for record in caplog.records if "no known speaker" in record.getMessage()]
    assert told == [
        "msp_podcast: 5 utterances have no known speaker (Train 2, Development 1, Test1 1, Test2 1): "
        "whether parts share those speakers cannot be told"
    ]
    assert splits.folds(data, "column") == ["test1, test2"]
    parts = splits.split(data, "column", 1)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 4, "valid": 2, "test1": 2, "test2": 1}
    assert parts["test2"]["id"][:] == ["MSP-PODCAST_0004_0001"]
    # One podcast's unknown turns of a part are one speaker; in another part or podcast, another.
    counts = Counter(data["speaker"])
    assert counts["unknown in MSP-PODCAST_0001 Train"] == 2
    assert counts["unknown in MSP-PODCAST_0001 Test1"] == 1
    assert len([name for name in counts if name.startswith("unknown")]) == 4


def test_a_known_speaker_in_two_parts_is_still_refused(tmp_path):
    good = {**GOOD, turn(3, 1): ("N", "4", "3", "3", "11", "Male", "Test1")}
    data = msp_podcast.read(write_tree(tmp_path / "c", good=good, bad={})).utterances
    with pytest.raises(AffectError, match="train and test1 share 1 of the speakers, '11'"):
        splits.split(data, "column", 1)


def test_nothing_is_said_where_all_speakers_are_known(tmp_path, caplog):
    known = {name: values for name, values in GOOD.items() if values[4] in ("11", "12", "13", "14")}
    with caplog.at_level(logging.WARNING, logger="affect"):
        assert len(msp_podcast.read(write_tree(tmp_path / "c", good=known, bad={})).utterances) == 4
    assert caplog.records == []


def test_columns_in_any_order_with_byte_order_mark_and_lower_case(tree, tmp_path):
    expected = msp_podcast.read(tree)
    header = tuple(name.lower() for name in HEADER)
    order = ("Extra", *reversed(HEADER), "EmoVal_std")
    other = write_tree(tmp_path / "other", header=header, order=order, mark="\ufeff")
    found = msp_podcast.read(other)
    # As text: NaN is not equal to itself.
    first, second = (str(corpus.utterances.remove_columns("path").to_dict()) for corpus in (expected, found))
    assert first == second
    assert found.fingerprint == expected.fingerprint


def test_fingerprint_follows_labels(tree):
    before = msp_podcast.read(tree).fingerprint
    table = tree / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace("2.5,4.25", "4.25,2.5"))
    assert msp_podcast.read(tree).fingerprint != before


def test_file_names_without_ending(tmp_path):
    tree = write_tree(tmp_path / "c", bad={})
    table = tree / "Labels" / "labels_consensus.csv"
    table.write_text(table.read_text().replace(".wav", ""))
    corpus = msp_podcast.read(tree)
    assert len(corpus.utterances) == len(GOOD)
    assert corpus.exclusions == []


def test_where_the_corpus_is_looked_for(tree, tmp_path):
    expected = msp_podcast.read(tree).fingerprint
    for place in (tree, tmp_path, tree / "Labels", tree / "Audios"):
        assert corpora.detect(place) == "msp_podcast"
        assert msp_podcast.read(place).fingerprint == expected
    (tree / "Labels").rename(tree / "labels")
    (tree / "Audios").rename(tree / "audios")
    assert msp_podcast.read(tree).fingerprint == expected


def test_what_is_not_the_corpus(tmp_path):
    good = {turn(1, 1): GOOD[turn(1, 1)]}
    for name, change, message in (
        ("a", lambda root: (root / "Labels" / "labels_consensus.csv").unlink(), "has no Labels/labels_consensus.csv"),
        ("b", lambda root: (root / "Audios").rename(root / "Sound"), "has no folder Audios"),
        ("c", lambda root: write_table(root, b"FileName,EmoAct\n"), "no column 'spkrid'; it has: FileName, EmoAct"),
        ("d", lambda root: write_table(root, b""), "no column 'filename'; it has: none"),
        ("e", lambda root: write_table(root, b"FileName\n\xe9,1\n"), r"is not UTF-8 \(byte 9\)"),
        ("f", lambda root: write_table(root, (",".join(HEADER) + "\n").encode()), "no utterance of .* can be used"),
    ):
        root = write_tree(tmp_path / name, good=good, bad={})
        change(root)
        with pytest.raises(AffectError, match=message) as caught:
            msp_podcast.read(root)
        assert "\n" not in str(caught.value)
    with pytest.raises(AffectError, match="is not a folder"):
        msp_podcast.read(tmp_path / "absent")


def write_table(root, data: bytes) -> None:
    (root / "Labels" / "labels_consensus.csv").write_bytes(data)
