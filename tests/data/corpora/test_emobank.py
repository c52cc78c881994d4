import csv
import logging
import math

import pytest

from affect.data import corpora, inspect, splits
from affect.data.corpora import UTTERANCES, emobank, read
from affect.errors import AffectError

HEADER = ["id", "split", "V", "A", "D", "text"]


def write(folder, lines, header=HEADER, mark=""):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "emobank.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        csv.writer(file).writerows([header, *lines])
    return folder


def sentences(document, count, part):
    return [[f"{document}_{k}_{k + 9}", part, 3.0, 3.1, 2.9, f"sentence {k} of {document}"] for k in range(count)]


def test_a_sentence_has_its_columns(tmp_path):
    text = 'He said: "Go,\u2028now!"'
    root = write(
        tmp_path,
        [
            ["wsj_0158_1951_2032", "train", "1.5", " 4 ", "", text],
            ["SemEval_17", "test", "3", "2", "5", "Ice storm"],
            ["blog-new-year's_1_5", "dev", "1", "", "2", "NA"],
        ],
        mark="\ufeff",
    )
    corpus = read(UTTERANCES, "emobank", root)
    rows = {row["id"]: row for row in corpus.utterances}
    row = rows["wsj_0158_1951_2032"]
    assert (row["valence"], row["arousal"], row["transcript"], row["split"]) == (1.5, 4.0, text, "train")
    assert math.isnan(row["dominance"])
    assert math.isnan(row["duration"])
    assert (row["path"], row["speaker"]) == ("", "")
    assert (row["dialogue"], row["session"]) == ("wsj_0158", "wsj_0158")
    headline = rows["SemEval_17"]
    assert (headline["dialogue"], headline["session"], headline["dominance"]) == ("SemEval_17", "SemEval", 5.0)
    assert rows["blog-new-year's_1_5"]["transcript"] == "NA", "a text may look like a missing value"
    assert corpus.scale == (1, 5)
    assert corpus.exclusions == []


def test_bad_rows_are_excluded_with_a_reason(tmp_path, caplog):
    good = sentences("book", 3, "train") + sentences("other", 2, "test")
    bad = [
        ["", "train", 3, 3, 3, "x"],
        ["a_1_2", "train", 3, 3, 3, " "],
        ["a_2_3", "holdout", 3, 3, 3, "x"],
        ["a_3_4", "train", "three", 3, 3, "x"],
        ["a_4_5", "train", 3, 5.5, 3, "x"],
        ["a_5_6", "train", "", "", "nan", "x"],
        ["a_6_7", "train", 3, 3, 3, "an unquoted comma", " as here"],
        ["a_7_8", "train", 3],
        ["a_8_9", "train", "inf", 3, 3, "x"],
        good[0],
    ]
    corpus = emobank.read(write(tmp_path, good + bad))
    assert [(entry.what, entry.reason.partition(":")[0]) for entry in corpus.exclusions] == [
        ("emobank.csv:7", "no id"),
        ("a_1_2", "no text"),
        ("a_2_3", "unknown part"),
        ("a_3_4", "label is no number"),
        ("a_4_5", "label out of range"),
        ("a_5_6", "no label"),
        ("a_6_7", "more cells than columns"),
        ("a_7_8", "no text"),
        ("a_8_9", "label is no number"),
        ("book_0_9", "listed more than once"),
    ]
    assert corpus.exclusions[4].reason == "label out of range: arousal 5.5 on 1..5"
    assert sorted(corpus.utterances["id"]) == sorted(line[0] for line in good)
    assert "emobank: 5 utterances, 10 exclusions" in caplog.text


@pytest.mark.parametrize("missing", HEADER)
def test_a_missing_column_is_named(tmp_path, missing):
    root = write(tmp_path, [], [name for name in HEADER if name != missing])
    with pytest.raises(AffectError, match=f"no column '{missing}'; it has: ") as caught:
        emobank.read(root)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path):
    with pytest.raises(AffectError, match="is not a folder"):
        emobank.read(tmp_path / "absent")
    with pytest.raises(AffectError, match=r"has no emobank\.csv or corpus/emobank\.csv"):
        emobank.read(tmp_path)
    with pytest.raises(AffectError, match="no utterance of .* can be used"):
        emobank.read(write(tmp_path, []))
    (tmp_path / "emobank.csv").write_bytes(b"id,split\n\xe9")
    with pytest.raises(AffectError, match=r"is not UTF-8 \(byte 9\)"):
        emobank.read(tmp_path)
    with pytest.raises(AffectError, match="has no option 'scale': it has none"):
        read(UTTERANCES, "emobank", tmp_path, scale=(1, 7))


def test_the_official_folder_is_found(tmp_path):
    lines = sentences("a", 2, "train") + sentences("b", 2, "dev") + sentences("c", 2, "test")
    write(tmp_path / "EmoBank" / "corpus", lines)
    assert len(emobank.read(tmp_path / "EmoBank").utterances) == 6
    assert corpora.detect(tmp_path / "EmoBank") == "emobank"


def test_official_parts_stay_where_there_is_a_test_part(tmp_path, caplog):
    lines = sentences("a", 20, "train") + sentences("b", 2, "dev") + sentences("c", 3, "test")
    parts = splits.split(emobank.read(write(tmp_path, lines)).utterances, "column", 1, allow_shared=True)
    assert [len(parts[part]) for part in splits.PARTS] == [20, 2, 3]
    assert "has no test rows" not in caplog.text


def many(documents=40, sentences_each=6):
    lines = [line for k in range(documents) for line in sentences(f"doc{k}", sentences_each, "train")]
    return lines + sentences("novel", 60, "train") + sentences("doc0", 30, "dev")[-20:]


def test_without_a_test_part_dev_is_tested_and_whole_documents_validate(tmp_path, caplog):
    lines = many()
    with caplog.at_level(logging.WARNING, logger="affect"):
        rows = emobank.read(write(tmp_path, lines)).utterances
    parts = splits.split(rows, "column", 1, allow_shared=True)
    assert set(parts["test"]["id"]) == {line[0] for line in lines if line[1] == "dev"}
    documents = {part: set(parts[part]["dialogue"]) for part in splits.PARTS}
    assert not documents["train"] & documents["valid"]
    assert "novel" in documents["train"], "one long document must not decide alone"
    assert 24 <= len(parts["valid"]) <= 30, "a tenth of 300 training rows, in sixes"
    assert len(parts["train"]) + len(parts["valid"]) == 300
    told = [record.getMessage() for record in caplog.records if "has no test rows" in record.getMessage()]
    assert len(told) == 1
    assert "its 20 dev rows are tested" in told[0]
    assert (
        f"{len(parts['valid'])} of its 300 train rows ({len(documents['valid'])} whole documents) validate" in told[0]
    )


def test_the_validation_part_depends_on_documents_alone(tmp_path):
    lines = many()
    one = emobank.read(write(tmp_path / "one", lines)).utterances
    other = emobank.read(write(tmp_path / "other", lines[::-1])).utterances
    valid = [sorted(row["id"] for row in rows if row["split"] == "valid") for rows in (one, other)]
    assert valid[0] == valid[1]
    # The order of a hash, not of names: the first documents by name are not the ones chosen.
    chosen = {name.rsplit("_", 2)[0] for name in valid[0]}
    assert chosen != set(sorted(f"doc{k}" for k in range(40))[: len(chosen)])


def test_few_documents(tmp_path):
    two = sentences("long", 9, "train") + sentences("short", 3, "train") + sentences("x", 2, "dev")
    rows = emobank.read(write(tmp_path, two)).utterances
    assert {row["dialogue"] for row in rows if row["split"] == "valid"} == {"short"}
    rows = emobank.read(write(tmp_path, sentences("only", 9, "train") + sentences("x", 2, "dev"))).utterances
    assert set(rows["split"]) == {"train", "test"}
    with pytest.raises(AffectError, match="empty valid part"):
        splits.split(rows, "column", 1, allow_shared=True)


def test_shared_documents_need_a_word(tmp_path):
    rows = emobank.read(write(tmp_path, many())).utterances
    with pytest.raises(AffectError, match="train and test share 1 of the dialogues"):
        splits.split(rows, "column", 1)


def test_the_fingerprint_follows_texts_and_labels(tmp_path):
    lines = sentences("a", 3, "train") + sentences("b", 3, "test")
    prints = {emobank.read(write(tmp_path / "0", lines)).fingerprint}
    for k, (column, value) in enumerate([(5, "another text"), (3, 3.2), (1, "dev")]):
        changed = [list(line) for line in lines]
        changed[0][column] = value
        prints.add(emobank.read(write(tmp_path / f"{k}changed", changed)).fingerprint)
    assert len(prints) == 4
    assert emobank.read(write(tmp_path / "again", lines)).fingerprint in prints


def test_inspect_says_that_there_is_no_audio(tmp_path):
    text = inspect.describe(read(UTTERANCES, "emobank", write(tmp_path, many())))
    assert "durations: none, there is no audio" in text
    assert "mean nan" not in text
    assert "valence: mean 3.000" in text


def test_the_real_corpus(real_data):
    corpus = emobank.read(real_data / "emobank")
    rows = corpus.utterances.to_pandas()
    assert corpus.exclusions == []
    assert dict(rows["split"].value_counts()) == {"train": 7256, "test": 1000, "valid": 806}
    assert not set(rows[rows.split == "valid"].dialogue) & set(rows[rows.split == "train"].dialogue)
    official = rows[rows.split != "test"]
    tested = rows[rows.split == "test"]
    # The docstring's counts.
    assert tested.dialogue.isin(set(official.dialogue)).sum() == 882
    assert len(set(tested.dialogue) & set(official.dialogue)) == 120
    assert rows[rows.session != "SemEval"].dialogue.nunique() == 135
    assert len(set(tested.transcript) & set(official.transcript)) == 20
    assert abs(rows.valence.mean() - 2.9765) < 1e-4
