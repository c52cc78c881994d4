"""The forms in which people have their own data: columns by other names, other signs, files named otherwise."""

import numpy as np
import pytest
import soundfile

from affect.data import inspect, splits
from affect.data.corpora import UTTERANCES, read
from affect.data.corpora.columns import ColumnsError, matched, proposed
from affect.errors import AffectError


@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "sub").mkdir()
    for k, name in enumerate(("a.wav", "b.flac", "sub/c.wav")):
        soundfile.write(tmp_path / name, np.random.default_rng(k).normal(0, 0.1, 3200), 16_000)
    return tmp_path


def written(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder


FORMS = {
    "commas": ("labels.csv", "path,speaker,valence,arousal\na.wav,1,3.5,2\nb.flac,2,1.5,4\nsub/c.wav,3,2,5\n", "."),
    "semicolons and decimal commas": (
        "labels.csv", "path;speaker;valence;arousal\na.wav;1;3,5;2\nb.flac;2;1,5;4\nsub/c.wav;3;2;5\n", ","),
    "tabs": ("labels.tsv", "path\tspeaker\tvalence\tarousal\na.wav\t1\t3.5\t2\nb.flac\t2\t1.5\t4\nsub/c.wav\t3\t2\t5\n",
             "."),
    "the only table": ("my.TSV", "path\tspeaker\tvalence\tarousal\na.wav\t1\t3.5\t2\nb.flac\t2\t1.5\t4\n"
                       "sub/c.wav\t3\t2\t5\n", "."),
    "other case": ("Labels.csv", "Path,SPEAKER,Valence,Arousal\na.wav,1,3.5,2\nb.flac,2,1.5,4\nsub/c.wav,3,2,5\n", "."),
    "no endings": ("labels.csv", "path,speaker,valence,arousal\na,1,3.5,2\nb,2,1.5,4\nsub/c,3,2,5\n", "."),
    "backslashes": ("labels.csv", "path,speaker,valence,arousal\na.wav,1,3.5,2\nb.flac,2,1.5,4\nsub\\c.wav,3,2,5\n",
                    "."),
    "files in other case": (
        "labels.csv", "path,speaker,valence,arousal\nA.WAV,1,3.5,2\nB.flac,2,1.5,4\nsub/C.wav,3,2,5\n", "."),
    "audformat": ("labels.csv", "file,speaker,valence,arousal\na.wav,1,3.5,2\nb.flac,2,1.5,4\nsub/c.wav,3,2,5\n", "."),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_table(sounds, form):
    name, text, decimal = FORMS[form]
    corpus = read(UTTERANCES, "csv_folder", written(sounds, text, name), decimal=decimal)
    rows = {row["speaker"]: row for row in corpus.utterances}
    assert corpus.exclusions == []
    assert [rows[speaker]["valence"] for speaker in "123"] == [3.5, 1.5, 2.0]
    assert [rows[speaker]["arousal"] for speaker in "123"] == [2.0, 4.0, 5.0]
    files = [str(sounds / name) for name in ("a.wav", "b.flac", "sub/c.wav")]
    assert [rows[speaker]["path"] for speaker in "123"] == files


def test_decimal_commas_are_said_where_nobody_says_so(sounds):
    text = FORMS["semicolons and decimal commas"][1]
    corpus = read(UTTERANCES, "csv_folder", written(sounds, text))
    assert len(corpus.utterances) == 1
    assert corpus.exclusions[0].reason.startswith("label is no number: valence '3,5'")
    assert "--data.decimal ," in corpus.exclusions[0].reason


def test_a_folder_is_no_recording_of_that_name(sounds):
    (sounds / "a").mkdir()
    (sounds / "x").mkdir()
    written(sounds, "path,speaker,valence,arousal\na,1,3.5,2\nx,2,1,1\n")
    corpus = read(UTTERANCES, "csv_folder", sounds)
    assert corpus.utterances["path"][:] == [str(sounds / "a.wav")]
    assert ("x", "no audio file: a folder") in [(each.what, each.reason) for each in corpus.exclusions]


def test_a_name_that_may_be_two_files(sounds):
    soundfile.write(sounds / "a.flac", np.random.default_rng(9).normal(0, 0.1, 3200), 16_000)
    corpus = read(UTTERANCES, "csv_folder", written(sounds, FORMS["no endings"][1]))
    assert [each.reason for each in corpus.exclusions if each.what == "a"] == ["name of several files: a.flac, a.wav"]


def test_an_official_split_without_speakers(sounds, caplog):
    written(sounds, "path,valence,arousal,split\na.wav,3.5,2,trn\nb.flac,1.5,4,dev\nsub/c.wav,2,5,eval\n")
    corpus = read(UTTERANCES, "csv_folder", sounds)
    parts = splits.split(corpus.utterances, "column", 1)
    assert [len(parts[part]) for part in splits.PARTS] == [1, 1, 1]
    assert "no utterance has a speaker: whether parts share one cannot be told" in caplog.text
    assert "speakers unknown: no utterance has a speaker" in inspect.describe(corpus)
    with pytest.raises(AffectError, match="no column 'speaker'"):
        read(UTTERANCES, "csv_folder", written(sounds, "path,valence,arousal\na.wav,3.5,2\n"))


def test_a_mapping_is_proposed_and_never_taken(sounds):
    written(sounds, "FileName,SpkrID,EmoVal,EmoAct,Split_Set\na.wav,1,3.5,2,train\nb.flac,2,1.5,4,dev\n")
    with pytest.raises(ColumnsError) as error:
        read(UTTERANCES, "csv_folder", sounds)
    mapping = "--data.columns path=FileName speaker=SpkrID valence=EmoVal arousal=EmoAct split=Split_Set"
    assert str(error.value) == (
        f"{sounds / 'labels.csv'} has no column 'path'; it has: FileName, SpkrID, EmoVal, EmoAct, Split_Set; "
        f"perhaps {mapping}"
    )
    text = inspect.utterances("csv_folder", sounds, {}, 10)
    assert f"columns: read as with {mapping}, which training needs" in text
    assert "csv_folder: 2 utterances" in text


def test_what_is_not_needed_is_proposed_too(sounds):
    written(sounds, "path,speaker,valence,arousal,Split_Set,Sex\na.wav,1,3.5,2,train,f\nb.flac,2,1.5,4,dev,m\n")
    text = inspect.utterances("csv_folder", sounds, {}, 10)
    assert "columns that may be ours: --data.columns split=Split_Set gender=Sex" in text


def test_columns_are_matched_by_case_alone():
    present = ["Path", "speaker", "Speaker", "VALENCE", "begin", "Start"]
    assert matched(present, ("path", "speaker", "valence", "start"), {}) == {
        "path": "Path", "speaker": "speaker", "valence": "VALENCE", "start": "Start",
    }  # fmt: skip
    assert matched(["A", "a "], ("a",), {}) == {"a": "A"} and matched(["VAL", "Val"], ("val",), {}) == {}
    assert (
        matched(["x"], ("path",), {"path": "x"}) == {"path": "x"} and matched(["path"], ("path",), {"path": "x"}) == {}
    )
    assert proposed(["wav_path", "spk-ID", "v"], ("path", "speaker", "valence", "arousal")) == {
        "path": "wav_path", "speaker": "spk-ID", "valence": "v",
    }  # fmt: skip


def test_labels_off_the_scale_of_a_known_corpus_are_those_of_another(tmp_path):
    (tmp_path / "emobank.csv").write_text(
        "id,split,V,A,D,text\n" + "".join(f"d{k}_1_2,train,{k % 9 + 1},3,3,words\n" for k in range(40))
    )
    with pytest.raises(AffectError) as error:
        read(UTTERANCES, "emobank", tmp_path)
    assert str(error.value) == (
        "emobank: 16 of 40 utterances have labels off its scale, 1 to 5: they go from 6 to 9; is it another corpus, or "
        "on another scale?"
    )


def test_of_a_small_corpus_more_than_a_quarter_off_its_scale_is_another(tmp_path):
    def written(off):
        rows = [f"d{k}_1_2,train,{9 if k < off else 2},3,3,words {k}\n" for k in range(8)]
        (tmp_path / "emobank.csv").write_text("id,split,V,A,D,text\n" + "".join(rows))
        return tmp_path

    for off in (3, 6):
        with pytest.raises(AffectError, match=f"{off} of 8 utterances have labels off its scale"):
            read(UTTERANCES, "emobank", written(off))
    assert len(read(UTTERANCES, "emobank", written(2)).utterances) == 6
