"""Weights that follow the terms' values, against the numbers of their papers' code (talking_face_measured, 5)."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.losses.weighting import FAMO, DynamicWeightAverage, RandomLossWeighting
from affect.task import Term, Weighting
from affect.training.terms import whole

NAMES = ("a", "b", "c")
VALUES = st.dictionaries(st.sampled_from(NAMES), st.floats(0.0, 10.0), max_size=3)
MAKE = {"dwa": DynamicWeightAverage, "rlw": lambda: RandomLossWeighting(3), "famo": FAMO}
each = pytest.mark.parametrize("name", sorted(MAKE))


def listed(weights: dict[str, float]) -> list[float]:
    return [weights[name] for name in NAMES]


def named(values) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


# DWA


def test_dwa_is_that_of_the_public_code():
    """Losses of three tasks over four epochs; each epoch's mean is taken over its steps."""
    losses = [[1, 0.8, 0.6, 0.5], [2, 1.9, 1.5, 1.2], [0.5, 0.1, 0.2, 0.2]]
    # The ratios of an epoch's weights are of the two epochs before it.
    wanted = {
        0: [1, 1, 1], 1: [1, 1, 1], 2: [1.064320, 1.147213, 0.788467], 3: [0.771569, 0.786949, 1.441481],
    }  # fmt: skip
    weighting = DynamicWeightAverage()
    for epoch in range(4):
        found = weighting.weights(NAMES, epoch)
        assert listed(found) == pytest.approx(wanted[epoch], abs=1e-6)
        assert sum(found.values()) == pytest.approx(3)
        for part in (0.5, 1.5):
            weighting.observe(named(part * row[epoch] for row in losses), epoch)


@pytest.mark.parametrize("last", [{"a": 0.5, "b": 1.0}, {"a": 0.5, "b": 1.0, "c": 3.0}])
def test_a_term_without_a_ratio_makes_no_other_weight_nan(last):
    """In the public code a loss of 0, or one that is missing, makes all weights NaN."""
    weighting = DynamicWeightAverage()
    for epoch, values in enumerate(({"a": 1.0, "b": 1.0, "c": 0.0}, last)):
        weighting.observe(values, epoch)
    found = weighting.weights(NAMES, 2)
    shares = np.exp(np.array([0.5, 1.0]) / 2)
    assert listed(found) == pytest.approx([*(2 * shares / shares.sum()), 1.0])


# RLW


def test_rlw_weighs_as_the_public_code(monkeypatch):
    """K times its weights, of torch's numbers of seed 0."""
    torch_numbers = torch.Generator().manual_seed(0)
    drawn = SimpleNamespace(standard_normal=lambda count: torch.randn(count, generator=torch_numbers).numpy())
    monkeypatch.setattr(np.random, "default_rng", lambda _: drawn)
    weighting = RandomLossWeighting(0)
    for wanted in ((0.844634, 0.134893, 0.020473), (0.751114, 0.143826, 0.105060), (0.348444, 0.538161, 0.113395)):
        assert listed(weighting.weights(NAMES, 0)) == pytest.approx([3 * share for share in wanted], abs=3e-6)


def test_rlw_is_a_softmax_of_normal_numbers():
    names = [str(k) for k in range(5)]
    weighting, drawn = RandomLossWeighting(0), []
    for _ in range(4000):
        found = weighting.weights(names, 0)
        assert list(found) == names
        assert sum(found.values()) == pytest.approx(5)
        drawn.append(np.array(list(found.values())) / 5)
        weighting.observe({}, 0)
    shares = np.array(drawn)
    assert shares.min() > 0
    assert shares.std() == pytest.approx(0.163, abs=0.006)
    assert (shares.max(1) > 0.5).mean() == pytest.approx(0.33, abs=0.03)


def test_rlw_is_a_function_of_seed_and_step():
    def drawn(seed: int, steps: int = 3) -> list[list[float]]:
        weighting, found = RandomLossWeighting(seed), []
        for _ in range(steps):
            found.append(listed(weighting.weights(NAMES, 0)))
            assert listed(weighting.weights(NAMES, 0)) == found[-1], "asked twice for one step: a step may be repeated"
            weighting.observe(named((1.0, 2.0, 3.0)), 0)
        return found

    assert drawn(0) == drawn(0)
    assert len({tuple(row) for seed in (0, 1) for row in drawn(seed)}) == 6


# FAMO


def test_famo_weighs_as_the_public_code():
    """z / (D c), of sum 1 there; here K of it."""
    weighting = FAMO()
    assert listed(weighting.weights(NAMES, 0)) == [1.0, 1.0, 1.0]
    weighting.observe(named((1.0, 2.0, 0.5)), 0)
    assert listed(weighting.weights(NAMES, 0)) == pytest.approx(
        [3 * x for x in (0.285714, 0.142857, 0.571429)], abs=1e-5
    )


def test_famos_w_after_each_step_is_that_of_the_public_code():
    weighting = FAMO()
    steps = [(1, 2, 0.5), (0.9, 1.5, 0.5), (0.8, 1.4, 0.6), (0.7, 1.3, 0.6)]
    wanted = [
        (0, 0, 0), (0.025, -0.025, 0.025), (0.010327, -0.047678, 0.049858), (-0.007230, -0.065713, 0.072970),
    ]  # fmt: skip
    for values, w in zip(steps, wanted, strict=True):
        weighting.observe(named(map(float, values)), 0)
        assert [weighting.logits(name) for name in NAMES] == pytest.approx(w, abs=2e-6)


def test_a_term_that_is_absent_leaves_famos_other_weights_alone():
    """As a loss of 0 it would take all the weight and leave the others 1e-8 (the public code)."""
    with_it, without = FAMO(), FAMO()
    for values in ((1.0, 2.0), (0.9, 1.5), (0.8, 1.4)):
        for weighting in (with_it, without):
            weighting.observe(dict(zip("ab", values, strict=True)), 0)
    found = with_it.weights(NAMES, 0)
    assert {name: found[name] for name in "ab"} == pytest.approx(without.weights("ab", 0))
    assert found["c"] == 1.0
    assert all(0.1 < found[name] < 10 for name in "ab")
    with_it.observe({"a": 0.7, "b": 1.3, "c": 0.5}, 0)
    without.observe({"a": 0.7, "b": 1.3}, 0)
    assert with_it.logits("c") == 0.0, "its first value says nothing of how it falls"
    assert [with_it.logits(name) for name in "ab"] == [without.logits(name) for name in "ab"]


@each
def test_those_who_take_part_share_the_weight(name):
    """Three tasks of which one has no label in a batch: the others weigh 2 and not what three would leave them."""
    weighting = MAKE[name]()
    for epoch, values in enumerate(((1.0, 2.0, 0.5), (0.9, 1.5, 0.2), (0.8, 1.4, 0.1))):
        weighting.observe(named(values), epoch)
    for there in (NAMES, ("a", "b"), ("b",)):
        found = weighting.weights(there, 3)
        assert tuple(found) == there
        assert sum(found.values()) == pytest.approx(len(there))


# Uncertainty


def test_uncertainty_is_twice_the_reference():
    """Sum of L / (2 e^s) + s / 2 for L = 1, 2, .5 and s = -.5 there; e^-s L + s here, where s = log L is best, too."""
    values = torch.tensor([1.0, 2.0, 0.5], requires_grad=True)
    level = torch.full((3,), -0.5, requires_grad=True)
    terms = [
        Term(name=name, outputs=(name,), value=lambda outputs, _, name=name: outputs[name].mean(), log_variance=k)
        for k, name in enumerate(NAMES)
    ]
    outputs = {name: values[k].expand(2) for k, name in enumerate(NAMES)}
    total = whole(terms, {**outputs, "log_variance": level.expand(2, -1)}, {}).total
    total.backward()
    assert float(total.detach()) / 2 == pytest.approx(2.135262, abs=1e-6)
    assert (level.grad / 2).tolist() == pytest.approx([-0.324361, -1.148721, 0.087820], abs=1e-6)
    assert (values.grad / 2).tolist() == pytest.approx([0.824361] * 3, abs=1e-6)
    with torch.no_grad():
        level.copy_(values.log())
    level.grad = None
    whole(terms, {**outputs, "log_variance": level.expand(2, -1)}, {}).total.backward()
    assert level.grad.tolist() == pytest.approx([0, 0, 0], abs=1e-6)


# All of them


@each
@settings(max_examples=25, deadline=None)
@given(st.lists(VALUES, max_size=12), st.integers(0, 12))
def test_weights_are_positive_numbers_and_go_on_from_their_state(name, steps, cut):
    """Whatever terms take part in which steps; the state goes through JSON, as a checkpoint's does."""
    weighting: Weighting = MAKE[name]()
    for k, values in enumerate(steps):
        if k == cut:
            text = json.dumps(weighting.state())
            weighting = MAKE[name]()
            weighting.load(json.loads(text))
            assert json.dumps(weighting.state()) == text, "to the byte"
        again = MAKE[name]()
        again.load(json.loads(json.dumps(weighting.state())))
        found = weighting.weights(NAMES, k // 3)
        assert again.weights(NAMES, k // 3) == found
        assert list(found) == list(NAMES)
        assert all(math.isfinite(weight) and weight >= 0 for weight in found.values())
        assert sum(found.values()) == pytest.approx(3)
        weighting.observe(values, k // 3)


@each
def test_one_term_keeps_its_weight(name):
    weighting: Weighting = MAKE[name]()
    for epoch in range(4):
        assert weighting.weights(["a"], epoch) == pytest.approx({"a": 1.0})
        weighting.observe({"a": 2.0 / (epoch + 1)}, epoch)
