"""Pickles of talking faces: every form that is read, and one line for every one that is not."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.data import corpora, pickle_file, score_corpus, score_samples
from affect.data.safe_pickle import UNREADABLE, check_places
from affect.data.score_samples import Sample, frames_of, survey
from affect.errors import AffectError

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def sample(k: int = 0, **changed) -> dict:
    made = {
        "video_id": f"c{k}", "source": f"s{k}", "generator": "g0",
        "features": {"visual": X + k, "au": X[0] + k}, "labels": {"lip_sync_score": 2.0 + k, "overall_score": -1},
    }  # fmt: skip
    return {**made, **changed}


def splits(train=None, **others) -> dict:
    two = [sample(0), sample(1, labels={"lip_sync_score": float("nan"), "overall_score": 3.5})]
    return {"train": two if train is None else train, "val": [sample(2)], "test": [sample(3)], **others}


def write(folder: Path, data, protocol: int = 4) -> Path:
    path = folder / "ac.pkl"
    path.write_bytes(data if isinstance(data, bytes) else pickle.dumps(data, protocol))
    return path


def read(folder: Path, data, labels=(), protocol: int = 4) -> list[Sample]:
    return pickle_file.read(write(folder, data, protocol), labels)[0]


def columns(samples: list[dict]) -> dict:
    labels = {name: np.array([each["labels"][name] for each in samples]) for name in samples[0]["labels"]}
    return {
        "features": {name: [each["features"].get(name) for each in samples] for name in ("visual", "au")},
        "labels": {name: np.nan_to_num(values, nan=2.5) for name, values in labels.items()},
        "valid_masks": {name: ~np.isnan(values) & (values != -1) for name, values in labels.items()},
        **{key: [each[key] for each in samples] for key in ("source", "generator")},
        "video_ids": np.array([each["video_id"] for each in samples]),
    }


def plain(samples: list[Sample]) -> list:
    return [
        (s.id, s.part, dict(s.groups), {k: str(v) for k, v in s.scores.items()},
         {k: v.tolist() for k, v in s.features.items()})
        for s in samples
    ]  # fmt: skip


def tables(rows: list[dict]) -> dict:
    """Labels and masks without names [N, K], features as one array [N, T, D] and [N, D]."""
    made = columns(rows)
    names = list(made["labels"])
    both = {key: np.stack([made[key][name] for name in names], axis=1) for key in ("labels", "valid_masks")}
    return {**made, **both, "features": {n: np.stack(v) for n, v in made["features"].items()}, "label_names": names}


FORMS = {
    "valid": lambda data: {"valid" if key == "val" else key: rows for key, rows in data.items()},
    "flat": lambda data: [{**row, "split": key} for key, rows in data.items() for row in rows],
    "columns": lambda data: {key: columns(rows) for key, rows in data.items()},
    "flat columns": lambda data: {
        **columns([row for rows in data.values() for row in rows]),
        "split": [key for key, rows in data.items() for _ in rows],
    },
    "tables": lambda data: {key: tables(rows) for key, rows in data.items()},
    "masks by sample": lambda data: {
        key: [
            {**row, "labels": dict.fromkeys(row["labels"], 1.5) | {k: v for k, v in row["labels"].items() if v > 0},
             "valid_masks": {k: v > 0 for k, v in row["labels"].items()}}
            for row in rows
        ]
        for key, rows in data.items()
    },
    "lists": lambda data: {
        key: [{**row, "features": {k: v.tolist() for k, v in row["features"].items()}} for row in rows]
        for key, rows in data.items()
    },
    "lists of frames": lambda data: {
        key: [{**row, "features": row["features"] | {"visual": list(row["features"]["visual"])}} for row in rows]
        for key, rows in data.items()
    },
    "numpy's numbers": lambda data: {
        key: [{**row, "labels": {k: np.float64(v) for k, v in row["labels"].items()}} for row in rows]
        for key, rows in data.items()
    },
    "none and absent": lambda data: {
        key: [{**row, "labels": {k: v if v > 0 else None for k, v in row["labels"].items()}} for row in rows]
        for key, rows in data.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_every_protocol(tmp_path, protocol):
    made = read(tmp_path, splits(), protocol=protocol)
    assert [(s.id, s.part) for s in made] == [("c0", "train"), ("c1", "train"), ("c2", "valid"), ("c3", "test")]
    assert made[0].groups == {"source": "s0", "generator": "g0"}
    assert made[0].scores["lip_sync_score"] == 2.0 and np.isnan(made[0].scores["overall_score"])
    np.testing.assert_array_equal(made[2].features["visual"], X + 2)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(tmp_path, form):
    assert plain(read(tmp_path, FORMS[form](splits()))) == plain(read(tmp_path, splits()))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_in_every_layout(tmp_path, protocol):
    wide = np.arange(24, dtype=">f8").reshape(2, 3, 4)
    arrays = [wide, np.asfortranarray(wide), wide.transpose(1, 0, 2), wide[:, ::2], wide.astype("f2"),
              wide.astype("i8"), wide > 3, np.zeros((0, 3), "f4")]  # fmt: skip
    rows = [sample(k, features={f"x{k}": array}) for k, array in enumerate(arrays)]
    for k, each in enumerate(read(tmp_path, {"train": rows}, protocol=protocol)):
        np.testing.assert_array_equal(each.features[f"x{k}"], arrays[k])
        assert each.features[f"x{k}"].dtype.newbyteorder("=") == arrays[k].dtype.newbyteorder("=")


@pytest.mark.parametrize("core", [b"core", b"_core"])
def test_the_names_of_numpy_1_and_2(tmp_path, core):
    kind = b"cnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R"
    buffer = b"cnumpy." + core + b".numeric\n_frombuffer\n(C\x08" + X[0, :2].tobytes() + kind + b"K\x02\x85\x8c\x01CtR"
    start = b"cnumpy." + core + b".multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    state = b"(K\x01K\x02\x85" + kind + b"\x89C\x08" + X[1, :2].tobytes() + b"tb"
    number = b"cnumpy." + core + b".multiarray\nscalar\n" + kind + b"C\x04" + X[2, :1].tobytes() + b"\x86R"
    text = {name: b"\x8c" + bytes([len(name)]) + name.encode() for name in ("train", "features", "labels", "a", "b")}
    row = b"}(" + text["features"] + b"}(" + text["a"] + buffer + text["b"] + start + state + b"u"
    row += text["labels"] + b"}" + text["a"] + number + b"su"
    (made,) = read(tmp_path, b"\x80\x05}" + text["train"] + b"](" + row + b"es.")
    assert {name: array.tolist() for name, array in made.features.items()} == {"a": [0, 1], "b": [3, 4]}
    assert made.scores == {"a": 6.0}


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def damaged() -> bytes:
    return pickle.dumps(splits())[:-40]


def several(*changed) -> dict:
    rated = {"labels": {"lip_sync_score": 1.0, "overall_score": 2.0}}
    return splits([sample(k, **{**rated, **each}) for k, each in enumerate(changed, start=5)])


LOOKED_AT = ("labels without names",)
"""What can't be learned from as it is, but described."""
RAGGED = np.empty(2, object)
RAGGED[:] = [X, X[:2]]


def saved(save, *arguments, **options) -> bytes:
    """Return what another program writes into a file."""
    file = io.BytesIO()
    save(*arguments, file, **options)
    return file.getvalue()


BAD = {
    "empty": (b"", r"no readable pickle \(.*\): is it cut off\?$"),
    "truncated": (damaged(), r"no readable pickle \(.*\): is it cut off\?$"),
    "text": (b"hello, this is text", r"no readable pickle \(.*\)$"),
    "torch.save": (saved(torch.save, {"train": torch.ones(2)}), r"torch.save writes: save arrays .*tensor.numpy\(\)"),
    "torch.save before 1.6": (
        saved(torch.save, {"train": torch.ones(2)}, _use_new_zipfile_serialization=False), "but what torch.save writes"
    ),
    "npy": (saved(lambda array, file: np.save(file, array), X), r"but one array \(.npy\)"),
    "gzip": (gzip.compress(pickle.dumps(splits())), r"but compressed \(gzip\): unpack it first"),
    "number": (3, "holds an int, not splits"),
    "empty list": ([], "has no sample"),
    "no splits": ({"a": [sample()]}, "has no split 'train'; it has: 'a'"),
    "empty train": (splits([]), "split 'train' is empty"),
    "empty test": (splits(test=[]), "split 'test' is empty"),
    "both val and valid": (splits(valid=[sample(7)]), "'val' and 'valid' are the same part"),
    "split of words": (splits("words"), "split 'train' holds a str"),
    "sample of words": (splits(["words"]), "train 0 is a str"),
    "no features": (splits([{"labels": {}}]), "train 0 has no 'features'.* it has: labels"),
    "labels are a list": (splits([sample(labels=[1])]), "train 0 has as 'labels' a list"),
    "label of words": (several({"labels": {"a": "good"}}), r"train 0 \(c5\) has the label a 'good', which is no num"),
    "label is infinite": (several({"labels": {"a": float("inf")}}), "label a inf"),
    "label of several": (several({"labels": {"a": np.ones(2)}}), r"label a \[2\]"),
    "mask of words": (several({"valid_masks": [True]}), "train 0 has as mask a list"),
    "no label": (
        several({"labels": {}}),
        r"no sample to train on has a label of any score \(lip_sync_score, overall_score\): -1, NaN, an empty cell "
        r"and a mask of False .* \(affect convert --unlabelled, then recipes/talking_face.py pretrain\)$",
    ),
    "a score never rated": (
        splits([sample(0, labels={"a": 1.0, "b": -1})], val=[sample(1, labels={"b": 2.0})]),
        r"no sample to train on has a label b: name the others to leave it out, --labels a "
        r"\(of a table: --data.scores a\)$",
    ),
    "feature of words": (several({"features": {"v": "x"}}), r"v of train 0 \(c5\) is a str"),
    "feature of text": (several({"features": {"v": np.array(["a"])}}), "v of c5 is of <U1"),
    "ragged list": (several({"features": {"v": [[1, 2], [3]]}}), "v of train 0 .*ragged"),
    "object array": (several({"features": {"v": RAGGED}}), r"v of train 0 .*\(dtype object\): save arrays"),
    "object column": (
        {"train": {**columns([sample(0), sample(1)]), "features": {"v": RAGGED}}},
        r"split 'train', features v holds Python objects",
    ),
    "records": (several({"features": {"v": np.zeros(2, "i4,f4")}}), "holds records"),
    "complex": (several({"features": {"v": np.zeros(2, "c8")}}), "values of the type c8"),
    "dates": (several({"features": {"v": np.zeros(2, "M8[s]")}}), "holds dates"),
    "number as feature": (several({"features": {"v": np.ones(())}}), r"v of c5 has the shape \[\]"),
    "163 and 2048": (
        several({"features": {"visual": np.ones((2, 163))}}, {"features": {"visual": np.ones((3, 2048))}}),
        "the feature visual has 163 numbers a frame in c5 and 2048 in c6",
    ),
    "frames and a batch of one": (
        several({"features": {"visual": np.ones((4, 163))}}, {"features": {"visual": np.ones((1, 10, 163))}}),
        r"has 163 numbers a frame in c5 and 1630 \(points \[T, K, C\] of the shape \[1, 10, 163\]\) in c6: all",
    ),
    "twice in a split": (splits([sample(0), sample(0)]), "the id 'c0' comes twice, in train"),
    "twice in two splits": (splits([sample(3)]), "the id 'c3' comes twice, in train and in test"),
    "group called as a score": (several({"lip_sync_score": "x"}), "'lip_sync_score' can't be the name of one"),
    "score called row": (several({"labels": {"row": 1.0}}), "'row' can't be the name of one of the scores"),
    "feature called id": (several({"features": {"id": X}}), "'id' can't be the name of one of the features"),
    "feature called a shape": (several({"features": {"v": X, "v.shape": X}}), "'v.shape' can't be the name"),
    "names of two lines": (splits([sample(video_id="0\n1", labels={"a\nb": "bad"})]), "has the label a b 'bad'"),
    "unprintable": (several({"source": "a\nb"}), "is no name of a clip or group"),
    "odd split": ([sample(split="dev2")], "is of the split 'dev2'"),
    "columns of two lengths": (
        {"train": {**columns([sample(0), sample(1)]), "source": ["a"]}}, "has 1 source and 2 labels",
    ),
    "features of two lengths": (
        {"train": {**columns([sample(0), sample(1)]), "features": {"a": [X], "b": [X, X]}}}, "1 value of a and 2 of b",
    ),
    "labels without names": ({"train": {"features": {"a": [X]}, "labels": np.ones((1, 2))}}, "name its columns"),
    "masked": (several({"features": {"v": np.ma.masked_array([1.0], [True])}}), "masked arrays: save plain ones"),
    "matrix": (b"cnumpy\nmatrix\n.", "numpy.matrix: save plain arrays"),
    "records of numpy": (several({"features": {"v": np.rec.array([(1, 2.0)])}}), "numpy.rec.*save plain arrays"),
    "tensors": (b"ctorch._utils\n_rebuild_tensor_v2\n.", "torch tensors: save arrays"),
    "data frames": (b"cpandas.core.frame\nDataFrame\n.", "data frames: save a dictionary of arrays"),
    "columns of arrow": (b"cpyarrow.lib\n_restore_array\n.", "data frames: save a dictionary of arrays"),
    "outside": (b"P1\n.", "objects outside itself"),
    "path": (several({"features": {"v": Path("x")}}), "'pathlib.*refused; don't use this file"),
    "system": (splits([Call(os.system, "touch gone")]), "posix.system', which was refused; don't use this file"),
    "mkdir": (splits([Call(os.mkdir, "gone")]), "posix.mkdir"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_pickle_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    data, words = BAD[case]
    path = write(tmp_path, data() if callable(data) else data)
    with pytest.raises(AffectError, match=words) as caught:
        pickle_file.work(path, tmp_path / "out", ())
    assert "\n" not in str(caught.value) and str(caught.value).startswith("ac.pkl")
    if case in ("no label", "a score never rated"):
        # Nothing to learn, but something to look at.
        assert "train: none (100 %)" in pickle_file.work(path, None, ())
    elif case in LOOKED_AT:
        assert "ac.pkl: " in pickle_file.work(path, None, ())
    else:
        with pytest.raises(AffectError, match=words):
            pickle_file.work(path, None, ())
    assert not (tmp_path / "gone").exists() and not (tmp_path / "out" / "schema.json").exists()


def test_a_label_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(AffectError, match="no sample has a label 'lipsync_score'; did you mean 'lip_sync_score'?"):
        read(tmp_path, splits(), ["overall_score", "lipsync_score"])
    assert read(tmp_path, splits(), ["overall_score"])[1].scores == {"overall_score": 3.5}


@pytest.mark.parametrize("source", [None, "s"])
def test_clips_of_one_group_are_converted_and_it_is_said_that_they_can_not_be_split(tmp_path, source):
    samples = [sample(k, source=source, labels={"a": 1.0 + k}) for k in range(4)]
    path = write(tmp_path, [{key: held for key, held in each.items() if held is not None} for each in samples])
    words = "nothing can be held out: no split, and no group of three values"
    assert words in pickle_file.work(path, tmp_path / "out", ())
    corpus = corpora.read(corpora.SCORES, "score_folder", tmp_path / "out")
    with pytest.raises(AffectError, match="1 value of source" if source else "no identity or source"):
        score_corpus.way(corpus)
    for data in ([sample(k) for k in range(4)], splits()):
        assert words not in pickle_file.work(write(tmp_path, data), None, ())


def test_labels_are_chosen_and_name_a_table(tmp_path):
    data = splits([sample(0, labels={"a": 1.0, "b": -1})], val=[sample(1, labels={"a": 2.0})], test=[sample(2)])
    data["test"][0]["labels"] = {"a": 3}
    assert [s.scores for s in read(tmp_path, data, ["a"])] == [{"a": 1.0}, {"a": 2.0}, {"a": 3.0}]
    table = {"train": {"features": {"v": [X]}, "labels": np.array([[1.5, -1.0]])}}
    (only,) = read(tmp_path, table, ["p", "q"])
    assert only.scores["p"] == 1.5 and np.isnan(only.scores["q"]) and only.id == "train0"
    said = pickle_file.work(write(tmp_path, table), None, ())
    assert "1 feature, 2 scores" in said and "score label0: scale 1 to 5" in said
    assert "left out: names of labels: the file has none: affect convert --labels takes 2 names" in said


def test_a_pickle_is_known_by_what_it_holds_whatever_it_is_called(tmp_path):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / f"ac.{protocol}.bin"
        path.write_bytes(pickle.dumps(splits(), protocol))
        assert pickle_file.is_pickle(path)
    with pytest.raises(AffectError, match=r"ac.2.bin is a pickle, which is not trained on: convert it once"):
        corpora.read(corpora.SCORES, "score_folder", tmp_path)
    others = {"a.csv": b"id,score\n", "b.npz": b"PK\x03\x04", "c.mp4": b"\x80\x00\x00", "empty": b""}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        assert not pickle_file.is_pickle(tmp_path / name)
    assert pickle_file.is_pickle(tmp_path / "old.pkl") and not pickle_file.is_pickle(tmp_path)


def test_points_batches_and_empty_arrays(tmp_path):
    def made(*arrays):
        samples = [Sample(id=str(k), scores={}, features={"x": a}) for k, a in enumerate(arrays)]
        seen = survey(samples, "f")["x"]
        return seen.width, [frames_of(a, seen) for a in arrays]

    width, found = made(np.ones((5, 4, 3)), np.ones((1, 4, 3)))
    assert width == 12 and [a.shape for a, _ in found] == [(5, 12), (1, 12)]
    width, found = made(np.ones((1, 5, 3)), np.ones((1, 2, 3)))
    assert width == 3 and [a.shape for a, _ in found] == [(5, 3), (2, 3)]
    width, found = made(np.ones((1, 5, 3)), np.ones((1, 5, 3)))
    assert width == 3 and [a.shape for a, _ in found] == [(5, 3), (5, 3)]
    width, found = made(np.ones(3), np.zeros((0, 7)), np.ones((2, 3)))
    assert width == 3 and found[0][0].shape == (1, 3) and found[1] is None


def test_clips_that_are_all_as_long_are_said_to_be_padded_perhaps(tmp_path):
    for count, data in ((4, splits()), (2, tables([sample(0), sample(1)]))):
        said = pickle_file.work(write(tmp_path, data), None, ())
        assert f"4 to 4 frames, of {count} of {count} clips, all of them equally many: where clips were padded" in said
        assert said.count("padding counts") == 1, "not of the vectors au"


def padded(**columns) -> dict:
    """Columns of two clips: features [2, 4, 3] and [2, 6, 2] padded with -9, a vector, and further columns."""
    features = {"visual": np.full((2, 4, 3), -9.0), "audio": np.full((2, 6, 2), -9.0), "au": np.ones((2, 5))}
    features["visual"][0, :3], features["visual"][1, :1], features["audio"][0, :5] = 1, 2, 3
    return {"train": {"features": features, "labels": {"a": [1.0, 2.0]}, **columns}}


def frames_in(samples: list[Sample]) -> dict[str, list[int]]:
    return {name: [len(each.features[name]) for each in samples] for name in ("visual", "audio")}


@pytest.mark.parametrize("made", [np.array, list], ids=["array", "list"])
def test_lengths_tell_what_is_padding(tmp_path, made):
    data = padded(audio_lengths=made([5, 0]), lengths=made([3, 1]))
    samples = read(tmp_path, data)
    assert frames_in(samples) == {"visual": [3, 1], "audio": [5, 0]} and samples[0].features["au"].shape == (5,)
    assert all((frames > 0).all() for each in samples for frames in each.features.values())
    assert [each.groups for each in samples] == [{}, {}], "they are no groups"
    said = pickle_file.work(write(tmp_path, data), tmp_path / "out", ())
    assert "feature visual: 3 numbers a frame (float32), 1 to 3 frames, of 2 of 2 clips" in said
    assert "feature audio: 2 numbers a frame (float32), 5 to 5 frames, of 1 of 2 clips" in said
    assert score_corpus.read_folder(tmp_path / "out", "c").utterances["length"] == [5, 1]


def test_lengths_are_of_those_features_alone_that_are_padded(tmp_path):
    assert frames_in(read(tmp_path, padded(visual_lengths=[2, 1]))) == {"visual": [2, 1], "audio": [6, 6]}
    data = padded(lengths=[2, 1])
    data["train"]["features"]["audio"] = [np.ones((6, 2)), np.ones((3, 2))]
    assert frames_in(read(tmp_path, data)) == {"visual": [2, 1], "audio": [6, 3]}
    data["train"]["features"]["visual"] = np.ones((2, 1, 3))
    assert frames_in(read(tmp_path, data)) == {"visual": [1, 1], "audio": [6, 3]}, "one frame is not padded"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"visual_lengths": [3, 5]}, "visual_lengths has 5 for sample 1: visual takes whole numbers up to 4$"),
        ({"visual_lengths": [-1, 4]}, "visual_lengths has -1 for sample 0: visual takes whole numbers up to 4$"),
        ({"visual_lengths": np.array([3.0, 4.0])}, r"visual_lengths has 3\.0 for sample 0: visual takes whole"),
        ({"visual_lengths": [True, 4]}, "visual_lengths has True for sample 0: visual takes whole"),
        ({"visual_lengths": ["3", 4]}, "visual_lengths has '3' for sample 0: visual takes whole"),
        ({"visual_lengths": [3, 4, 4]}, "visual_lengths are 3 of 2 samples: a column has a value a sample"),
        ({"visual_lengths": np.array([[3], [4]])}, r"visual_lengths are an array \[2, 1\], not a column"),
        ({"visual_lengths": 4}, "visual_lengths are an int, not a column of whole numbers"),
        ({"lengths": [3, 4]}, r"of features of 4 frames \(visual\) and of 6 \(audio\): .* its own, visual_lengths$"),
    ],
)
def test_lengths_that_do_not_fit_are_one_line(tmp_path, columns, words):
    with pytest.raises(AffectError, match=rf"^ac.pkl: split 'train', .*{words}") as caught:
        read(tmp_path, padded(**columns))
    assert "\n" not in str(caught.value)


def test_frames_without_numbers_are_filled_and_counted():
    bad = np.full((5, 2), np.nan)
    array = np.stack([bad[0], [1, 2], bad[0], [np.inf, 3], [4, 5]]).astype(np.float64)
    samples = [Sample(id=str(k), scores={}, features={"x": each}) for k, each in enumerate((array, bad))]
    seen = survey(samples, "f")["x"]
    frames, filled = frames_of(array, seen)
    np.testing.assert_array_equal(frames, [[1, 2], [1, 2], [1, 2], [1, 2], [4, 5]])
    assert filled == 3 and frames.dtype == np.float32 and frames_of(bad, seen) is None
    assert frames_of(np.full((1, 2), 1e300), seen) is None, "too large for float32"


def test_what_is_not_taken_over_is_said(tmp_path):
    data = splits(notes="made by hand")
    data["train"][0] |= {"fps": 25.0, "features": {"visual": X, "face": np.zeros((0, 3))}}
    told = {"fps": "no group: it is a float", "notes": "no split: train, val (valid) and tests (test, test2) are read"}
    samples, left = pickle_file.read(write(tmp_path, data))
    assert left == told
    _, schema = score_samples.look(samples, where="f", left_out=left)
    assert schema["left_out"] == {**told, "feature face": "no clip has a frame of it"}


def test_several_tests_are_parts_by_their_names(tmp_path):
    data = {**splits(), "Test2": [sample(7)], "test_info": {"made": "by hand"}, "test_names": ["c7"]}
    samples, left = pickle_file.read(write(tmp_path, data))
    assert {each.part for each in samples} >= {"train", "test2"} and {*left} == {"test_info", "test_names"}


def test_a_process_of_its_own_converts_whole_or_not_at_all(tmp_path):
    path = write(tmp_path, splits())
    said = pickle_file.convert(path, tmp_path / "a" / "out")
    assert said == pickle_file.work(path, None, ())
    assert sorted(each.name for each in (tmp_path / "a" / "out").iterdir()) == [
        "features.arrow", "rows.csv", "schema.json",
    ]  # fmt: skip
    with pytest.raises(AffectError, match="is there already"):
        pickle_file.convert(path, tmp_path / "a" / "out")
    with pytest.raises(AffectError, match=r"^ac.pkl: the id 'c0' comes twice"):
        pickle_file.convert(write(tmp_path, splits([sample(0), sample(0)])), tmp_path / "b" / "out")
    assert not list((tmp_path / "b").iterdir())


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_pickles_are_one_line_or_samples(tmp_path_factory, data):
    payload = bytearray(pickle.dumps(splits(), protocol=data.draw(st.sampled_from([0, 2, 4, 5]))))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.getbasetemp(), bytes(payload))
    try:
        # This process has no limits.
        check_places(bytes(payload))
    except UNREADABLE:
        return
    try:
        made, _ = pickle_file.read(path)
    except AffectError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(isinstance(each, Sample) for each in made)


def test_limits_of_memory_and_time(tmp_path, monkeypatch):
    # An object remembered under a number for which a list of 16 GB would be made.
    with pytest.raises(AffectError, match=r"^ac.pkl needs more memory"):
        pickle_file.describe(write(tmp_path, b"\x80\x04]r\x00\x00\x00\x40."))
    with pytest.raises(AffectError, match="no pickle"):
        pickle_file.describe(tmp_path / "none.pkl")
    monkeypatch.setattr(pickle_file, "MOST", 10)
    with pytest.raises(AffectError, match="is larger than"):
        pickle_file.describe(write(tmp_path, splits()))


def test_a_pickle_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_file, "_SECONDS", 0.01)
    began = time.monotonic()
    with pytest.raises(AffectError, match="to be read, and was given up"):
        pickle_file.describe(write(tmp_path, splits()))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("does", "ended"),
    [
        ("while True: pass", (-signal.SIGXCPU, -signal.SIGKILL)),
        ("open('large', 'wb').write(bytes(2**27))", (1,)),
    ],
)
def test_what_reads_a_pickle_may_not_compute_or_write_for_ever(tmp_path, does, ended):
    limited = f"from affect.data import pickle_file\npickle_file._SECONDS = 1\npickle_file._limit(0)\n{does}"
    done = subprocess.run([sys.executable, "-c", limited], cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode in ended, done.stderr
    assert done.returncode < 0 or b"File too large" in done.stderr


def test_clips_without_a_label_are_taken_where_that_is_asked_for(tmp_path):
    bare = [{key: value for key, value in sample(k).items() if key != "labels"} for k in range(3)]
    told = [{**columns([sample(k) for k in range(2)])}]
    for key in ("labels", "valid_masks"):
        del told[0][key]
    for data in (bare, [{**each, "labels": {}} for each in bare], told[0], several({"labels": {"overall_score": -1}})):
        path = write(tmp_path, data)
        with pytest.raises(AffectError, match="labels|has no score|has a label"):
            pickle_file.work(path, tmp_path / "refused", ())
        said = pickle_file.work(path, tmp_path / f"made{id(data)}", (), True)
        assert "2 features" in said and "no clip has it" in said or "0 scores" in said
