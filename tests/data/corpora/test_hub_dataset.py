import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from iemocap_tree import write_wav

from affect.data import audio, splits
from affect.data.corpora import UTTERANCES, hub_dataset, read
from affect.errors import AffectError
from tests.data.films import film

NAMES = {"valence": "EmoVal", "arousal": "EmoAct", "speaker": "who", "emotion": "label"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf_cache")


def encoded(frequency, rate=16_000):
    samples = 0.3 * np.sin(2 * np.pi * frequency * np.arange(rate // 10) / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC")
    return buffer.getvalue()


def byte_dataset(count=4):
    features = Features(
        {
            "audio": {"bytes": Value("binary"), "path": Value("string")},
            "EmoVal": Value("float32"),
            "EmoAct": Value("float32"),
            "who": Value("int64"),
            "label": ClassLabel(names=["calm", "tense"]),
        }
    )
    columns = {
        "audio": [
            {"bytes": encoded(200 + 10 * i, 16_000 if i % 2 else 22_050), "path": f"{i}.flac"} for i in range(count)
        ],
        "EmoVal": [1.0 + i for i in range(count)],
        "EmoAct": [2.0] * count,
        "who": list(range(count)),
        "label": [i % 2 for i in range(count)],
    }
    return Dataset.from_dict(columns, features=features).cast_column("audio", Audio(decode=False))


def check_bytes_corpus(corpus, ids):
    data = corpus.utterances
    assert data["id"][:] == ids
    assert data["speaker"][:] == [str(i) for i in range(len(ids))]
    assert data["emotion"][:] == ["calm", "tense", "calm", "tense"][: len(ids)]
    assert data["valence"][:] == [1.0 + i for i in range(len(ids))]
    for i, row in enumerate(data):
        samples = audio.of_row(row)
        assert len(samples) == pytest.approx(1600, abs=1)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 16_000))
        assert abs(int(spectrum.argmax()) - (200 + 10 * i)) <= 2
        assert row["duration"] == pytest.approx(0.1)


def test_parquet_folder_with_bytes(tmp_path):
    byte_dataset().to_parquet(tmp_path / "corpus" / "train-00000-of-00001.parquet")
    corpus = read(UTTERANCES, "hub", tmp_path / "corpus", columns=NAMES)
    check_bytes_corpus(corpus, [f"train-{i:06d}" for i in range(4)])
    assert set(corpus.utterances["split"]) == {"train"}
    again = hub_dataset.read(tmp_path / "corpus" / "train-00000-of-00001.parquet", columns=NAMES)
    assert again.fingerprint == corpus.fingerprint


def test_subsets_of_a_folder(tmp_path):
    byte_dataset(3).to_parquet(tmp_path / "corpus" / "read" / "data.parquet")
    byte_dataset(2).to_parquet(tmp_path / "corpus" / "spoken" / "data.parquet")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("read", "spoken"))
    (tmp_path / "corpus" / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    for name, count in (("read", 3), ("spoken", 2)):
        assert len(read(UTTERANCES, "hub", tmp_path / "corpus", columns=NAMES, subset=name).utterances) == count
    with pytest.raises(AffectError, match="datasets cannot read") as caught:
        read(UTTERANCES, "hub", tmp_path / "corpus", columns=NAMES)
    assert "spoken" in str(caught.value)


@pytest.mark.parametrize("drop", ["null path", "no path", "other order"])
def test_audio_without_the_audio_feature_may_lack_its_path(tmp_path, drop):
    plain = byte_dataset().cast_column("audio", {"bytes": Value("binary"), "path": Value("string")})
    columns = plain.to_dict()
    change = {
        "null path": lambda row: {"bytes": row["bytes"], "path": None},
        "no path": lambda row: {"bytes": row["bytes"]},
        "other order": lambda row: {"path": row["path"], "bytes": row["bytes"]},
    }[drop]
    columns["audio"] = [change(row) for row in columns["audio"]]
    columns["label"] = [("calm", "tense")[label] for label in columns["label"]]
    bare = Dataset.from_dict(columns)
    assert bare.features["audio"] != Audio()
    bare.to_parquet(tmp_path / "corpus" / "train.parquet")
    corpus = read(UTTERANCES, "hub", tmp_path / "corpus", columns=NAMES)
    check_bytes_corpus(corpus, [f"train-{i:06d}" for i in range(4)])


@pytest.mark.parametrize("extra", [{}, {"bytes": None}])
def test_audio_without_the_audio_feature_may_lack_its_bytes(tmp_path, extra):
    write_wav(tmp_path / "a.wav")
    sound = [{**extra, "path": "a.wav"}, None, {**extra, "path": "b.wav"}]
    table = Dataset.from_dict({"sound": sound, "speaker": list("abc"), "valence": [2.0] * 3})
    table.to_parquet(tmp_path / "table.parquet")
    corpus = read(UTTERANCES, "hub", tmp_path / "table.parquet", columns={"audio": "sound"})
    assert corpus.utterances["path"][:] == [str(tmp_path / "a.wav")]
    assert [exclusion.reason for exclusion in corpus.exclusions] == ["no audio", "missing audio file: b.wav"]


@pytest.mark.parametrize("sound", [{"bytes": "text"}, {"samples": b"x"}, {"bytes": b"x", "rate": 3}])
def test_another_struct_is_no_audio(tmp_path, sound):
    Dataset.from_dict({"audio": [sound], "valence": [2.0]}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(AffectError, match="column 'audio' is no audio"):
        read(UTTERANCES, "hub", tmp_path / "table.parquet")


def test_streaming_takes_only_what_is_needed(tmp_path):
    byte_dataset().to_parquet(tmp_path / "corpus" / "train-00000-of-00001.parquet")
    corpus = hub_dataset.read(tmp_path / "corpus", columns=NAMES, streaming=True, limit=2)
    check_bytes_corpus(corpus, ["train-000000", "train-000001"])
    limited = hub_dataset.read(tmp_path / "corpus", columns=NAMES, limit=2)
    assert limited.fingerprint == corpus.fingerprint


def test_saved_dataset_dict_with_faults(tmp_path):
    def spoil(row, index):
        if index == 1:
            row["audio"] = {"bytes": row["audio"]["bytes"][:60], "path": "1.flac"}
        if index == 2:
            row["EmoVal"] = 9.0
        return row

    plain = {"bytes": Value("binary"), "path": Value("string")}
    spoilt = byte_dataset().cast_column("audio", plain).map(spoil, with_indices=True)
    DatasetDict(train=spoilt.cast_column("audio", Audio()), test=byte_dataset(1)).save_to_disk(tmp_path / "saved")
    corpus = hub_dataset.read(tmp_path / "saved", columns=NAMES, scale=(1, 5))
    assert corpus.utterances["id"][:] == ["train-000000", "train-000003", "test-000000"]
    assert corpus.utterances["split"][:] == ["train", "train", "test"]
    found = {exclusion.what: exclusion.reason for exclusion in corpus.exclusions}
    assert found.keys() == {"train-000001", "train-000002"}
    assert found["train-000001"].startswith("bad audio: ")
    assert found["train-000002"].startswith("label out of range")
    assert len(audio.of_row(corpus.utterances[1])) == 1600
    for option in ({"subset": "a"}, {"revision": "a"}, {"streaming": True}):
        with pytest.raises(AffectError, match=f"^{next(iter(option))} does nothing here: .* save_to_disk$"):
            hub_dataset.read(tmp_path / "saved", columns=NAMES, **option)


def test_further_columns_are_labels_and_groups(tmp_path, caplog):
    made = byte_dataset().add_column("quality", [1.5, None, 3.0, 4.5]).add_column("take", [1, 1, 2, 2])
    made = made.add_column("source", ["x", "x", None, "y"]).add_column("clean", [True, False, True, True])
    made = made.add_column("box", [[1, 2]] * 4).add_column("duration", [9.0] * 4)
    made.to_parquet(tmp_path / "corpus" / "train.parquet")
    corpus = read(UTTERANCES, "hub", tmp_path / "corpus", columns=NAMES)
    assert (corpus.labels, corpus.groups) == (("quality", "take"), ("source", "clean"))
    rows = corpus.utterances
    np.testing.assert_array_equal(rows["quality"][:], [1.5, np.nan, 3.0, 4.5])
    assert rows["source"][:] == ["x", "x", "", "y"] and rows["clean"][:] == ["True", "False", "True", "True"]
    assert rows["duration"][0] == pytest.approx(0.1) and "box" not in rows.column_names
    assert "affect fills columns of these names itself: duration" in caplog.text
    assert "neither numbers nor texts: box" in caplog.text
    assert splits.folds(rows, "take") == ["1", "2"]
    plain = read(UTTERANCES, "hub", tmp_path / "corpus", columns={**NAMES, "script": "take", "transcript": "source"})
    assert plain.labels == ("quality",) and plain.fingerprint != corpus.fingerprint
    assert (corpus.scale, corpus.inferred) == ((1.0, 5.0), True)


def test_audiofolder(tmp_path):
    folder = tmp_path / "speech"
    for name in ("a", "b", "c"):
        write_wav(folder / f"{name}.wav")
    (folder / "b.wav").write_bytes(b"")
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file_name", "speaker", "valence", "arousal"), *((f"{n}.wav", n, 2.0, 3.0) for n in "abc")]
        )
    corpus = hub_dataset.read(folder)
    assert corpus.utterances["speaker"][:] == ["a", "c"]
    assert [exclusion.reason for exclusion in corpus.exclusions] == ["bad audio: is empty (0 bytes)"]
    assert corpus.utterances["path"][0] == str(folder / "a.wav")
    assert len(audio.of_row(corpus.utterances[0])) == 3200


def test_csv_of_paths(tmp_path):
    write_wav(tmp_path / "sub" / "a.wav")
    table = tmp_path / "table.csv"
    table.write_text("file,speaker,valence,arousal\nsub/a.wav,s1,2,3\nsub/gone.wav,s2,2,3\n")
    corpus = hub_dataset.read(table, columns={"audio": "file"})
    assert corpus.utterances["speaker"][:] == ["s1"]
    assert [exclusion.reason for exclusion in corpus.exclusions] == ["missing audio file: sub/gone.wav"]
    streamed = hub_dataset.read(table, columns={"audio": "file"}, streaming=True)
    assert streamed.fingerprint == corpus.fingerprint


def test_a_text_that_is_none_is_refused_as_the_table_is_read(tmp_path):
    rows = {"path": [b"a.wav", b"\xf2.wav"], "speaker": [b"a", b"b"]}
    names = pa.table({name: pa.array(cells, pa.binary()).view(pa.string()) for name, cells in rows.items()})
    pq.write_table(names, tmp_path / "rows.parquet")
    with pytest.raises(AffectError, match="datasets cannot read .* UTF"):
        read(UTTERANCES, "hub", tmp_path)


def test_bad_sources(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    byte_dataset().to_parquet(tmp_path / "corpus" / "train-00000-of-00001.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("x")
    cases = [
        (tmp_path / "corpus", {"columns": {"valence": "EmoVl"}}, "no column 'EmoVl' .* it has: audio, EmoVal"),
        (tmp_path / "corpus", {"columns": {"valenc": "EmoVal"}}, "'valenc', which is none of"),
        (tmp_path / "corpus", {"subset": "nope"}, "datasets cannot read .* 'nope' not found"),
        (tmp_path / "corpus", {"revision": "v1"}, "revision does nothing here: .* is a folder"),
        (
            tmp_path / "corpus" / "train-00000-of-00001.parquet",
            {"subset": "a"},
            "subset does nothing here: .* one file",
        ),
        (tmp_path / "corpus", {"limit": 0}, "limit is 0"),
        (tmp_path / "empty", {}, "datasets cannot read"),
        (tmp_path / "absent", {}, "no such folder or file"),
        (tmp_path / "x.txt", {}, "is no folder"),
        ("nobody/nothing-of-the-kind", {}, "datasets cannot read"),
    ]
    for root, options, message in cases:
        with pytest.raises(AffectError, match=message) as caught:
            hub_dataset.read(root, **options)
        assert "\n" not in str(caught.value)
    Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "text" / "train.parquet")
    with pytest.raises(AffectError, match="no audio column"):
        hub_dataset.read(tmp_path / "text")


def test_films_among_recordings_are_heard(tmp_path):
    write_wav(tmp_path / "a.wav")
    tone = (8000 * np.sin(np.arange(16_000) / 5)).astype(np.int16)
    (tmp_path / "b.mp4").write_bytes(film([0, 50] * 5, sound=tone[None], sound_codec="aac"))
    (tmp_path / "metadata.csv").write_text("file_name,Speaker,valence\na.wav,s,1\nb.mp4,t,2\n")
    corpus = hub_dataset.read(tmp_path)
    assert corpus.utterances["speaker"][:] == ["s", "t"] and corpus.exclusions == [] and corpus.groups == ()
    assert len(audio.of_row(corpus.utterances[1])) == pytest.approx(16_000, abs=2_000)
