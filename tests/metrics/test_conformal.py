"""Split conformal intervals against those of crepes 0.9.1, and what they cover."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import erf

from affect.errors import AffectError
from affect.metrics.conformal import Intervals, calibrate, coverage, fewest


def calibration() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return predictions, labels, spreads and groups of 60 rows."""
    random = np.random.default_rng(7)
    prediction = np.round(random.uniform(1, 5, 60), 2)
    spread = np.round(random.uniform(0.2, 1, 60), 2)
    target = np.round(prediction + spread * random.normal(size=60), 2)
    return prediction, target, spread, ["abc"[k % 3] for k in range(60)]


NEW, SPREADS = [1.5, 3.0, 4.8], [0.3, 0.5, 0.9]


@pytest.mark.parametrize(
    ("level", "plain", "normalised", "by_group"),
    [
        (0.8, [(1.0, 2.27), (2.23, 3.77), (4.03, 5.0)], [(1.1182, 1.8818), (2.3636, 3.6364), (3.6545, 5.0)],
         [(1.0, 2.2), (2.13, 3.87), (3.96, 5.0)]),
        (0.9, [(1.0, 2.53), (1.97, 4.03), (3.77, 5.0)], [(1.0355, 1.9645), (2.2258, 3.7742), (3.4065, 5.0)],
         [(1.0, 2.53), (1.9, 4.1), (3.49, 5.0)]),
        (0.95, [(1.0, 2.81), (1.69, 4.31), (3.49, 5.0)], [(1.0, 2.028), (2.12, 3.88), (3.216, 5.0)],
         [(1.0, 2.6), (1.62, 4.38), (3.48, 5.0)]),
    ],
)  # fmt: skip
def test_intervals_are_those_of_crepes(level, plain, normalised, by_group) -> None:
    """ConformalRegressor().fit(residuals, sigmas, bins).predict_int(..., y_min=1, y_max=5)."""
    x, y, spread, groups = calibration()
    assert calibrate(x, y, level, scale=(1, 5))(NEW) == pytest.approx(np.array(plain), abs=1e-9)
    found = calibrate(x, y, level, spread=spread, scale=(1, 5))(NEW, spread=SPREADS)
    assert found == pytest.approx(np.array(normalised), abs=1e-4)
    found = calibrate(x, y, level, groups=groups, scale=(1, 5))(NEW, groups=["a", "b", "c"])
    assert found == pytest.approx(np.array(by_group), abs=1e-9)


@pytest.mark.parametrize(("level", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.995, 199)])
def test_the_fewest_rows_have_their_largest_error_and_fewer_are_refused(level, rows) -> None:
    """Crepes gives [-inf, inf] for 9 rows at .9: its product is not rounded."""
    assert fewest(level) == rows
    errors = np.arange(1.0, rows + 1)
    assert calibrate(np.zeros(rows), errors, level)([0.0]).tolist() == [[-rows, rows]]
    with pytest.raises(
        AffectError, match=f"of {100 * level:g} % needs {rows} calibration rows with a label, not {rows - 1}$"
    ):
        calibrate(np.zeros(rows), [*errors[1:], np.nan], level)


def test_unseen_groups_and_small_ones_have_the_width_of_all_rows() -> None:
    x, y, _, groups = calibration()
    groups[0] = "small"
    found = calibrate(x, y, groups=groups)
    assert sorted(found.groups) == ["a", "b", "c"]
    bounds = found([3.0, 3.0, 3.0], groups=["unseen", "small", "a"])
    assert bounds[0].tolist() == bounds[1].tolist() == [3 - found.half_width, 3 + found.half_width]
    assert bounds[2].tolist() == [3 - found.groups["a"], 3 + found.groups["a"]]


def test_missing_labels_are_left_out() -> None:
    x, y, spread, groups = calibration()
    holes = y.copy()
    holes[::4] = np.nan
    there = ~np.isnan(holes)
    some = calibrate(x, holes, 0.8, groups=groups, spread=spread)
    wanted = calibrate(x[there], y[there], 0.8, groups=list(np.array(groups)[there]), spread=spread[there])
    assert some == wanted
    assert some.rows == 45
    sources = ["left out" if k % 4 == 0 else str(k % 3) for k in range(60)]
    assert calibrate(x, holes, 0.8, sources=sources).sources == 3


def test_it_is_stored_as_json() -> None:
    x, y, spread, groups = calibration()
    for found in (calibrate(x, y, groups=groups, spread=spread, scale=(1, 5)), calibrate(x, y)):
        assert Intervals.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_is_a_share(level) -> None:
    with pytest.raises(AffectError, match="the level of an interval lies between 0 and 1"):
        calibrate([0.0] * 50, [1.0] * 50, level)


@pytest.mark.parametrize("spread", [None, [0.0, 1.0, 1.0], [np.nan, 1.0, 1.0], [1.0, 1.0]])
def test_a_spread_that_is_no_positive_number_is_refused(spread) -> None:
    x, y, spreads, _ = calibration()
    normalised = calibrate(x, y, spread=spreads)
    with pytest.raises(AffectError, match="normalised intervals need a positive spread of each of 3 rows"):
        normalised(NEW, spread=spread)
    if spread is not None:
        with pytest.raises(AffectError, match="normalised intervals need a positive spread"):
            calibrate(NEW, NEW, 0.5, spread=spread)


# What they cover


def test_coverage_is_the_share_of_labels_inside() -> None:
    bounds = [(1, 2), (1, 2), (1, 2), (1, 2)]
    assert coverage(bounds, [1, 2.1, 1.5, np.nan]) == pytest.approx(2 / 3)
    assert math.isnan(coverage(bounds[:1], [np.nan]))


@pytest.mark.parametrize(("groups", "mean", "low"), [(5, 0.869, 0.744), (20, 0.887, 0.810), (200, 0.901, 0.860)])
def test_what_a_level_of_90_covers_over_groups(groups, mean, low) -> None:
    """200 rows whose groups' share of the error has twice the noise's deviation: few groups cover less."""
    random = np.random.default_rng(0)
    covered = []
    for _ in range(1500):
        errors = 2 * random.normal(size=groups).repeat(200 // groups) + random.normal(size=200)
        width = calibrate(np.zeros(200), errors).half_width
        covered.append(erf(width / math.sqrt(5) / math.sqrt(2)))
    assert np.mean(covered) == pytest.approx(mean, abs=0.012)
    assert np.quantile(covered, 0.1) == pytest.approx(low, abs=0.02)


def test_each_group_is_covered_by_its_own_width_and_not_by_that_of_all() -> None:
    random = np.random.default_rng(1)
    groups = np.array(["quiet", "loud"])[np.arange(4000) % 2]
    target = random.normal(0, np.where(groups == "loud", 2.0, 0.5))
    zeros = np.zeros(2000)
    own = calibrate(zeros, target[:2000], groups=list(groups[:2000]))(zeros, groups=list(groups[2000:]))
    same = calibrate(zeros, target[:2000])(zeros)
    loud = groups[2000:] == "loud"
    for part in (loud, ~loud):
        assert coverage(own[part], target[2000:][part]) == pytest.approx(0.9, abs=0.03)
    assert coverage(same[loud], target[2000:][loud]) < 0.84
    spread = np.where(groups == "loud", 2.0, 0.5)
    wide = calibrate(zeros, target[:2000], spread=spread[:2000])(zeros, spread=spread[2000:])
    assert coverage(wide[loud], target[2000:][loud]) == pytest.approx(0.9, abs=0.03)
