from __future__ import annotations

import audmetric
import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affect.metrics.regression import ccc, mse, pearson, rmse

values = st.floats(-1e3, 1e3, allow_nan=False, width=32)
pairs = st.integers(2, 30).flatmap(lambda n: st.tuples(arrays(np.float64, n, elements=values),
                                                       arrays(np.float64, n, elements=values)))  # fmt: skip


def sample(seed: int, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    target = random.normal(3, 0.8, size).round(1)
    return 0.6 * target + random.normal(1, 0.5, size), target


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_audmetric_and_scipy(seed: int) -> None:
    prediction, target = sample(seed)
    assert ccc(prediction, target) == pytest.approx(audmetric.concordance_cc(target, prediction), abs=1e-12)
    assert pearson(prediction, target) == pytest.approx(scipy.stats.pearsonr(prediction, target)[0], abs=1e-12)
    assert rmse(prediction, target) == pytest.approx(np.sqrt(audmetric.mean_squared_error(target, prediction)))
    assert mse(prediction, target) == pytest.approx(audmetric.mean_squared_error(target, prediction))


def test_ccc_by_hand() -> None:
    # Means 7/3 and 2, variances 14/9 and 2/3, covariance 1.
    assert ccc([1, 2, 4], [1, 2, 3]) == pytest.approx(2 / (14 / 9 + 2 / 3 + 1 / 9))
    assert ccc([1, 2, 3], [1, 2, 3]) == 1.0
    assert ccc([3, 2, 1], [1, 2, 3]) == -1.0


def test_missing_targets_are_left_out() -> None:
    prediction, target = sample(0)
    known = np.arange(len(target)) % 3 != 0
    masked = np.where(known, target, np.nan)
    for score in (ccc, pearson, rmse, mse):
        assert score(prediction, masked) == score(prediction[known], target[known])
        assert score(prediction, masked) != score(prediction, target)


@pytest.mark.parametrize("score", [ccc, pearson])
def test_what_is_not_defined_is_not_a_number(score) -> None:
    target = np.arange(7.0)
    assert np.isnan(score(target, np.full(7, 0.1))), "labels that are all the same"
    assert np.isnan(score(np.full(7, 0.1), np.full(7, 0.1)))
    for prediction, labels in (([1.0], [2.0]), ([], []), ([1.0, 2.0], [np.nan, 3.0])):
        assert np.isnan(score(prediction, labels)), "fewer than two labels"


def test_constant_predictions_of_labels_that_differ() -> None:
    """Lin's formula is 0; Pearson's divides by a spread that is not there."""
    assert ccc(np.full(7, 0.1), np.arange(7.0)) == 0.0
    assert np.isnan(pearson(np.full(7, 0.1), np.arange(7.0)))


def test_the_error_of_no_example_is_not_perfect() -> None:
    for score in (rmse, mse):
        assert np.isnan(score([1.0], [np.nan]))


@pytest.mark.parametrize("score", [ccc, pearson, rmse, mse])
def test_bad_input_is_refused(score) -> None:
    with pytest.raises(ValueError, match="1 of 3 predictions are not finite, the first at 1"):
        score([1.0, np.nan, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="1 of 2 predictions"):  # even where no label is known
        score([1.0, np.inf], [1.0, np.nan])
    with pytest.raises(ValueError, match="targets are not finite"):
        score([1.0, 2.0], [1.0, np.inf])
    with pytest.raises(ValueError, match="two \\[N\\] arrays"):
        score([1.0, 2.0], [[1.0], [2.0]])


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_ccc_is_symmetric_bounded_and_at_most_pearson(pair) -> None:
    x, y = pair
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    score = ccc(x, y)
    assert ccc(y, x) == pytest.approx(score, abs=1e-12)
    assert abs(score) <= abs(pearson(x, y)) + 1e-9
    assert -1 <= score <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.floats(0.01, 100), st.floats(-1e6, 1e6), st.booleans())
def test_one_affine_map_of_both_leaves_ccc(seed: int, scale: float, offset: float, flip: bool) -> None:
    prediction, target = sample(seed, 50)
    factor = -scale if flip else scale
    # An offset of 1e6 alone rounds values of spread .01 to 1e-8 of it.
    mapped = ccc(factor * prediction + offset, factor * target + offset)
    assert mapped == pytest.approx(ccc(prediction, target), abs=1e-7)
    assert abs(ccc(2 * prediction, target) - ccc(prediction, target)) > 1e-3  # a map of one side does not


def test_offsets_cost_no_digits() -> None:
    prediction, target = sample(1)
    assert ccc(prediction + 1e6, target + 1e6) == pytest.approx(ccc(prediction, target), abs=1e-9)
    assert pearson(prediction + 1e6, target) == pytest.approx(pearson(prediction, target), abs=1e-9)
    assert ccc(prediction * 1e-200, target * 1e-200) == pytest.approx(ccc(prediction, target), abs=1e-12)
