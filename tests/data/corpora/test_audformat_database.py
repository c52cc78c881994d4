"""Databases in audEERING's format, as the library of that name writes them."""

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from affect.data import splits
from affect.data.corpora import UTTERANCES, detect, read
from affect.errors import AffectError

HEADER = """
name: toy
schemes:
  speaker: {dtype: str, labels: people}
  emotion: {dtype: str, labels: [happy, sad]}
splits:
  train: {type: train}
  test: {type: test}
  dev: {type: dev}
tables:
  files: {type: filewise, columns: {speaker: {scheme_id: speaker}, transcription: {}, duration: {}}}
  emotion: {type: filewise, columns: {emotion: {scheme_id: emotion, rater_id: gold}, valence: {}, arousal: {}}}
  emotion.test: {type: filewise, split_id: test, columns: {emotion: {scheme_id: emotion, rater_id: gold}}}
  parts.train: {type: filewise, split_id: train, columns: {}}
  parts.dev: {type: filewise, split_id: dev, columns: {}}
misc_tables:
  people: {columns: {gender: {}}}
"""


@pytest.fixture
def database(tmp_path):
    (tmp_path / "wav").mkdir()
    for k in range(4):
        soundfile.write(tmp_path / "wav" / f"{k}.wav", np.random.default_rng(k).normal(0, 0.1, 32_000), 16_000)
    (tmp_path / "db.yaml").write_text(HEADER)
    tables = {
        "files": "file,speaker,transcription,duration\nwav/0.wav,a,one,0 days 00:00:02\nwav/1.wav,b,two,0 days\n"
                 "wav/2.wav,c,three,0 days\nwav/3.wav,c,four,0 days\n",
        "emotion": "file,emotion,valence,arousal\nwav/0.wav,happy,4,3\nwav/1.wav,sad,1,2\nwav/2.wav,sad,2,\n",
        "emotion.test": "file,emotion\nwav/2.wav,sad\n",
        "parts.train": "file\nwav/0.wav\n",
        "parts.dev": "file\nwav/1.wav\n",
        "people": "speaker,gender\na,female\nb,male\nc,female\n",
    }  # fmt: skip
    for name, text in tables.items():
        (tmp_path / f"db.{name}.csv").write_text(text)
    return tmp_path


def test_tables_are_put_together(database):
    assert detect(database) == "audformat_database"
    corpus = read(UTTERANCES, "audformat_database", database)
    rows = {row["id"]: row for row in corpus.utterances}
    assert sorted(rows) == ["wav/0.wav", "wav/1.wav", "wav/2.wav"]
    assert [(row["speaker"], row["gender"], row["emotion"], row["split"]) for _, row in sorted(rows.items())] == [
        ("a", "F", "happy", "train"), ("b", "M", "sad", "dev"), ("c", "F", "sad", "test"),
    ]  # fmt: skip
    assert rows["wav/0.wav"]["valence"] == 4.0 and rows["wav/0.wav"]["transcript"] == "one"
    assert [(each.what, each.reason) for each in corpus.exclusions] == [("wav/3.wav", "no label")]
    assert [len(part) for part in splits.split(corpus.utterances, "column", 1).values()] == [1, 1, 1]


def test_segments_of_a_table_in_parquet(database):
    (database / "db.emotion.csv").unlink()
    segments = {"file": ["wav/0.wav", "wav/0.wav", "wav/1.wav"], "valence": [1.0, 2.0, 3.0], "arousal": [3.0] * 3}
    times = {"start": [0, 500, 1000], "end": [500, 1500, None]}
    table = pa.table({**segments, **{name: pa.array(each, pa.duration("ms")) for name, each in times.items()}})
    parquet.write_table(table, database / "db.emotion.parquet")
    rows = read(UTTERANCES, "audformat_database", database, labels="emotion").utterances
    assert sorted(zip(rows["path"], rows["offset"], rows["duration"], rows["speaker"], strict=True)) == [
        (str(database / "wav/0.wav"), 0.0, 0.5, "a"), (str(database / "wav/0.wav"), 0.5, 1.0, "a"),
        (str(database / "wav/1.wav"), 1.0, 1.0, "b"),
    ]  # fmt: skip


def test_tables_that_contradict_each_other(database):
    (database / "db.emotion.test.csv").write_text("file,emotion\nwav/2.wav,happy\n")
    with pytest.raises(AffectError, match="wav/2.wav has the emotion 'sad' and, in the table emotion.test, 'happy'"):
        read(UTTERANCES, "audformat_database", database)
    rows = read(UTTERANCES, "audformat_database", database, labels="db.emotion.csv").utterances
    assert rows["emotion"][:] == ["happy", "sad", "sad"] and rows["split"][2] == "test"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a: [", "is no YAML"),
        ("a: 1", "it names no tables"),
        ("tables: {x: {}}", "has no db.x.csv and no db.x.parquet"),
    ],
)
def test_bad_headers(database, header, message):
    (database / "db.yaml").write_text(header)
    with pytest.raises(AffectError, match=message) as error:
        read(UTTERANCES, "audformat_database", database)
    assert "\n" not in str(error.value)
