"""Several rows of one recording: averaged where that is asked for, else refused."""

import io

import numpy as np
import pytest
import soundfile
from datasets import Dataset
from iemocap_tree import write_wav

from affect.data import inspect
from affect.data.corpora import UTTERANCES, read
from affect.errors import AffectError

HEADER = "path,speaker,valence,arousal,emotion,rater,certainty,room"
LINES = [
    "a.wav,s1,1,4,happy,r1,0.5,x", "a.wav,s1,3,,happy,r2,1,x", "a.wav,s1,2,4,sad,r3,,x",
    "b.wav,s2,5,1,sad,r1,1,x", "b.wav,s2,4,3,angry,r2,1,y",
]  # fmt: skip


def folder(path, lines=LINES, header=HEADER):
    for name in "abc":
        write_wav(path / f"{name}.wav")
        # Not the same bytes: those would be one recording.
        soundfile.write(path / f"{name}.wav", np.random.default_rng(ord(name)).normal(0, 0.1, 3200), 16_000)
    (path / "c.wav").unlink()
    (path / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    return path


def test_rows_that_differ_in_labels_are_refused(tmp_path):
    with pytest.raises(AffectError) as error:
        read(UTTERANCES, "csv_folder", folder(tmp_path))
    assert str(error.value) == (
        "5 rows are of 2 recordings and differ in labels (a.wav: valence 1, 3, 2): one a rater? --data.raters mean "
        "averages them; parts? give start and end"
    )


def test_ids_of_their_own_make_no_recordings_of_raters(tmp_path):
    lines = [f"{k},{line}" for k, line in enumerate(LINES)]
    with pytest.raises(AffectError, match="5 rows are of 2 recordings and differ in labels"):
        read(UTTERANCES, "csv_folder", folder(tmp_path, lines, f"id,{HEADER}"))


def test_the_mean_of_raters(tmp_path, caplog):
    caplog.set_level("INFO", logger="affect")
    corpus = read(UTTERANCES, "csv_folder", folder(tmp_path), raters="mean")
    a, b = corpus.utterances
    assert (a["valence"], a["arousal"], a["emotion"], a["certainty"]) == (2.0, 4.0, "happy", 0.75)
    assert (b["valence"], b["arousal"], b["emotion"], b["room"]) == (4.5, 2.0, "", "")
    assert a["room"] == "x" and "rater" not in corpus.utterances.column_names
    assert (corpus.ratings.rows, corpus.ratings.recordings) == (5, 2) and corpus.exclusions == []
    # By hand: 1, 3, 2 and 5, 4: observed (12 / 2 + 2 / 1) / 5, expected 2 (5 * 55 - 225) / 20.
    assert corpus.ratings.agreement["valence"] == pytest.approx(1 - (8 / 5) / 5)
    assert set(corpus.ratings.agreement) == {"valence", "arousal", "emotion"}
    assert "1 recordings have no emotion that most raters gave" in caplog.text
    assert "labels are means of 5 rows of 2 recordings; Krippendorff's alpha: valence 0.68" in caplog.text
    assert "labels: means of 5 rows of 2 recordings" in inspect.describe(corpus)


def test_equal_rows_are_listed_and_nothing_is_lost(tmp_path):
    corpus = read(UTTERANCES, "csv_folder", folder(tmp_path, [LINES[0], LINES[0], LINES[3]]))
    assert corpus.utterances["id"][:] == ["a.wav", "b.wav"] and corpus.ratings is None
    assert [(each.what, each.reason) for each in corpus.exclusions] == [("a.wav", "listed more than once")]


def test_raters_agree_on_who_speaks(tmp_path):
    lines = [LINES[0], LINES[1].replace("s1", "s2")]
    with pytest.raises(AffectError, match="a.wav has rows of the speaker 's1' and 's2': raters agree on it"):
        read(UTTERANCES, "csv_folder", folder(tmp_path, lines), raters="mean")


def test_an_id_of_two_recordings_is_left_out_by_that_name(tmp_path):
    lines = ["u,a.wav,s1,1,4", "u,b.wav,s2,5,1"]
    corpus = read(UTTERANCES, "csv_folder", folder(tmp_path, lines, "id,path,speaker,valence,arousal"))
    assert [each.reason for each in corpus.exclusions] == ["id of another recording"]


@pytest.mark.parametrize("held", ["files", "bytes"])
def test_of_a_source_of_datasets(tmp_path, monkeypatch, held):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    place = folder(tmp_path)

    def sound(name):
        buffer = io.BytesIO((place / f"{name}.wav").read_bytes())
        return {"bytes": buffer.getvalue(), "path": None} if held == "bytes" else {"path": f"{name}.wav"}

    rows = {"audio": [sound(name) for name in "baab"], "valence": [5.0, 1.0, 3.0, 4.0], "speaker": list("tsst")}
    Dataset.from_dict(rows).to_parquet(place / "rows.parquet")
    with pytest.raises(AffectError, match="4 rows are of 2 recordings and differ in labels"):
        read(UTTERANCES, "hub", place / "rows.parquet")
    corpus = read(UTTERANCES, "hub", place / "rows.parquet", raters="mean")
    assert dict(zip(corpus.utterances["speaker"], corpus.utterances["valence"], strict=True)) == {"t": 4.5, "s": 2.0}
    assert corpus.ratings.rows == 4
