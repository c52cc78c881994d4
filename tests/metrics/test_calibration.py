from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.metrics.calibration import expected_calibration_error


def sample(seed: int, size: int = 200, classes: int = 6, sharp: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = sharp * random.normal(0, 1, (size, classes))
    rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return rows, random.integers(0, classes, size)


def by_definition(rows: np.ndarray, target: np.ndarray, bins: int) -> float:
    """Return the ECE, each bin and each row in turn."""
    expected = 0.0
    for m in range(bins):
        inside = [i for i, row in enumerate(rows) if m / bins < max(row) <= (m + 1) / bins]
        if inside:
            accuracy = sum(list(rows[i]).index(max(rows[i])) == target[i] for i in inside) / len(inside)
            expected += abs(accuracy - sum(max(rows[i]) for i in inside) / len(inside)) * len(inside) / len(rows)
    return expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 20), st.floats(0.1, 5))
def test_errors_are_those_of_the_definition(seed: int, size: int, bins: int, sharp: float) -> None:
    rows, target = sample(seed, size, sharp=sharp)
    error = expected_calibration_error(rows, target, bins)
    assert error == pytest.approx(by_definition(rows, target, bins))
    assert 0 <= error <= 1


def test_by_hand() -> None:
    rows = [[0.7, 0.3], [0.6, 0.4], [0.2, 0.8], [1.0, 0.0]]
    target = [0, 1, 1, 0]
    # Bins of a quarter: .7 and .6 (one right), .8 and 1.0 (both right).
    assert expected_calibration_error(rows, target, 4) == pytest.approx(0.5 * 0.15 + 0.5 * 0.1)
    # A confidence on a bound belongs to the bin below it: apart from .6 there, beside it here.
    assert expected_calibration_error([[0.5, 0.5], [0.6, 0.4]], [0, 1], 2) == pytest.approx(0.5 * 0.5 + 0.5 * 0.6)
    # Fifteen bins unless told: .7 lies in (10/15, 11/15], .6 on the bound of (8/15, 9/15].
    assert expected_calibration_error(rows, target) == pytest.approx((0.3 + 0.6 + 0.2 + 0.0) / 4)


def test_predictions_right_as_often_as_they_say_have_no_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 20_000)
    rows = np.stack([confidence, 1 - confidence], axis=1)
    target = (random.random(20_000) > confidence).astype(int)
    assert expected_calibration_error(rows, target) < 0.02
    sure = np.eye(2)[np.zeros(20_000, int)]
    assert expected_calibration_error(sure, target) == pytest.approx(target.mean())


def test_missing_labels_are_left_out() -> None:
    rows, target = sample(0)
    gone = np.arange(200) % 3 == 0
    rows[gone] = np.nan
    masked = np.where(gone, -100, target)
    assert expected_calibration_error(rows, masked) == expected_calibration_error(rows[~gone], target[~gone])
    assert math.isnan(expected_calibration_error(rows, np.full(200, -1)))
    assert math.isnan(expected_calibration_error(np.zeros((0, 6)), np.zeros(0, int)))


def test_probabilities_a_little_off_are_taken() -> None:
    assert expected_calibration_error([[1.0004, 0.0], [0.4996, 0.5]], [0, 0]) == pytest.approx(0.25)


def test_bad_input_is_refused() -> None:
    for rows, message in (([[2.0, 1.0]], "1 of 1 rows are no probabilities, the first at 0"),
                          ([[1.5, -0.5]], "no probabilities"), ([[math.nan, 1.0]], "no probabilities"),
                          ([[0.5, 0.5], [0.5, 0.5]], "not \\(2, 2\\) and \\(1,\\)")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            expected_calibration_error(rows, [0])
