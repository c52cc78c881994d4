from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.metrics.paired import EXACT, sign_flip

differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=1, max_size=9)


def scipys(values: np.ndarray, draws: float = np.inf) -> float:
    return float(
        scipy.stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=draws, rng=np.random.default_rng(0)
        ).pvalue
    )


@pytest.mark.parametrize("size", [2, 5, 6, 11])
@pytest.mark.parametrize("shift", [0.0, 0.5, -1.5])
def test_the_exact_test_is_scipys(size: int, shift: float) -> None:
    values = np.random.default_rng(size).normal(shift, 1, size)
    assert sign_flip(values) == pytest.approx(scipys(values), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(differences)
def test_all_choices_of_signs_count(values: list[float]) -> None:
    """By whole numbers, so that no tie is lost to rounding."""
    whole = [round(1000 * value) for value in values]
    sums = [
        abs(sum(s * v for s, v in zip(signs, whole, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(whole))
    ]
    assert sign_flip(values) == sum(total >= abs(sum(whole)) for total in sums) / len(sums)


@settings(max_examples=60, deadline=None)
@given(differences, st.floats(1e-3, 1e3), st.randoms())
def test_direction_unit_and_order_do_not_matter(values: list[float], unit: float, random) -> None:
    p = sign_flip(values)
    assert 2.0 ** (1 - len(values)) <= p <= 1
    assert sign_flip([-value for value in values]) == p
    assert sign_flip([unit * value for value in values]) == p
    assert sign_flip(random.sample(values, len(values))) == p


def test_six_alike_are_the_fewest_below_a_twentieth() -> None:
    assert sign_flip([0.01] * 6) == 2 / 64
    assert sign_flip([0.01] * 5) == 2 / 32
    assert sign_flip([0.0] * 4) == 1.0
    assert sign_flip([1e300] * 6) == 2 / 64
    assert sign_flip([1e-300] * 6) == 2 / 64


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6])
def test_beyond_sixteen_signs_are_drawn(shift: float) -> None:
    values = np.random.default_rng(1).normal(shift, 1, EXACT + 1)
    p = sign_flip(values)
    exact = scipys(values)  # all 2^17
    assert p == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 100_000) + 2e-5)
    assert p == sign_flip(values)
    assert p != sign_flip(values, seed=1)


def test_draws_never_give_nought() -> None:
    assert sign_flip([1.0] * 40, draws=999) == 1 / 1000
    assert sign_flip(np.r_[np.ones(412), -np.ones(412)], draws=500) == 1.0


def test_chance_alone_is_found_as_often_as_the_level_says() -> None:
    random = np.random.default_rng(0)
    found = np.mean([sign_flip(random.normal(0, 1, 8)) <= 0.05 for _ in range(2000)])
    assert 0.03 < found < 0.065


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [[1.0]]])
def test_bad_input_is_refused(bad) -> None:
    with pytest.raises(ValueError, match="one or more finite numbers"):
        sign_flip(bad)
