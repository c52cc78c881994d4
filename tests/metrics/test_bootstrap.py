from __future__ import annotations

import time

import numpy as np
import pytest

from affect.metrics.bootstrap import percentiles, replicates, replicates_mean
from affect.metrics.regression import ccc
from tests.resampling import interval


def corpus(seed: int, groups: int = 40, each: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return groups, predictions and targets; error and label share a part within a group."""
    random = np.random.default_rng(seed)
    index = np.repeat(np.arange(groups), each)
    target = random.normal(0, 1, groups)[index] + random.normal(0, 0.5, groups * each)
    error = random.normal(0, 0.8, groups)[index] + random.normal(0, 0.3, groups * each)
    return index, target + error, target


def test_sums_of_groups_equal_resampled_rows() -> None:
    index, prediction, target = corpus(0)
    target[::5] = np.nan
    names = np.array([f"dialogue{i}" for i in index])
    fast = percentiles(replicates(names, prediction, target, n=200, seed=3))
    assert fast == pytest.approx(interval(ccc, names, prediction, target, n=200, seed=3), abs=1e-12)
    assert fast != percentiles(replicates(names, prediction, target, n=200, seed=4))
    shifted = percentiles(replicates(names, prediction + 1e6, target + 1e6, n=200, seed=3))
    assert shifted == pytest.approx(fast, abs=1e-8)
    error = np.abs(prediction - target)
    means = percentiles(replicates_mean(names, error, n=200, seed=3))
    assert means == pytest.approx(interval(np.nanmean, names, error, n=200, seed=3), abs=1e-12)


def test_a_large_offset_between_the_sides_is_kept() -> None:
    index, prediction, target = corpus(0)
    samples = replicates(index, prediction + 1e6, target, n=50)
    assert np.abs(samples).max() < 1e-10


def test_the_interval_covers_the_truth_and_one_over_rows_does_not() -> None:
    # Moments of `corpus`: var(target) 1.25, var(prediction) 1.25 + .73, covariance 1.25.
    truth = 2 * 1.25 / (1.25 + 1.98)
    covered = {"groups": 0, "rows": 0}
    for seed in range(200):
        index, prediction, target = corpus(seed)
        for name, units in (("groups", index), ("rows", np.arange(len(index)))):
            low, high = percentiles(replicates(units, prediction, target, n=300, seed=seed))
            covered[name] += low <= truth <= high
    assert 0.86 <= covered["groups"] / 200 <= 0.99
    assert covered["rows"] / 200 < 0.75


def test_replicates_of_two_systems_are_paired() -> None:
    index, prediction, target = corpus(1)
    worse = prediction + 0.2 * np.sin(np.arange(len(index)))
    difference = replicates(index, prediction, target) - replicates(index, worse, target)
    alone = percentiles(replicates(index, prediction, target))
    low, high = percentiles(difference)
    assert low > 0
    assert high - low < 0.2 * (alone[1] - alone[0])


def test_groups_without_a_label_keep_the_drawing() -> None:
    index, prediction, target = corpus(2)
    gone = np.where(index < 5, np.nan, target)
    same = replicates(index, prediction, gone, n=50)
    assert same.shape == (50,)
    assert not np.allclose(same, replicates(index[index >= 5], prediction[index >= 5], target[index >= 5], n=50))
    assert np.isnan(replicates(index, prediction, np.full(len(index), np.nan), n=5)).all()


def test_constant_predictions_give_nought() -> None:
    index, _, target = corpus(3)
    assert not replicates(index, np.full(len(index), 0.1), target, n=100).any()


def test_a_thousand_resamples_of_ten_thousand_take_milliseconds() -> None:
    index, prediction, target = corpus(5, groups=150, each=67)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        percentiles(replicates(index, prediction, target))
        took.append(time.perf_counter() - start)
    assert min(took) < 0.1  # measured: .01 s


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        replicates(["a", "a"], [1.0, 2.0], [1.0, 3.0])
    with pytest.raises(ValueError, match="arrays of length"):
        replicates(["a", "b"], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    with pytest.raises(ValueError, match="not finite"):
        replicates(["a", "b"], [1.0, np.nan], [1.0, 3.0])


def test_resamples_whose_labels_are_all_the_same_have_no_score() -> None:
    """0 would pull the interval of a good model towards a bad one."""
    index, target = np.arange(4), np.array([1.0, 1.0, 1.0, 3.0])
    samples = replicates(index, target, target, n=200)
    assert 0 < np.isnan(samples).sum() < 200
    assert samples[~np.isnan(samples)] == pytest.approx(1.0)
