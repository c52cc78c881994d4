"""Whom slots are for: who is enrolled, who is new, and what the rest is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng

from affect.tasks.diarization.config import EMPTY, NON_SPEAKER, PSEUDO, Loss, Model
from affect.tasks.diarization.slots import Slots, assign

SPOKEN = np.array([[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], np.float32)
"""Who speaks when: 1 begins, then 3, then 0; 2 and 4 never do."""
EVERYBODY = np.ones(5, bool)
OURS = Model(slots=6)


def given(model: Model = OURS, seed: int = 0, enrollable: np.ndarray = EVERYBODY, **loss) -> Slots:
    return assign(SPOKEN, enrollable, model, Loss(**loss), default_rng(seed))


def test_labels_are_those_of_whom_a_slot_is_for():
    for seed in range(20):
        slots = given(seed=seed)
        assert slots.slots[0] == PSEUDO
        for k, who in enumerate(slots.slots[1:], start=1):
            wanted = SPOKEN[who] if who >= 0 else np.full(4, np.nan)
            np.testing.assert_array_equal(slots.activity[k], wanted)
        new = {0, 1, 3} - set(slots.slots.tolist())
        assert set(np.flatnonzero(np.isfinite(slots.candidates).any(1)).tolist()) == new
        for who in new:
            np.testing.assert_array_equal(slots.candidates[who], SPOKEN[who])


@pytest.mark.parametrize(("empty", "mask_prob"), [(0.25, 0.5), (0.0, 0.3), (1.0, 0.0), (0.0, 0.0)])
def test_nobody_is_enrolled_or_one_is_left_out_as_often_as_the_loss_says(empty, mask_prob):
    new = [np.isfinite(given(seed=k, empty=empty, mask_prob=mask_prob).candidates).any(1).sum() for k in range(600)]
    shares = np.bincount(new, minlength=4) / len(new)
    assert shares[2] == 0
    assert shares[3] == pytest.approx(empty, abs=0.06)
    assert shares[1] == pytest.approx((1 - empty) * mask_prob, abs=0.06)


def test_any_number_is_left_out_as_often():
    loss = {"empty": 0.1, "mask_prob": 0.6, "masked": "some"}
    new = [np.isfinite(given(seed=k, **loss).candidates).any(1).sum() for k in range(600)]
    shares = np.bincount(new, minlength=4) / len(new)
    assert shares.tolist() == pytest.approx([0.36, 0.18, 0.18, 0.28], abs=0.06)


def test_without_chance_nobody_is_enrolled():
    slots = assign(SPOKEN, EVERYBODY, OURS, Loss(), None)
    assert slots.slots.tolist() == [PSEUDO] + [EMPTY] * 5
    assert slots.owner.tolist() == [1, -1, -1, -1, -1, -1]


def test_who_has_no_embedding_is_new():
    slots = given(enrollable=np.array([True, False, True, False, False]), empty=0.0, mask_prob=0.0)
    assert set(slots.slots.tolist()) == {PSEUDO, 0, 2, EMPTY}
    assert np.isfinite(slots.candidates).any(1).tolist() == [False, True, False, True, False]
    assert slots.owner[0] == 1, "the first to begin"


def test_several_pseudo_speakers_are_owned_by_arrival():
    slots = given(replace(OURS, pseudo=3), empty=1.0)
    assert slots.slots.tolist() == [PSEUDO, PSEUDO - 1, PSEUDO - 2, EMPTY, EMPTY, EMPTY]
    assert slots.owner[:3].tolist() == [1, 3, 0]


def test_those_for_whom_there_is_no_slot_are_new():
    slots = given(Model(slots=2), empty=0.0, mask_prob=0.0)
    assert (slots.slots >= 0).sum() == 1
    assert np.isfinite(slots.candidates).any(1).sum() == 2


@pytest.mark.parametrize(
    ("padding", "absent", "rest"), [("mask", 2, EMPTY), ("non", 2, NON_SPEAKER), ("pseudo", 0, PSEUDO)]
)
def test_padding_is_what_the_model_says(padding, absent, rest):
    slots = given(Model(slots=8, padding=padding), empty=0.0, mask_prob=0.0)
    assert {0, 1, 3} < set(slots.slots.tolist())
    assert len({2, 4} & set(slots.slots.tolist())) == absent
    assert (slots.slots[4 + absent :] == rest).all()
    silent = slots.activity[4:]
    assert np.isnan(silent[absent:]).all() if padding == "mask" else not silent.any()


def test_half_of_the_padding_are_absent_speakers():
    spoken = np.concatenate([SPOKEN, np.zeros((20, 4), np.float32)])
    loss = Loss(empty=0.0, mask_prob=0.0)
    slots = assign(spoken, np.ones(25, bool), Model(slots=12, padding="non"), loss, default_rng(0)).slots
    assert ((slots >= 0).sum(), (slots == NON_SPEAKER).sum()) == (3 + 4, 4)


def test_of_known_speakers_alone_the_rest_has_no_labels():
    slots = given(Model(slots=8, padding="pseudo"), labelled="speakers", empty=0.0, mask_prob=1.0)
    assert np.isfinite(slots.activity).any(1).tolist() == [True] * 3 + [False] * 5


def test_it_is_a_function_of_the_generators_key():
    one, again, other = given(seed=4), given(seed=4), given(seed=6)
    np.testing.assert_array_equal(one.slots, again.slots)
    np.testing.assert_array_equal(one.activity, again.activity)
    assert one.slots.tolist() != other.slots.tolist()
