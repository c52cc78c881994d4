"""Scores of quality prediction against scipy, reference numbers and resamples row by row."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kendalltau, spearmanr

from affect.metrics import measures, quality
from affect.metrics.bootstrap import draws, percentiles
from affect.metrics.logistic import fit
from affect.metrics.quality import krcc, plcc, rmse_fitted, srcc, within_plcc, within_srcc
from affect.metrics.regression import pearson, rmse
from affect.task import measured
from tests.resampling import interval

SCORES = (srcc, krcc, plcc, rmse_fitted)
WITHIN = (measures.within_srcc, measures.within_plcc)
POINTS = np.linspace(-2, 2, 21)
BENT = np.round(1 + 4 / (1 + np.exp(-(POINTS - 0.3) / 0.5)) + 0.3 * np.sin(1.7 * np.arange(21)), 3)


def corpus(seed: int, rows: int = 160, r: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return groups (10), predictions and labels with ties on 0 to 100, a fifth of the labels missing."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=rows)
    prediction = 50 + 20 * (r * truth + math.sqrt(1 - r * r) * random.normal(size=rows))
    target = np.round(np.clip(3 + truth, 1, 5), 1)
    target[random.random(rows) < 0.2] = np.nan
    return np.arange(rows) % 10, np.round(prediction), target


def curve(x, b1, b2, b3, b4):
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / abs(b4)))


# Correlations of ranks


def test_rank_correlations_are_scipys_over_what_is_labelled() -> None:
    for seed in range(5):
        _, x, y = corpus(seed)
        there = ~np.isnan(y)
        assert srcc(x, y) == pytest.approx(spearmanr(x[there], y[there]).statistic, abs=1e-12)
        assert krcc(x, y) == pytest.approx(kendalltau(x[there], y[there]).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "spearman", "kendall"),
    [
        ([0, 0, 0, 0, 1], [1, 2, 3, 4, 5], 0.707107, 0.632456),
        ([1, 1, 1, 1, 2, 3], [1, 1, 1, 1, 2, 3], 1.0, 1.0),
        ([1, 3, 2, 7], [1, 3, 5, 4], 0.4, 0.333333),
        (POINTS, BENT, 0.964935, 0.866667),
        ([1, 2], [3, 4], 1.0, 1.0),
    ],
)
def test_reference_values_of_rank_correlations(x, y, spearman, kendall) -> None:
    """Tau-b: tau-c of the second row would be .75."""
    assert srcc(x, y) == pytest.approx(spearman, abs=1e-6)
    assert krcc(x, y) == pytest.approx(kendall, abs=1e-6)
    assert srcc(np.negative(x), y) == pytest.approx(-spearman, abs=1e-6)


@pytest.mark.parametrize(
    ("x", "y"),
    [([], []), ([1.0], [1.0]), ([2.0] * 12, list(range(12))), (list(range(12)), [2.0] * 12), ([1, 2, 3], [np.nan] * 3)],
)
def test_what_is_not_defined_is_nan_without_a_warning(x, y) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(math.isnan(score(x, y)) for score in SCORES)
        assert all(math.isnan(within(x, y, ["a"] * len(x))) for within in (within_srcc, within_plcc))


@pytest.mark.parametrize("score", SCORES)
def test_bad_predictions_are_refused(score) -> None:
    with pytest.raises(ValueError, match="1 of 12 predictions are not finite"):
        score([np.nan, *range(11)], range(12))


def test_within_a_kind_is_the_mean_over_kinds_by_their_size() -> None:
    """Predictions that know the kind and nothing else: high over all, nothing within."""
    kinds = np.repeat(["a", "b", "c", ""], [20, 10, 1, 6])
    random = np.random.default_rng(0)
    y = np.where(kinds == "a", 1.0, 4.0) + random.normal(0, 0.3, 37)
    x = np.where(kinds == "a", 0.0, 9.0) + random.normal(0, 0.3, 37)
    a, b = (srcc(x[kinds == name], y[kinds == name]) for name in "ab")
    assert within_srcc(x, y, kinds) == pytest.approx((20 * a + 10 * b) / 30)
    assert abs(within_srcc(x, y, kinds)) < 0.3 < 0.6 < srcc(x, y)
    a, b = (plcc(x[kinds == name], y[kinds == name]) for name in "ab")
    assert within_plcc(x, y, kinds) == pytest.approx((20 * a + 10 * b) / 30)
    y[:20] = np.nan
    assert within_srcc(x, y, kinds) == pytest.approx(srcc(x[20:30], y[20:30]))
    with pytest.raises(ValueError, match="two .N. arrays"):
        within_srcc(x, y, kinds[1:])


# The logistic curve


def test_reference_values_of_the_curve() -> None:
    """The reference (PLCC .979954, RMSE .291823) starts b3 at a mean of 8e-17, where differences of it are 0."""
    assert pearson(POINTS, BENT) == pytest.approx(0.965945, abs=1e-6)
    with warnings.catch_warnings(action="ignore"):
        stuck, _ = curve_fit(curve, POINTS, BENT, (BENT.max(), BENT.min(), POINTS.mean(), POINTS.std() / 4))
    assert stuck == pytest.approx([4.78153, 0.69552, 0.0, 0.55651], abs=1e-5)
    assert (pearson(curve(POINTS, *stuck), BENT), rmse(curve(POINTS, *stuck), BENT)) == pytest.approx(
        (0.979954, 0.291823), abs=1e-6
    )
    free, _ = curve_fit(curve, POINTS, BENT, (BENT.max(), BENT.min(), 0.01, POINTS.std() / 4))
    found = fit(POINTS, BENT)
    assert found.kind == "logistic"
    assert found.parameters[:2] == pytest.approx(free[:2], abs=1e-4)
    assert np.array(found.parameters[2:]) * found.spread == pytest.approx(free[2:], abs=1e-4)
    assert plcc(POINTS, BENT) == pytest.approx(0.990030, abs=1e-6)
    assert rmse_fitted(POINTS, BENT) == pytest.approx(0.206325, abs=1e-6)


def test_it_is_curve_fits_curve_where_that_converges_and_never_below_the_line() -> None:
    close = 0
    for seed in range(16):
        random = np.random.default_rng(seed)
        y = random.normal(3, 1, 60)
        x = (y - 3) * (0.5 + seed % 3) + random.normal(size=60)
        z = (x - x.mean()) / x.std()
        with warnings.catch_warnings(action="ignore"):
            b, _ = curve_fit(curve, z, y, (y.max(), y.min(), 0.0, 0.25), maxfev=20_000)
            theirs = rmse(curve(z, *b), y)
        close += rmse_fitted(x, y) < theirs * 1.001
        line = np.polyval(np.polyfit(x, y, 1), x)
        assert rmse_fitted(x, y) <= rmse(line, y) + 1e-12
        assert plcc(x, y) >= abs(pearson(x, y)) - 1e-12
    assert close >= 14, "there are other minima"


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.01, 0.0), (100.0, -1e4), (-25.0, 3.0)])
def test_the_scale_of_predictions_changes_nothing(scale, offset) -> None:
    """Its sign neither, which is why it never stands without SRCC."""
    assert plcc(scale * POINTS + offset, BENT) == pytest.approx(0.990030, abs=1e-6)
    found = fit(scale * POINTS + offset, BENT)
    assert found(scale * POINTS + offset) == pytest.approx(fit(POINTS, BENT)(POINTS), abs=1e-4)
    assert found.parameters[3] > 0
    assert (found.parameters[0] > found.parameters[1]) == (scale > 0)


def test_a_straight_relation_is_a_line_and_which_was_taken_is_said() -> None:
    x = np.arange(12.0)
    found = fit(x, 3 * x + 1)
    assert found.kind == "linear"
    assert found(x) == pytest.approx(3 * x + 1)
    assert plcc(x, 3 * x + 1) == pytest.approx(1.0)
    step = fit([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], [1, 1, 2, 1, 1, 5, 5, 4, 5, 5])
    assert step([0, 1]) == pytest.approx([1.2, 4.8])


def test_fewer_than_ten_labels_have_no_curve() -> None:
    x, y = POINTS[:12], BENT[:12].copy()
    y[:2] = np.nan
    assert 0 < plcc(x, y) <= 1
    y[2] = np.nan
    assert math.isnan(plcc(x, y))
    assert math.isnan(rmse_fitted(x, y))
    for few, labels in ((x, y), (np.ones(21), BENT)):
        with pytest.raises(ValueError, match="a curve needs 10 labelled pairs with predictions that differ"):
            fit(few, labels)


def test_resamples_are_fitted_at_once_to_scipys_optimum() -> None:
    apart = []
    for rows, r in ((160, 0.7), (320, 0.9)):
        groups, x, y = corpus(rows, rows, r)
        for often, found in zip(draws(10, 12, 0), quality.replicates_plcc(groups, x, y, n=12), strict=True):
            there = np.repeat(np.arange(rows), np.where(np.isnan(y), 0, often[groups]))
            z = (x[there] - x[there].mean()) / x[there].std()
            with warnings.catch_warnings(action="ignore"):
                b, _ = curve_fit(curve, z, y[there], (y[there].max(), y[there].min(), 0.01, 0.7), maxfev=20_000)
            apart.append(abs(found - pearson(curve(z, *b), y[there])))
    assert np.median(apart) < 1e-7
    assert max(apart) < 1e-3, "there are other minima"


def test_a_relation_that_bends_to_one_side_alone_costs_no_digits() -> None:
    """Of an exponential the share is nearly 0 everywhere: its variance must not cancel."""
    x = np.linspace(0, 4, 40)
    assert plcc(x, np.exp(x)) == pytest.approx(1.0, abs=1e-5)
    assert plcc(x, -np.exp(-2 * x) + 1e4) == pytest.approx(1.0, abs=1e-5)


def test_noise_has_a_relation_to_the_curve() -> None:
    """The facts' mean PLCC of 30 unrelated pairs is .31, of 100 .19."""
    random = np.random.default_rng(0)
    for n, low, high in ((30, 0.24, 0.38), (100, 0.13, 0.25)):
        assert low < np.mean([plcc(random.normal(size=n), random.normal(size=n)) for _ in range(20)]) < high


# Resamples


def test_resamples_are_those_row_by_row() -> None:
    groups, x, y = corpus(1, 60)
    y[groups == 3] = np.nan  # a group without a label is drawn all the same
    kinds = np.array(["a", "b", "b", "c", ""])[np.arange(60) % 5]
    for score, replicates in ((srcc, quality.replicates_srcc), (krcc, quality.replicates_krcc)):
        assert percentiles(replicates(groups, x, y, n=60, seed=2)) == pytest.approx(
            interval(score, groups, x, y, n=60, seed=2), abs=1e-12
        )
    fast = percentiles(quality.replicates_within_srcc(groups, x, y, kinds, n=60, seed=2))
    assert fast == pytest.approx(interval(within_srcc, groups, x, y, kinds, n=60, seed=2), abs=1e-12)
    for score, replicates in ((plcc, quality.replicates_plcc), (rmse_fitted, quality.replicates_rmse_fitted)):
        assert percentiles(replicates(groups, x, y, n=60, seed=2)) == pytest.approx(
            interval(score, groups, x, y, n=60, seed=2), abs=1e-6
        )
    # Enough of each kind that a fit finds one minimum from wherever it starts.
    groups, x, y = corpus(1, 500, 0.9)
    kinds = np.array(["a", "b", "b", "c", ""])[np.arange(500) // 100]
    fast = percentiles(quality.replicates_within_plcc(groups, x, y, kinds, n=60, seed=2))
    assert fast == pytest.approx(interval(within_plcc, groups, x, y, kinds, n=60, seed=2), abs=1e-5)


def test_blocks_change_nothing(monkeypatch) -> None:
    groups, x, y = corpus(2)
    whole = [f(groups, x, y, n=40) for f in (quality.replicates_srcc, quality.replicates_krcc)]
    monkeypatch.setattr(quality, "_BLOCK", 900)
    for f, wanted in zip((quality.replicates_srcc, quality.replicates_krcc), whole, strict=True):
        np.testing.assert_allclose(f(groups, x, y, n=40), wanted, atol=1e-12)


def test_resamples_that_define_nothing_are_nan() -> None:
    groups, x, y = np.arange(4) // 2, np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 2.0, 2.0])
    for replicates in (quality.replicates_srcc, quality.replicates_krcc):
        found = replicates(groups, x, y, n=200)
        assert 0.3 < np.isnan(found).mean() < 0.7, "of two groups one is drawn twice half of the time"
        none = replicates(groups, x, np.full(4, np.nan), n=5)
        assert np.isnan(none).all()
    assert np.isnan(quality.replicates_within_srcc(groups, x, y, ["", "", "", ""], n=5)).all()


def test_a_thousand_resamples_of_640_rows_take_about_a_second() -> None:
    groups, x, y = corpus(0, 640)
    for n, replicates in (
        (1000, quality.replicates_srcc),
        (1000, quality.replicates_krcc),
        (300, quality.replicates_plcc),
    ):
        replicates(groups, x, y, n=2)
        start = time.process_time()
        replicates(groups, x, y, n=n)
        assert time.process_time() - start < 1


# Measures of rows


def test_measures_are_the_functions_over_rows() -> None:
    groups, x, y = corpus(4, 60)
    kinds = np.array(["a", "b", "c"])[np.arange(60) % 3]
    rows = [
        {"id": str(k), "prediction": {"mos": float(p)}, "target": {"mos": float(t)}, "generator": str(g)}
        for k, (p, t, g) in enumerate(zip(x, y, kinds, strict=True))
    ]
    makers = (measures.srcc, measures.krcc, measures.plcc, measures.rmse_fitted, measures.mae, measures.r2)
    found = [make("mos") for make in makers] + [f("mos", "generator") for f in WITHIN]
    found.append(measures.mean("quality_mos", [measures.srcc("mos"), measures.plcc("mos")], "(SRCC + PLCC) / 2"))
    there = ~np.isnan(y)
    residual = (x - y)[there]
    assert measured(found, rows) == pytest.approx({
        "srcc_mos": srcc(x, y), "krcc_mos": krcc(x, y), "plcc_mos": plcc(x, y), "rmse_fitted_mos": rmse_fitted(x, y),
        "mae_mos": np.abs(residual).mean(), "r2_mos": 1 - (residual**2).sum() / (y[there].var() * there.sum()),
        "quality_mos": (srcc(x, y) + plcc(x, y)) / 2, "srcc_mos_within_generator": within_srcc(x, y, kinds),
        "plcc_mos_within_generator": within_plcc(x, y, kinds),
    })  # fmt: skip
    index = groups.astype(np.intp)
    for measure in found:
        assert measure.replicates is not None
        samples = measure.replicates(rows, index)
        low, high = percentiles(samples)
        assert samples.shape == (1000,)
        assert low < measure.score(rows) < high
    assert [m.name for m in found if m.better == "lower"] == ["rmse_fitted_mos", "mae_mos"]
    assert math.isnan(measures.r2("mos").score(rows[:1]))


def test_resamples_of_the_same_rows_are_fitted_once_and_of_others_anew(monkeypatch):
    counts, fit = [], quality.explained
    monkeypatch.setattr(quality, "explained", lambda *given: counts.append(1) or fit(*given))
    random = np.random.default_rng(8)
    groups, x = np.repeat(np.arange(8), 5), random.normal(size=40)
    y = x + random.normal(size=40)
    first = quality.replicates_plcc(groups, x, y, n=20)
    quality.replicates_rmse_fitted(groups, x, y, n=20)
    np.testing.assert_array_equal(quality.replicates_plcc(groups, x, y, n=20), first)
    assert len(counts) == 1
    y[3] += 0.1
    assert (quality.replicates_plcc(groups, x, y, n=20) != first).any()
    assert (quality.replicates_plcc(groups[::-1] // 2, x, y, n=20)).shape == (20,)
    assert len(counts) == 3
