import math
import os
import shutil

import pytest
from iemocap_tree import write_wav

from affect.data import inspect, splits
from affect.data.corpora import UTTERANCES, csv_folder, read
from affect.errors import AffectError


def write_table(folder, text, wavs=("a.wav", "b.wav", "c.wav"), name="labels.csv"):
    for wav in wavs:
        write_wav(folder / wav)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_good_and_bad_rows(tmp_path):
    write_table(
        tmp_path,
        "path,speaker,valence,arousal,emotion,gender\n"
        "a.wav,s1,1.5,4,happy,female\n"
        "b.wav,s2,,3.5,,m\n"
        "c.wav,s3,6,3,,\n"
        "d.wav,s3,2,3,,\n"
        "c.wav,s3,two,3,,\n"
        "c.wav,,2,3,,\n"
        "c.wav,s3,,,,\n"
        "a.wav,s1,1.5,4,,\n"
        ",s1,1,1,,\n"
        "a.wav,s1,1,1,,,and more\n"
        "b.wav,s2,,3.5,,m,\n",
    )
    corpus = csv_folder.read(tmp_path, scale=(1, 5))
    rows = {row["id"]: row for row in corpus.utterances}
    assert sorted(rows) == ["a.wav", "b.wav"]
    assert (rows["a.wav"]["valence"], rows["a.wav"]["arousal"], rows["a.wav"]["gender"]) == (1.5, 4.0, "F")
    assert math.isnan(rows["b.wav"]["valence"])
    assert rows["b.wav"]["arousal"] == 3.5
    assert rows["b.wav"]["session"] == "s2"
    assert [exclusion.reason.partition(":")[0] for exclusion in corpus.exclusions] == [
        "label out of range",
        "missing audio file",
        "label is no number",
        "no speaker",
        "no label",
        "no path",
        "more cells than columns",
        "listed more than once",
        "listed more than once",
    ]
    assert corpus.exclusions[5].what == "labels.csv:10"


@pytest.mark.parametrize(("separator", "mark"), [(";", ""), ("\t", "\ufeff"), (",", "\ufeff")])
def test_separators_and_byte_order_mark(tmp_path, separator, mark):
    lines = ["path,speaker,valence,arousal,transcript", 'a.wav,s1,2,3,"one, two; three"']
    table = "\r\n".join(lines)
    if separator != ",":
        table = table.replace('"one, two; three"', "one").replace(",", separator)
    write_table(tmp_path, mark + table, name="anything.csv")
    (row,) = csv_folder.read(tmp_path).utterances
    assert (row["speaker"], row["valence"], row["arousal"]) == ("s1", 2.0, 3.0)
    assert row["transcript"] == ("one, two; three" if separator == "," else "one")


def test_another_corpus_by_a_column_map(tmp_path):
    (tmp_path / "Labels").mkdir()
    text = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    parts = ("Train", "Development", "Test1", "Test2")
    text += "".join(f"{i}.wav,N,2,{i + 3},4,{i},Male,{part}\n" for i, part in enumerate(parts))
    (tmp_path / "Labels" / "labels_consensus.csv").write_text(text)
    for i in range(4):
        write_wav(tmp_path / "Audios" / f"{i}.wav")
    names = {"path": "FileName", "valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom", "speaker": "SpkrID"}
    names |= {"gender": "Gender", "split": "Split_Set", "emotion": "EmoClass"}
    options = {"labels": "Labels/labels_consensus.csv", "audio": "Audios", "columns": names, "scale": (1, 7)}
    corpus = read(UTTERANCES, "csv_folder", tmp_path, **options)
    assert corpus.utterances["valence"][:] == [3.0, 4.0, 5.0, 6.0]
    assert corpus.scale == (1, 7)
    assert splits.folds(corpus.utterances, "column") == ["test1, test2"]
    parts = splits.split(corpus.utterances, "column", 1)
    assert {part: rows["id"][:] for part, rows in parts.items()} == {
        "train": ["0.wav"], "valid": ["1.wav"], "test1": ["2.wav"], "test2": ["3.wav"],
    }  # fmt: skip


def test_further_columns_are_labels_and_groups(tmp_path, caplog):
    write_table(
        tmp_path,
        "path,speaker,valence,arousal,sync,generator,year,length\n"
        "a.wav,s1,1,4,0.5,wav2lip,2019,9\nb.wav,s2,2,3,,sadtalker,2020,9\nc.wav,s3,2,3,n/a,wav2lip,2020,9\n",
    )
    corpus = csv_folder.read(tmp_path)
    assert (corpus.labels, corpus.groups) == (("sync", "year"), ("generator",))
    assert corpus.utterances["sync"][0] == 0.5 and all(math.isnan(value) for value in corpus.utterances["sync"][1:])
    assert corpus.utterances["generator"][:] == ["wav2lip", "sadtalker", "wav2lip"]
    assert splits.folds(corpus.utterances, "generator") == ["sadtalker", "wav2lip"]
    assert splits.folds(corpus.utterances, "year") == ["2019", "2020"], "numbers that are whole tell groups, too"
    assert "length" not in corpus.utterances.column_names and "these names itself: length" in caplog.text
    text = inspect.describe(corpus)
    assert "by generator: sadtalker 1, wav2lip 2" in text
    assert "sync: mean 0.500, deviation 0.000, from 0.500 to 0.500, missing for 2" in text
    assert "split by generator: not possible, fold 1 of a split by generator has an empty train part" in text
    before = corpus.fingerprint
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace("0.5", "0.7"))
    assert csv_folder.read(tmp_path).fingerprint != before


def test_a_scale_that_is_not_given_is_inferred_and_said(tmp_path, caplog):
    write_table(tmp_path, "path,speaker,valence,arousal\na.wav,s1,-2,0\nb.wav,s2,,3\n")
    corpus = csv_folder.read(tmp_path)
    assert (corpus.scale, corpus.inferred) == ((-3.0, 3.0), True)
    assert "csv_folder: no scale was given: -3 to 3 is taken, the labels go from -2 to 3" in caplog.text
    assert "scale: -3 to 3, inferred" in inspect.describe(corpus)
    given = csv_folder.read(tmp_path, scale=(-5, 5))
    assert given.scale == (-5, 5) and "scale: -5 to 5\n" in inspect.describe(given)
    (tmp_path / "labels.csv").write_text("path,speaker,emotion\na.wav,s1,sad\n")
    assert "scale: none, there are no labels of numbers" in inspect.describe(csv_folder.read(tmp_path))


def test_the_name_that_a_user_gives(tmp_path):
    write_table(tmp_path, "path,speaker,valence,arousal\na.wav,s1,2,3\n")
    own = read(UTTERANCES, "csv_folder", tmp_path, name="calls")
    plain = read(UTTERANCES, "csv_folder", tmp_path)
    assert own.identity == f"calls@{plain.fingerprint[:8]}"
    assert plain.identity == f"csv_folder@{plain.fingerprint[:8]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,speaker,valence\na.wav,s,1\n", "no column 'arousal'; it has: path, speaker, valence"),
        ("", "no column 'path'; it has: none"),
        ("path,speaker,valence,arousal\n", "no utterance .* can be used"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    write_table(tmp_path, text)
    with pytest.raises(AffectError, match=message) as caught:
        csv_folder.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_bad_folders(tmp_path):
    with pytest.raises(AffectError, match="no labels.csv"):
        csv_folder.read(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"path,speaker,valence,arousal\n\xe9.wav,s,1,1\n")
    with pytest.raises(AffectError, match=r"is not UTF-8 \(byte 29\)"):
        csv_folder.read(tmp_path)
    (tmp_path / "y.csv").write_text("a,b\n")
    with pytest.raises(AffectError, match="2 CSV files"):
        csv_folder.read(tmp_path)
    with pytest.raises(AffectError, match="has no file z.csv"):
        csv_folder.read(tmp_path, labels="z.csv")
    with pytest.raises(AffectError, match="did you mean 'columns'"):
        read(UTTERANCES, "csv_folder", tmp_path, column={})
    with pytest.raises(AffectError, match="did you mean 'csv_folder'"):
        read(UTTERANCES, "csv_foldr", tmp_path)


def test_what_no_line_names_and_what_is_no_file_is_told(tmp_path):
    write_table(tmp_path, "path,speaker,valence,arousal\n" + "".join(
        f"{name}.wav,s{name},2,3\n" for name in ("a", "gone", "fifo", "folder", "self", "out", "x" * 300)
    ), wavs=("a.wav", "b.wav", "more/c.wav", "folder.wav/d.wav"))  # fmt: skip
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "self.wav").symlink_to("self.wav")
    write_wav(tmp_path.parent / "out" / "out.wav")
    (tmp_path / "out.wav").symlink_to(tmp_path.parent / "out" / "out.wav")
    corpus = csv_folder.read(tmp_path)
    assert corpus.utterances["id"][:] == ["a.wav", "out.wav"]
    assert {each.what: each.reason for each in corpus.exclusions} == {
        "gone.wav": "dangling link: to nowhere.wav", "self.wav": "loop of links", "fifo.wav": "no audio file: a FIFO",
        "folder.wav": "no audio file: a folder", "x" * 300 + ".wav": "missing audio file: File name too long",
        **dict.fromkeys(("b.wav", "more/c.wav", "folder.wav/d.wav"), "recording that no line of labels.csv names"),
    }  # fmt: skip
    text = inspect.utterances("csv_folder", tmp_path, {}, None)
    assert "links: 1 lead out of the folder" in text and "out.wav for one" in text


@pytest.mark.parametrize("value", ["0_3", "1e400", "3,5", "inf"])
def test_no_row_that_can_be_used_is_told_with_values(tmp_path, value):
    write_table(
        tmp_path, "path;speaker;valence;arousal\n" + f"a.wav;s;{value};3\nb.wav;t;{value};3\nc.wav;u;2;{value}\n"
    )
    hint = " (decimal commas? --data.decimal ,)" if value == "3,5" else ""
    with pytest.raises(AffectError) as caught:
        csv_folder.read(tmp_path)
    assert f"(3 label is no number; for example a.wav: label is no number: valence '{value}'{hint}; " in str(
        caught.value
    )
    assert str(caught.value).count(f"'{value}'") == 3 and "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [(0, math.inf), (-math.inf, 1), (math.nan, 1), (1, 1), (5, 1)])
def test_a_scale_has_ends(tmp_path, scale):
    write_table(tmp_path, "path,speaker,valence,arousal\na.wav,s1,2,3\n")
    with pytest.raises(AffectError, match="a scale goes from low to high and has ends"):
        read(UTTERANCES, "csv_folder", tmp_path, scale=scale)


def test_copies_are_told_and_refused_between_parts(tmp_path, caplog):
    write_table(tmp_path, "path,speaker,valence,arousal,split\na.wav,s1,2,3,train\nb.wav,s2,2,3,train\n"
                "c.wav,s3,2,3,dev\n"
                "d.wav,s4,2,3,test\n", wavs=("a.wav", "c.wav"))  # fmt: skip
    for other in ("b.wav", "d.wav"):
        shutil.copy(tmp_path / "a.wav", tmp_path / other)
    corpus = csv_folder.read(tmp_path)
    assert "csv_folder: 2 recordings are there under two names: a.wav = b.wav, a.wav = d.wav" in caplog.text
    with pytest.raises(AffectError, match=r"leaks: 1 recordings .*: a.wav \(train\) = d.wav \(test\) \(allow_shared"):
        splits.split(corpus.utterances, "column", 1)
    assert "split by column: not possible, a split by column leaks" in inspect.describe(corpus)
    splits.split(corpus.utterances, "column", 1, allow_shared=True)


def test_a_column_whose_name_cannot_be_shown_is_refused(tmp_path):
    write_table(tmp_path, "path,speaker,valence,arousal,\0\na.wav,s1,1.5,1,x\nb.wav,s2,2.5,2,x\n")
    with pytest.raises(AffectError, match=r"a column is called '\\x00', which is no name") as error:
        csv_folder.read(tmp_path)
    assert "\n" not in str(error.value)
