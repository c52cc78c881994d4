"""Micro-batches against the files they come from, as they are and under every condition."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from affect import tasks
from affect.data import conditions
from affect.data.corpora import mer2023
from affect.data.synthetic_features import FEATURES
from tests.tasks.multimodal_emotion import small

KEYS = ("audio", "text", "video")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A corpus in which one utterance has no audio file, and one neither text nor video."""
    folder = small.corpus(tmp_path_factory.mktemp("corpus") / "c")
    names = [row[0] for row in small.labels(folder, "train")]
    small.write_vector(folder, FEATURES[0], names[3], None)
    small.write_vector(folder, FEATURES[1], names[5], np.zeros(96, np.float32))
    small.write_vector(folder, FEATURES[2], names[5], None)
    return folder


def made(root, name="attention", **named):
    return tasks.make(replace(small.recipe(root, name=name), data=small.data(root, corpus="mer2023", **named)))


@pytest.fixture(scope="module")
def task(root):
    return made(root).for_fold(0, 1)


@pytest.fixture(scope="module")
def truth(root):
    """By key the vectors of all utterances, zeros where there is no file."""
    found = {}
    for key, feature in zip(KEYS, FEATURES, strict=True):
        own = small.vectors(root, feature)
        width = len(next(iter(own.values())))
        found[key] = {
            name: own.get(name, np.zeros(width)) for part in mer2023.PARTS for name, *_ in small.labels(root, part)
        }
    return found


def places(task):
    return np.arange(len(task.examples.ids))


def plain(truth, ids):
    """The vectors [N, D] and what is there [N, M], by hand."""
    values = {key: np.stack([truth[key][name] for name in ids]) for key in KEYS}
    return values, np.stack([values[key].any(1) for key in KEYS], 1)


def test_a_batch_is_what_the_files_say(root, task, truth):
    batch = task.batch(places(task))
    values, there = plain(truth, batch.ids)
    for s, key in enumerate(KEYS):
        assert batch.inputs[key].dtype.is_floating_point and str(batch.inputs[key].dtype) == "torch.float32"
        # Frames of half precision keep their mean in it.
        np.testing.assert_allclose(batch.inputs[key].numpy(), values[key], rtol=2e-3, atol=2e-3)
        assert np.array_equal(batch.inputs["present"].numpy()[:, s] > 0, there[:, s])
    assert np.array_equal(batch.targets["present"].numpy(), batch.inputs["present"].numpy())
    assert 0 < there.mean() < 1
    assert not there[3, 0]
    assert there[5].tolist() == [True, False, False]


def test_labels_are_those_of_the_files(root, task):
    batch = task.batch(places(task))
    wanted = {name: (emotion, float(v)) for part in mer2023.PARTS for name, emotion, v in small.labels(root, part)}
    test3 = {row[0] for row in small.labels(root, "test3")}
    for k, name in enumerate(batch.ids):
        emotion, valence = wanted[name]
        assert int(batch.targets["emotion"][k]) == mer2023.CLASSES.index(emotion)
        assert batch.rows[k]["emotion"] == emotion
        for found in (float(batch.targets["valence"][k]), batch.rows[k]["valence"]):
            assert (found is None or np.isnan(found)) if name in test3 else found == valence
    assert str(batch.targets["emotion"].dtype) == "torch.int64"
    assert str(batch.targets["valence"].dtype) == "torch.float32"


def test_a_batch_is_of_the_places_asked_for(task):
    whole, some = task.batch(places(task)), np.array([9, 2, 140, 5])
    batch = task.batch(some)
    assert batch.ids == tuple(whole.ids[k] for k in some)
    for side in ("inputs", "targets"):
        for name, tensor in getattr(batch, side).items():
            np.testing.assert_array_equal(tensor.numpy(), getattr(whole, side)[name][some].numpy())


@pytest.mark.parametrize("name", conditions.NAMES)
def test_a_condition_is_what_it_is_by_hand(task, name):
    """For any rows, in any order, beside any others."""
    some = np.random.default_rng(1).permutation(places(task))[:60]
    whole = task.batch(some)
    ids = list(whole.ids)
    there = whole.inputs["present"].numpy() > 0
    condition = conditions.parse(name)
    kept = conditions.keep(condition, ids, there)
    batch = task.batch(some, name)
    assert np.array_equal(batch.inputs["present"].numpy() > 0, kept)
    assert np.array_equal(batch.targets["present"].numpy() > 0, kept)
    train = task.corpus.indices("train")
    for s, key in enumerate(KEYS):
        values = whole.inputs[key].numpy()
        if condition.kind == "snr":
            reference = conditions.power(np.asarray(task.corpus.arrays[s][train], np.float32))
            values = conditions.noise(condition, ids, key, values, reference)
        if condition.kind == "shuffle" and conditions.MODALITIES[condition.value] == key:
            values = shuffled(task, condition, s)[some]
        np.testing.assert_allclose(batch.inputs[key].numpy(), values * kept[:, s : s + 1], rtol=1e-4, atol=1e-5)
    for label in ("emotion", "valence"):
        np.testing.assert_array_equal(batch.targets[label].numpy(), whole.targets[label].numpy())
    assert batch.rows == whole.rows and batch.ids == whole.ids


def shuffled(task, condition, stream):
    """A stream's vectors [N, D] under a shuffle, part by part."""
    values = np.asarray(task.corpus.arrays[stream], np.float32).copy()
    whole = values.copy()
    parts = np.array(task.corpus.utterances["part"][:])
    for part in mer2023.PARTS:
        mine = np.flatnonzero(parts == part)
        ids = [task.examples.ids[k] for k in mine]
        values[mine] = whole[
            mine[conditions.shuffle(condition, ids, task.examples.modalities(task.examples.present)[mine])]
        ]
    return values


@pytest.mark.parametrize("name", conditions.NAMES)
def test_what_is_missing_stays_missing(task, name):
    whole, batch = task.batch(places(task)), task.batch(places(task), name)
    gone = whole.inputs["present"].numpy() == 0
    assert gone.any()
    assert not batch.inputs["present"].numpy()[gone].any()
    for s, key in enumerate(KEYS):
        absent = batch.inputs["present"].numpy()[:, s] == 0
        assert not batch.inputs[key].numpy()[absent].any()


def test_a_shuffle_gives_another_utterances_vector_of_the_same_part(task):
    whole = task.batch(places(task))
    batch = task.batch(places(task), "shuffle=T")
    parts = np.array(task.corpus.utterances["part"][:])
    there = whole.inputs["present"].numpy()[:, 1] > 0
    before, after = whole.inputs["text"].numpy(), batch.inputs["text"].numpy()
    assert not (before[there] == after[there]).all(1).any(), "nobody keeps its own"
    for part in mer2023.PARTS:
        mine = there & (parts == part)
        assert sorted(map(tuple, before[mine])) == sorted(map(tuple, after[mine])), "each is used once"
    for key in ("audio", "video"):
        np.testing.assert_array_equal(batch.inputs[key].numpy(), whole.inputs[key].numpy())


def test_the_caller_may_change_a_batch(task):
    first = task.batch(np.arange(4))
    for tensor in (*first.inputs.values(), first.targets["emotion"], first.targets["valence"]):
        tensor.zero_()
    again = task.batch(np.arange(4))
    assert again.inputs["audio"].any() and again.inputs["present"].any() and again.targets["valence"].any()


def test_several_streams_of_a_modality(root, tmp_path):
    """A second audio feature that lacks one utterance: the modality is there, one of its streams is not."""
    copy = tmp_path / "c"
    shutil.copytree(root, copy)
    name = small.labels(copy, "train")[0][0]
    (copy / "features" / "second").mkdir()
    other = {
        key: np.arange(9) + len(value) + k for k, (key, value) in enumerate(small.vectors(copy, FEATURES[1]).items())
    }
    for key, value in other.items():
        small.write_vector(copy, "second", key, None if key == name else value.astype(np.float32))
    whole = made(copy, "topn", audio=(FEATURES[0], "second"))
    batch = whole.for_fold(0, 1).batch(np.arange(len(whole.examples.ids)))
    assert list(batch.inputs) == ["audio", "audio_2", "text", "video", "present"]
    assert batch.inputs["present"].shape[1] == 4 and batch.targets["present"].shape[1] == 3
    assert batch.inputs["present"][0].tolist()[:2] == [1.0, 0.0] and float(batch.targets["present"][0, 0]) == 1.0
    assert batch.inputs["present"][3].tolist()[:2] == [0.0, 1.0] and float(batch.targets["present"][3, 0]) == 1.0
    for k, key in enumerate(batch.ids[1:], 1):
        np.testing.assert_array_equal(batch.inputs["audio_2"][k].numpy(), other[key])
    without = whole.for_fold(0, 1).batch(np.arange(20), "subset=TV")
    assert not without.inputs["present"][:, :2].any() and not without.targets["present"][:, 0].any()
    assert not without.inputs["audio_2"].any()


def test_halves_are_read_as_they_are(root, tmp_path):
    copy = tmp_path / "c"
    shutil.copytree(root, copy)
    drawn = np.random.default_rng(0)
    wanted = {}
    for part in mer2023.PARTS:
        for name, *_ in small.labels(copy, part):
            wanted[name] = drawn.standard_normal(11).astype(np.float16)
            small.write_vector(copy, FEATURES[2], name, wanted[name])
    whole = made(copy)
    assert whole.corpus.arrays[2].dtype == np.float16
    batch = whole.for_fold(0, 1).batch(np.arange(50))
    assert str(batch.inputs["video"].dtype) == "torch.float32"
    for k, name in enumerate(batch.ids):
        np.testing.assert_array_equal(batch.inputs["video"][k].numpy(), wanted[name].astype(np.float32))
    noisy = whole.for_fold(0, 1).batch(np.arange(50), "snr=0")
    assert noisy.inputs["video"].isfinite().all()
