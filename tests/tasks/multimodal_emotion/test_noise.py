"""Noise on training features: a function of the key and the id, at the ratio that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from affect.task import Key
from affect.tasks.multimodal_emotion.examples import add_noise
from tests.tasks.multimodal_emotion import small

IDS = [f"u{k}" for k in range(64)]


def test_its_power_is_that_of_the_ratio():
    values = np.random.default_rng(0).normal(size=(64, 400)).astype(np.float32)
    values[3] = 0.0
    noisy = add_noise(values, IDS, "audio", 4.0, Key(seed=1, epoch=0), (10.0, 10.0))
    assert not noisy[3].any(), "what is missing stays missing"
    there = [k for k in range(64) if k != 3]
    assert np.mean(np.square(noisy[there] - values[there])) == pytest.approx(0.4, rel=0.03)
    loud = add_noise(values, IDS, "audio", 4.0, Key(seed=1, epoch=0), (0.0, 20.0))
    powers = np.mean(np.square(loud[there] - values[there]), axis=1)
    assert 0.04 * 0.8 < powers.min() < 0.1 and 2.0 < powers.max() < 4.0 * 1.2, "each utterance has a ratio of its own"


def test_it_follows_the_key_and_the_id_alone():
    values = np.ones((64, 5), np.float32)
    first, ratios = Key(seed=1, epoch=2), (0.0, 20.0)
    whole = add_noise(values, IDS, "audio", 1.0, first, ratios)
    some = add_noise(values[10:20], IDS[10:20], "audio", 1.0, first, ratios)
    np.testing.assert_array_equal(some, whole[10:20])
    for other, stream in ((Key(seed=1, epoch=3), "audio"), (Key(seed=2, epoch=2), "audio"), (first, "text")):
        assert not np.allclose(add_noise(values, IDS, stream, 1.0, other, ratios), whole)


def test_training_hears_it_and_evaluation_does_not(tmp_path):
    from affect import tasks

    recipe = small.with_(small.recipe(small.corpus(tmp_path / "corpus")), noise=(0.0, 10.0))
    task = tasks.make(recipe).for_fold(0, 1)
    rows = [task.datasets()["train"][k] for k in range(4)]
    plain, one, again, later = (
        task.collate(rows, key) for key in (None, *(Key(seed=0, epoch=epoch) for epoch in (0, 0, 1)))
    )
    name = next(name for name in plain.inputs if name != "present")
    assert not (plain.inputs[name] == one.inputs[name]).all()
    assert (one.inputs[name] == again.inputs[name]).all()
    assert not (one.inputs[name] == later.inputs[name]).all()
