"""What stands behind `affect predict RUN`: folders, tables, and where the lines go."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from affect.errors import AffectError
from affect.inference.output import cells, lines_to
from affect.tasks.emotion.model import EmotionModel
from tests.data.films import song
from tests.inference.asking import ask
from tests.launching import assert_one_line
from tests.tasks.emotion import small
from tests.tasks.multimodal_emotion import fusing

RATE = 16_000


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder of three recordings, one of them in a folder below, one damaged, and a table of them."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "sub").mkdir()
    time = np.arange(RATE // 2) / RATE
    for name, pitch in (("b.wav", 150), ("sub/a.flac", 300)):
        soundfile.write(folder / name, 0.2 * np.sin(2 * np.pi * pitch * time), RATE)
    (folder / "z.wav").write_bytes(b"no sound")
    (folder / "._b.wav").write_bytes(b"a Mac's")
    (folder / "table.csv").write_text("Path;speaker;text\nsub/a.flac;1;None\nb.wav;2;hello\nz.wav;2;\n")
    return folder


@pytest.fixture(scope="module")
def run(spoken):
    return spoken / "seed0" / "fold1"


def test_a_folder_and_a_table_are_their_files(run, recordings):
    names = ["b.wav", "sub/a.flac", "z.wav"]
    bad, wanted = ask(run, *(recordings / name for name in names))
    assert bad == 1
    assert ask(run, recordings) == (1, wanted)
    assert ask(run, recordings / "table.csv") == (1, [wanted[1], wanted[0], wanted[2]])


def test_a_film_in_a_folder_is_heard_and_times_in_a_table_are_said_to_cut_nothing(run, tmp_path, caplog):
    tone = (2**13 * np.sin(np.arange(48_000) / 50)).astype(np.int16)[None]
    (tmp_path / "a.mp4").write_bytes(song(tone, 48_000, "mp4", "aac", bit_rate=64_000))
    bad, wanted = ask(run, tmp_path)
    assert (bad, len(wanted)) == (0, 1)
    assert caplog.text == ""
    (tmp_path / "labels.csv").write_text("path,start,end\na.mp4,0.1,0.5\n")
    assert ask(run, tmp_path / "labels.csv") == (0, wanted)
    assert "start and end cut nothing here: each recording is predicted whole" in caplog.text


def test_a_table_of_texts_and_features_is_taken_as_far_as_the_model_does(tmp_path):
    streams = [("audio", "ears", 5), ("video", "eyes", 3)]
    fusing.save(tmp_path / "m", name="topn", streams=streams, softmax="masked")
    for k in (0, 1):
        np.save(tmp_path / f"a{k}.npy", np.full(5, k + 1.0, np.float32))
        np.save(tmp_path / f"v{k}.npy", np.full(3, k + 1.0, np.float32))
    table = tmp_path / "media.csv"
    table.write_text("name,audio,text,video\none,a0.npy,said,v0.npy\ntwo,,None,v1.npy\n")
    bad, lines = ask(tmp_path / "m", table)
    assert (bad, [line["present"] for line in lines]) == (0, ["AV", "V"])
    sources = {"audio": [tmp_path / "a0.npy", ""], "video": [tmp_path / "v0.npy", tmp_path / "v1.npy"]}
    assert lines == ask(tmp_path / "m", **sources)[1]


def test_a_table_gives_a_model_that_reads_its_texts(recordings, tmp_path, caplog):
    """Alone or beside what is heard; a text of another length than all of training's is told once."""
    sizes = {"encoder": "none", "text": "ngrams"}
    reads = EmotionModel(small.section(**sizes, prosody_dim=0), small.signature(), lengths=(1.0, 3.0))
    small.save(reads, tmp_path / "reads")
    small.save(small.model(**sizes), tmp_path / "both")
    bad, (none, hello, empty) = ask(tmp_path / "reads", recordings / "table.csv")
    assert (bad, none["text"], hello["text"], empty) == (1, "None", "hello", {"text": "", "error": "empty text"})
    assert ask(tmp_path / "reads", text=["hello"])[1] == [hello]
    bad, lines = ask(tmp_path / "both", recordings / "table.csv")
    assert [line["path"] for line in lines] == [str(recordings / name) for name in ("sub/a.flac", "b.wav", "z.wav")]
    assert (bad, lines[1]) == (1, ask(tmp_path / "both", recordings / "b.wav", text=["hello"])[1][0])
    caplog.clear()
    ask(tmp_path / "reads", text=["one two three four five", "a b c d e f"])
    (words,) = caplog.messages
    assert "5 words are predicted at once, the model was trained on 1 to 3 words" in words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,path\na.wav,b.wav\n", "more than once"),
        ("file name,x\na.wav,1\n", "has none of the columns text, transcript, path, file; it has: file name, x"),
        ("path\n", "has no line"),
        ("path,x\n,1\n", "names no file in the column path"),
        ("path\na.wav,b\n", "has more cells than the header"),
        ("", "has no line"),
    ],
)
def test_a_table_that_names_nothing_is_one_line(run, tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(AffectError, match=words):
        ask(run, tmp_path / "t.csv")
    with pytest.raises(AffectError, match="give it alone"):
        ask(run, tmp_path / "t.csv", "a.wav")


def test_predictions_go_to_a_table(affect, run, recordings, tmp_path):
    code, out, _ = affect("predict", run, recordings, "--output", tmp_path / "x.csv")
    assert (code, out) == (1, f"predictions: {tmp_path / 'x.csv'} (1 could not be made, see the column error)\n")
    lines = ask(run, recordings)[1]
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["path"] for row in rows] == [line["path"] for line in lines]
    for row, line in zip(rows[:2], lines[:2], strict=True):
        assert {name: float(row[name]) for name in line["prediction"]} == line["prediction"]
        assert (row["scale.valence"], row["error"]) == ("1.0 5.0", "")
    assert (rows[2]["valence"], rows[2]["error"]) == ("", lines[2]["error"])
    assert affect("predict", run, recordings, "--output", tmp_path / "x.jsonl")[0] == 1
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == lines


def test_a_table_that_can_not_be_written_is_one_line(affect, run, recordings, tmp_path):
    code, _, err = affect("predict", run, recordings, "--output", tmp_path / "x.xlsx")
    assert_one_line(code, err, "x.xlsx: its name has to end in .csv, .tsv, .jsonl")
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    code, _, err = affect("predict", run, recordings, "--video", "v.npy", "--output", kept)
    assert_one_line(code, err, "--video is for other models")
    assert kept.read_text() == "mine"


def test_cells_are_flat_and_a_list_of_entries_is_rows():
    line = {"path": "a", "prediction": {"x": 1.0}, "interval": {"x": [0.5, 1.5]}, "order": ["x"]}
    assert cells(line) == [{"path": "a", "x": 1.0, "interval.x": "0.5 1.5"}]
    assert cells({"id": "a", "prediction": {"id": 1.0}}) == [{"id": "a", "prediction.id": 1.0}]
    turns = [{"start": 0.0, "speaker": "1"}, {"start": 2.0, "speaker": "2"}]
    assert cells({"path": "a", "turns": turns}) == [{"path": "a", **turn} for turn in turns]
    assert cells({"path": "a", "turns": []}) == [{"path": "a"}]


def test_what_was_predicted_before_a_stop_is_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt), lines_to(tmp_path / "x.tsv") as write:
        write({"path": "a", "prediction": {"x": 1.0}})
        raise KeyboardInterrupt
    assert (tmp_path / "x.tsv").read_text().splitlines() == ["path\tx", "a\t1.0"]


def test_states_are_written_as_arrays_and_as_a_table(affect, run, recordings, tmp_path):
    for name in ("x.npz", "x.parquet"):
        code, out, err = affect("embed", run, recordings, "--output", tmp_path / name)
        assert (code, out) == (1, f"2 vectors: {tmp_path / name}\n")
        assert "z.wav" in err
    held = np.load(tmp_path / "x.npz")
    table = pyarrow.parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert held["id"].tolist() == table["id"] == [str(recordings / name) for name in ("b.wav", "sub/a.flac")]
    assert held["embedding"].shape[0] == 2
    np.testing.assert_allclose(table["embedding"], held["embedding"])
    assert not np.allclose(*held["embedding"])
    assert held["end"].tolist() == [0.5, 0.5]
    code, _, err = affect("embed", run, recordings, "--output", tmp_path / "x.csv")
    assert_one_line(code, err, "x.csv: its name has to end in .npz or .parquet")
    code, _, err = affect("embed", run.parents[1], recordings, "--output", tmp_path / "y.npz")
    assert_one_line(code, err, "states of several models have no mean: name one run, such as")
