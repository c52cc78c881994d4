"""Costs: what a micro-batch takes, and the fit of three numbers to timed shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.training.costs import Costs, fit

SHAPES = [(1, 2.0), (1, 4.5), (4, 2.0), (1, 9.0), (1, 30.0), (4, 4.5), (2, 9.0), (12, 2.0)]


def timed(true: Costs) -> list[tuple[int, float, float]]:
    return [(rows, longest, true.micro(rows, longest)) for rows, longest in SHAPES]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 0.1), st.floats(0.001, 0.1), st.floats(0.0, 0.01))
def test_the_fit_finds_the_costs_that_made_the_times(start, second, square):
    true = Costs(start, second, square)
    found, error = fit(timed(true))
    assert error < 1e-6
    for shape in SHAPES:
        assert found.micro(*shape) == pytest.approx(true.micro(*shape), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-4, 10.0), min_size=len(SHAPES), max_size=len(SHAPES)))
def test_no_cost_is_below_zero_whatever_was_timed(seconds):
    found, error = fit([(*shape, took) for shape, took in zip(SHAPES, seconds, strict=True)])
    assert min(found.stored()) >= 0
    assert np.isfinite([*found.stored(), error]).all()


@pytest.mark.parametrize("outlier", range(len(SHAPES)))
def test_one_shape_that_was_disturbed_moves_the_others_little(outlier):
    true = Costs(0.018, 0.012, 0.0009)
    samples = timed(true)
    rows, longest, took = samples[outlier]
    samples[outlier] = (rows, longest, 5 * took)
    found, error = fit(samples)
    assert error < 0.05
    assert [found.micro(*s) for s in SHAPES] == pytest.approx([true.micro(*s) for s in SHAPES], rel=0.1)


def test_a_few_percent_of_noise_stay_a_few_percent():
    true, random = Costs(0.018, 0.012, 0.0009), np.random.default_rng(0)
    samples = [(rows, longest, took * random.uniform(0.97, 1.03)) for rows, longest, took in timed(true)]
    found, error = fit(samples)
    assert 0 < error < 0.03
    assert found.micro(3, 6.0) == pytest.approx(true.micro(3, 6.0), rel=0.05)


def test_what_is_stored_is_read():
    costs = Costs(0.1, 0.2, 0.0)
    assert Costs.read(costs.stored()) == Costs.read([*costs.stored()]) == costs
    for wrong in (None, [1.0, 2.0], [1.0, 2.0, -1.0], [1.0, 2.0, "3"], [1.0, 2.0, float("nan")], {"start": 1}):
        with pytest.raises(ValueError, match="costs are"):
            Costs.read(wrong)


def test_rows_never_cost_nothing():
    lengths = np.array([4.0, 2.0])
    assert Costs(0.1, 0.5, 0.25).rows(lengths).tolist() == [6.0, 2.0]
    assert (Costs(0.1, 0.0, 0.0).rows(lengths) > 0).all()
    assert (Costs(0.0, 0.0, 0.0).rows(lengths) > 0).all()


def test_the_costs_in_words():
    words = Costs(0.01769, 0.012, 0.000894).words("s of audio")
    assert words == ("a micro-batch costs 17.7 ms + 12 ms per padded s of audio + 0.894 ms per row and square of it")
