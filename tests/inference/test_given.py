"""What stands behind `affect predict RUN`: folders, tables, and where the lines go."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

import affect
from affect.errors import AffectError
from affect.inference.given import expanded
from affect.inference.output import cells, lines_to
from affect.tasks.emotion.model import EmotionModel
from affect.tasks.talking_face.task import TalkingFaceTask
from affect.usage import UserInputs
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


def test_a_film_in_a_folder_is_heard_and_a_table_cuts_it(run, tmp_path, caplog):
    tone = (2**13 * np.sin(np.arange(48_000) / 50)).astype(np.int16)[None]
    (tmp_path / "a.mp4").write_bytes(song(tone, 48_000, "mp4", "aac", bit_rate=64_000))
    bad, (whole,) = ask(run, tmp_path)
    assert bad == 0
    (tmp_path / "labels.csv").write_text("path,start,end\na.mp4,0.1,0.5\na,,\n")
    bad, (part, other) = ask(run, tmp_path / "labels.csv")
    assert (bad, caplog.text) == (0, "")
    assert (part["id"], part["start"], part["end"]) == ("a.mp4@0.1-0.5", 0.1, 0.5)
    assert part["prediction"] != whole["prediction"]
    assert other == whole


@pytest.fixture(scope="module")
def hears(tmp_path_factory):
    """A small model that hears, and was never trained."""
    folder = tmp_path_factory.mktemp("hears") / "m"
    small.save(small.model(encoder="none"), folder)
    return folder


SPANS = ((0.5, 1.25), (1.0, 2.4), (1.7, 3.0))


@pytest.fixture
def long(tmp_path):
    """A recording of 3 s, in a folder below, and files that hold `SPANS` of it alone."""
    (tmp_path / "sub").mkdir()
    time = np.arange(3 * RATE) / RATE
    wave = (0.1 + 0.1 * time) * np.sin(2 * np.pi * (100 + 60 * time) * time)
    soundfile.write(tmp_path / "sub" / "long.wav", wave, RATE, subtype="FLOAT")
    for k, (start, end) in enumerate(SPANS):
        alone = wave[round(start * RATE) : round(end * RATE)]
        soundfile.write(tmp_path / f"{k}.wav", alone, RATE, subtype="FLOAT")
    return tmp_path


FORMS = {
    "start and end": "path,start,end\nsub/long.wav,0.5,1.25\nsub/long.wav,1.0,2.4\nsub/long.wav,1.7,3\n",
    "begin, Kaldi's end": "Path;Begin;END\nsub/long.wav;.5;1.25\nsub/long.wav;1;2.4\nsub/long.wav;1.7;-1\n",
    "audformat": "file\tstart\tend\n"
    "sub/long.wav\t0 days 00:00:00.500000\t0 days 00:00:01.250000\n"
    "sub/long.wav\t0 days 00:00:01\t0 days 00:00:02.400000\n"
    "sub/long.wav\t0 days 00:00:01.700000\tNaT\n",
    "durations, clock times": "path,start,duration\nsub/long.wav,0:0.5,.75\nsub/long.wav,0:01,1.4\nsub/long.wav,1.7,\n",
    "names as people write them": "path,start,end\nsub\\long,0.5,1.25\nSUB/../sub/LONG.wav,1.0,2.4\nsub/long,1.7,\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_part_of_a_recording_is_predicted_as_a_file_of_it(hears, long, form):
    if form == "names as people write them":
        (long / "SUB").mkdir()
    (long / "t.csv").write_text(FORMS[form])
    bad, lines = ask(hears, long / "t.csv")
    alone = [ask(hears, long / f"{k}.wav")[1][0] for k in range(3)]
    assert bad == 0
    assert [(line["start"], line["end"]) for line in lines] == [*SPANS]
    assert [line["prediction"] for line in lines] == [line["prediction"] for line in alone]
    assert [line["id"].rpartition("@")[2] for line in lines[:2]] == ["0.5-1.25", "1-2.4"]
    assert {Path(line["path"]) for line in lines} <= {long / "sub" / "long.wav", long / "SUB/../sub/long.wav"}
    if form != "start and end":
        return
    model = affect.load(hears)
    states, others = model.embed(long / "t.csv"), model.embed([long / f"{k}.wav" for k in range(3)])
    for state, other in zip(states, others, strict=True):
        np.testing.assert_allclose(state["embedding"], other["embedding"], rtol=1e-6, atol=1e-6)
    assert len({tuple(state["embedding"]) for state in states}) == 3
    assert model(long / "t.csv") == lines


def test_parts_of_a_recording_stay_apart_where_they_have_windows(hears, long):
    """A row is one answer, however many windows it has and wherever the next one begins."""
    (long / "t.csv").write_text("id,path,start,end\na,sub/long.wav,0.5,2.5\na,sub/long.wav,1,3\nb,sub/long.wav,1,3\n")
    model = affect.load(hears)
    said = model(long / "t.csv", window=1.0)
    assert [line["id"] for line in said] == ["a@0.5-2.5", "a@1-3", "b"]
    assert [[(part["start"], part["end"]) for part in line["windows"]] for line in said] == [
        [(0.5, 1.5), (1.5, 2.5)], [(1.0, 2.0), (2.0, 3.0)], [(1.0, 2.0), (2.0, 3.0)],
    ]  # fmt: skip
    assert said[1]["prediction"] == said[2]["prediction"] != said[0]["prediction"]


def test_a_part_that_is_not_there_is_one_line_and_the_others_go_on(hears, long):
    rows = ["2,5", "2,1", "1,1", "-1,2", "soon,2", "0,1e400", ",", "1,2", "9,", "2.99,3"]
    names = "abcdefghij"
    lines = [f"{name},sub/long,{row}" for name, row in zip(names, rows, strict=True)]
    (long / "t.csv").write_text("\n".join(["id,path,start,end", *lines]) + "\n")
    bad, made = ask(hears, long / "t.csv")
    assert [line["id"] for line in made] == [*names]
    reasons = {line["id"]: line["error"] for line in made if "error" in line}
    assert (bad, "".join(reasons)) == (8, "abcdefij")
    assert reasons["a"].endswith("long.wav: segment beyond the audio: 2 to 5 s of 3.000 s")
    assert all("segment without length" in reasons[name] for name in "bcd")
    assert "start is no time: 'soon'" in reasons["e"] and "end is no time: '1e400'" in reasons["f"]
    assert "segment beyond the audio: 9 to 3 s" in reasons["i"] and "too short: 10 ms" in reasons["j"]
    assert made[6]["prediction"] == ask(hears, long / "sub" / "long.wav")[1][0]["prediction"]
    assert {"start": made[0]["start"], "end": made[0]["end"]} == {"start": 2.0, "end": 5.0}
    assert not any("\n" in reason for reason in reasons.values())


def test_columns_are_mapped_as_in_training_and_proposed(affect, hears, long, caplog):
    table = long / "t.csv"
    table.write_text("File Name,Begin Time,End Time,Spk\nsub/long.wav,0.5,1.25,1\nsub/long.wav,1.0,2.4,2\n")
    with pytest.raises(
        AffectError, match=r"perhaps --data.columns 'path=File Name' 'start=Begin Time' 'end=End Time'$"
    ):
        ask(hears, table)
    bad, (whole, _) = ask(hears, table, columns={"path": "File Name"})
    assert (bad, whole["end"]) == (0, 3.0)
    assert "may be ours, and are not read: --data.columns 'start=Begin Time' 'end=End Time'" in caplog.text
    # What training's other columns are called there is no matter.
    given = ["path=File Name", "start=begin time", "end=End Time", "speaker=Spk", "valence=V"]
    wanted = ask(hears, table, columns=dict(pair.split("=") for pair in given))[1]
    assert [(line["start"], line["end"]) for line in wanted] == [*SPANS[:2]]
    for option in ("--columns", "--data.columns"):
        code, _, _ = affect("predict", hears, table, option, *given, "--output", long / "x.csv")
        with (long / "x.csv").open(newline="") as file:
            rows = [*csv.DictReader(file)]
        assert (code, [(row["id"], float(row["start"]), float(row["end"])) for row in rows]) == (
            0, [(line["id"], line["start"], line["end"]) for line in wanted],
        )  # fmt: skip
    code, _, _ = affect("embed", hears, table, "--columns", *given, "--output", long / "x.npz")
    held = np.load(long / "x.npz")
    assert held["id"].tolist() == [line["id"] for line in wanted]
    assert (code, held["start"].tolist(), held["end"].tolist()) == (0, [0.5, 1.0], [1.25, 2.4])
    for columns, words in [
        ({"path": "Fill Name"}, "has no column 'Fill Name' for path.*did you mean 'File Name'"),
        ({"pfad": "File Name"}, "columns names 'pfad'"),
    ]:
        with pytest.raises(AffectError, match=words):
            ask(hears, table, columns=columns)
    with pytest.raises(AffectError, match="--data.columns path=x is of a table"):
        ask(hears, long / "0.wav", columns={"path": "x"})


def test_a_table_of_utterances_beside_kaldis_files(hears, long):
    (long / "wav.scp").write_text("talk sub/long.wav\n")
    (long / "segments").write_text("u0 talk 0.5 1.25\nu1 talk 1.0 2.4\nu2 talk 1.7 -1\n")
    (long / "t.csv").write_text("utt\nu2\nu0\n")
    bad, lines = ask(hears, long / "t.csv")
    assert (bad, [line["id"] for line in lines]) == (0, ["u2", "u0"])
    assert [(line["start"], line["end"]) for line in lines] == [SPANS[2], SPANS[0]]
    assert lines[1]["prediction"] == ask(hears, long / "0.wav")[1][0]["prediction"]


def test_a_part_needs_a_model_that_hears_it(tmp_path):
    """A model of texts has the row's own; one of clips of features takes them whole, and says so."""
    reads = EmotionModel(small.section(encoder="none", text="ngrams", prosody_dim=0), small.signature())
    small.save(reads, tmp_path / "reads")
    (tmp_path / "t.csv").write_text("id,path,start,end,text\nu,none.wav,1,2,hello\nv,none.wav,2,1,you\n")
    bad, lines = ask(tmp_path / "reads", tmp_path / "t.csv")
    assert (bad, [line["id"] for line in lines]) == (0, ["u", "v"])
    assert (lines[0]["start"], lines[0]["end"]) == (1.0, 2.0)
    assert lines[0]["prediction"] == ask(tmp_path / "reads", text=["hello"])[1][0]["prediction"]
    inputs = UserInputs(files=(tmp_path / "t.csv",))
    with pytest.raises(AffectError, match=r"t.csv: start and end cut recordings, and this model takes whole files"):
        expanded(TalkingFaceTask, inputs)
    (tmp_path / "t.csv").write_text("path,start,end\na.npz,,\n")
    assert expanded(TalkingFaceTask, inputs).files == (tmp_path / "a.npz",)


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
    assert [line.pop("id") for line in lines] == ["one", "two"]
    unnamed = ask(tmp_path / "m", **sources)[1]
    assert [line.pop("id") for line in unnamed] == ["a0", "v1"]
    assert lines == unnamed


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
