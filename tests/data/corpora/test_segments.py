"""Parts of recordings: how tables write their times, and what is cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from affect.data import audio, prosody
from affect.data.corpora import UTTERANCES, read
from affect.data.corpora.labels import UnusableError
from affect.data.corpora.segments import cut_of, name_of, seconds
from affect.errors import AffectError

RATE = 16_000
PARTS = [(0.5, 1.0), (1.25, 2.0), (2.5, 4.0)]


@pytest.fixture
def long(tmp_path):
    """A recording of 4 s whose samples say when they are, and its folder."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    soundfile.write(folder / "long.wav", np.linspace(-0.9, 0.9, 4 * RATE), RATE, subtype="FLOAT")
    return folder


def written(folder, header, lines, name="labels.csv"):
    (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("12.5", 12.5), ("0:12.5", 12.5), ("00:01:02,250", 62.25), ("0 days 00:00:01.500000", 1.5),
     ("1 days 01:00:00", 90_000.0), ("1 day, 0:00:01", 86_401.0), (1.25, 1.25), ("-1", -1.0)],
)  # fmt: skip
def test_times(text, wanted):
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "NaT", "nan"])
def test_missing_times(text):
    assert math.isnan(seconds(text))


def test_what_is_cut():
    assert cut_of("1", "2") == (1.0, 2.0) and cut_of("1", "", "0.5") == (1.0, 1.5)
    assert cut_of("1", "NaT") == cut_of("1", "-1") == (1.0, math.inf), "to the end, as pandas and Kaldi write it"
    assert cut_of("", "") is None and cut_of("0 days 00:00:00", "NaT") is None, "the whole recording"
    assert cut_of("1,5", "2,5", decimal=",") == (1.5, 2.5)
    for start, end in (("2", "2"), ("3", "2"), ("-1", "2")):
        with pytest.raises(UnusableError, match="segment without length"):
            cut_of(start, end)
    with pytest.raises(UnusableError, match="end is no time: 'soon'"):
        cut_of("1", "soon")
    assert name_of("a.wav", (1234.5671, 1240.0)) == "a.wav@1234.567-1240" and name_of("a", (3.0, math.inf)) == "a@3"


FORMS = {
    "seconds": ("path,speaker,valence,arousal,start,end", "long.wav,s,2,3,{0},{1}"),
    "begin and other case": ("Path,Speaker,Valence,Arousal,Begin,END", "long.wav,s,2,3,{0},{1}"),
    "start and duration": ("path,speaker,valence,arousal,start,duration", "long.wav,s,2,3,{0},{2}"),
    "pandas": ("file,start,end,speaker,valence,arousal",
               "long.wav,0 days 00:00:0{0:f},0 days 00:00:0{1:f},s,2,3"),
    "without its ending": ("path,speaker,valence,arousal,start,end", "LONG,s,2,3,{0},{1}"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_the_parts_that_times_say(long, form):
    header, line = FORMS[form]
    written(long, header, [line.format(start, end, end - start) for start, end in PARTS])
    corpus = read(UTTERANCES, "csv_folder", long)
    rows = sorted(corpus.utterances, key=lambda row: row["offset"])
    assert corpus.exclusions == []
    assert [row["offset"] for row in rows] == [start for start, _ in PARTS]
    assert [row["duration"] for row in rows] == pytest.approx([end - start for start, end in PARTS])
    assert len({row["id"] for row in rows}) == len({row["digest"] for row in rows}) == 3
    assert {row["dialogue"] for row in rows} == {"LONG" if "ending" in form else "long.wav"}
    for row, (start, end) in zip(rows, PARTS, strict=True):
        wave = audio.of_row(row)
        assert len(wave) == round((end - start) * RATE)
        assert wave[0] == pytest.approx(-0.9 + 1.8 * start / 4, abs=1e-4)


def test_what_is_computed_is_of_the_part(long, monkeypatch):
    written(long, *FORMS["seconds"][:1], [FORMS["seconds"][1].format(*part) for part in PARTS])
    rows = read(UTTERANCES, "csv_folder", long).utterances
    values = prosody.add(rows)["prosody"]
    for row, made in zip(rows, values, strict=True):
        np.testing.assert_array_equal(made, prosody.compute(audio.of_row(row)))


def test_parts_beyond_their_recording_are_left_out_with_the_numbers(long):
    lines = ["long.wav,s,2,3,1,2", "long.wav,s,2,3,3,4.02", "long.wav,s,2,3,3.5,5", "long.wav,s,2,3,2,2"]
    written(long, FORMS["seconds"][0], lines)
    corpus = read(UTTERANCES, "csv_folder", long)
    assert sorted(corpus.utterances["duration"]) == pytest.approx([1.0, 1.0]), "rounded ends are cut"
    assert [each.reason for each in corpus.exclusions] == [
        "segment without length: from 2 to 2 s", "segment beyond the audio: 3.5 to 5 s of 4.000 s",
    ]  # fmt: skip


def test_files_that_are_cut_already_stay_whole(tmp_path):
    """As their lengths say: the times are those of a dialogue, by which utterances are ordered."""
    for k, length in enumerate((0.5, 0.75)):
        soundfile.write(tmp_path / f"{k}.wav", np.linspace(-0.5, 0.5, round(length * RATE)), RATE)
    written(tmp_path, FORMS["seconds"][0], ["0.wav,s,2,3,10,10.5", "1.wav,s,2,3,11,11.75"])
    rows = read(UTTERANCES, "csv_folder", tmp_path).utterances
    assert all(math.isnan(offset) for offset in rows["offset"]) and rows["start"][:] == [10.0, 11.0]
    assert rows["duration"][:] == [0.5, 0.75]


def test_a_few_odd_files_make_no_parts_of_the_others(tmp_path):
    lines = []
    for k in range(12):
        soundfile.write(tmp_path / f"{k}.wav", np.random.default_rng(k).normal(0, 0.1, 8000), RATE)
        lines.append(f"{k}.wav,s,2,3,{k},{k + (0.5 if k else 0.9)}")
    rows = read(UTTERANCES, "csv_folder", written(tmp_path, FORMS["seconds"][0], lines)).utterances
    assert len(rows) == 12 and all(math.isnan(offset) for offset in rows["offset"])


def test_a_start_alone_is_a_time_in_the_dialogue(long):
    written(long, "path,speaker,valence,arousal,start", ["long.wav,s,2,3,1.5"])
    (row,) = read(UTTERANCES, "csv_folder", long).utterances
    assert row["start"] == 1.5 and math.isnan(row["offset"]) and row["duration"] == 4.0


def test_kaldi_segments_beside_a_table(long):
    (long / "wav.scp").write_text("rec long.wav\n")
    (long / "segments").write_text("".join(f"u{k} rec {a} {b}\n" for k, (a, b) in enumerate(PARTS)) + "u3 rec 3 -1\n")
    (long / "utt2spk").write_text("".join(f"u{k} s{k % 2}\n" for k in range(4)))
    (long / "text").write_text("u0 hello there\n")
    written(long, "utt,valence,arousal", ["u0,2,3", "u1,4,1", "u3,5,5"])
    corpus = read(UTTERANCES, "csv_folder", long)
    assert corpus.utterances["id"][:] == ["u0", "u1", "u3"] and corpus.utterances["speaker"][:] == ["s0", "s1", "s1"]
    assert corpus.utterances["duration"][:] == pytest.approx([0.5, 0.75, 1.0])
    assert corpus.utterances["transcript"][0] == "hello there"
    assert [(each.what, each.reason) for each in corpus.exclusions] == [
        ("u2", "utterance without a line in labels.csv")
    ]


def test_a_source_of_datasets_is_cut_too(long, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", long / "cache")
    starts, ends = zip(*PARTS, strict=True)
    columns = {"speaker": ["s"] * 3, "valence": [1.0, 2.0, 3.0], "start": starts, "end": ends}
    Dataset.from_dict({"audio": [{"path": "long.wav"}] * 3, **columns}).to_parquet(long / "files.parquet")
    held = {"bytes": (long / "long.wav").read_bytes(), "path": "long.wav"}
    Dataset.from_dict({"audio": [held] * 3, **columns}).to_parquet(long / "bytes.parquet")
    for name in ("files", "bytes"):
        rows = read(UTTERANCES, "hub", long / f"{name}.parquet").utterances
        assert rows["duration"][:] == pytest.approx([0.5, 0.75, 1.5]), name
        assert [len(audio.of_row(row)) for row in rows] == [8000, 12_000, 24_000], name


def test_a_part_of_a_recording_that_has_changed(long):
    row = {"id": "u", "path": str(long / "long.wav"), "offset": 3.0, "duration": 1.0}
    assert len(audio.of_row(row)) == RATE
    with pytest.raises(AffectError, match="ends before 4.500 s, where 'u' ends"):
        audio.of_row({**row, "duration": 1.5})
