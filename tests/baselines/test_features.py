from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from affect.baselines import features as baselines
from affect.errors import AffectError
from affect.metrics.regression import ccc


def features(seed: int, rows: int = 160, width: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, two targets (one linear, one curved) on 1..5 and speakers."""
    random = np.random.default_rng(seed)
    x = random.normal(5, 2, (rows, width))
    z = (x - 5) / 2
    linear = 3 + 0.6 * z[:, 0] + 0.3 * z[:, 1] + random.normal(0, 0.2, rows)
    curved = 3 + 0.8 * np.cos(2 * z[:, 0]) + random.normal(0, 0.1, rows)
    return x, np.stack([linear, curved], axis=1), np.arange(rows) % 8


def test_each_baseline_learns_what_it_can() -> None:
    x, y, speakers = features(0, 400, 3)
    train, test = speakers < 6, speakers >= 6
    for name, curve in (("constant", (0, 0)), ("ridge", (-0.2, 0.2)), ("svr", (0.7, 1))):
        predicted = baselines.predict(name, x[train], y[train], x[test], speakers[train])
        assert predicted.shape == y[test].shape
        assert curve[0] <= ccc(predicted[:, 1], y[test, 1]) <= curve[1]
        linear = ccc(predicted[:, 0], y[test, 0])
        assert linear == 0 if name == "constant" else linear > 0.85


def test_ridge_is_scikit_learns_with_an_alpha_of_the_grid() -> None:
    x, y, speakers = features(1)
    predicted = baselines.predict("ridge", x[:120], y[:120, 0], x[120:], speakers[:120])
    scaler = StandardScaler().fit(x[:120])
    direct = {
        alpha: Ridge(alpha).fit(scaler.transform(x[:120]), y[:120, 0]).predict(scaler.transform(x[120:]))
        for alpha in 10.0 ** np.arange(-2, 6)
    }
    near = [alpha for alpha, values in direct.items() if np.allclose(values, predicted, atol=1e-10)]
    assert len(near) == 1
    assert near[0] < 1e3  # a shrunken prediction has a poor CCC on these nearly noiseless labels


@pytest.mark.parametrize("name", baselines.NAMES)
def test_test_rows_are_predicted_one_by_one(name: str) -> None:
    x, y, speakers = features(2)
    together = baselines.predict(name, x[:120], y[:120, 0], x[120:], speakers[:120])
    again = baselines.predict(name, x[:120], y[:120, 0], x[120:], speakers[:120])
    first = baselines.predict(name, x[:120], y[:120, 0], x[120:121], speakers[:120])
    assert (together == again).all()
    assert first[0] == pytest.approx(together[0], abs=1e-12)


@pytest.mark.parametrize("name", baselines.NAMES)
def test_missing_targets_are_left_out_target_by_target(name: str) -> None:
    x, y, speakers = features(3)
    holes = y[:120].copy()
    holes[::3, 0] = np.nan
    known = ~np.isnan(holes[:, 0])
    predicted = baselines.predict(name, x[:120], holes, x[120:], speakers[:120])
    direct = baselines.predict(name, x[:120][known], y[:120, 0][known], x[120:], speakers[:120][known])
    assert predicted[:, 0] == pytest.approx(direct, abs=1e-12)
    whole = baselines.predict(name, x[:120], y[:120, 1], x[120:], speakers[:120])
    assert predicted[:, 1] == pytest.approx(whole, abs=1e-12)


def test_settings_are_chosen_across_groups() -> None:
    # Features that name the speaker predict within speakers and nowhere else: only validation over groups shrinks.
    random = np.random.default_rng(0)
    speakers = np.repeat(np.arange(6), 30)
    mood = random.normal(0, 1, 6)
    x = np.eye(6)[speakers] + random.normal(0, 0.05, (180, 6))
    y = mood[speakers] + random.normal(0, 0.3, 180)
    new = random.normal(0.5, 0.3, (50, 6))
    apart = baselines.predict("ridge", x, y, new, speakers)
    mixed = baselines.predict("ridge", x, y, new, None)
    assert apart.std() < 0.5 * mixed.std()


def test_the_scale_of_labels_changes_nothing() -> None:
    x, y, speakers = features(4)
    for name in baselines.NAMES:
        raw = baselines.predict(name, x[:120], y[:120, 0], x[120:], speakers[:120])
        mapped = baselines.predict(name, x[:120], 100 * y[:120, 0] - 7, x[120:], speakers[:120])
        assert mapped == pytest.approx(100 * raw - 7, abs=1e-6)


def test_choosing_an_svr_on_many_rows_stays_cheap(caplog: pytest.LogCaptureFixture) -> None:
    x, y, speakers = features(5, 4000, 4)
    caplog.set_level("INFO", logger="affect")
    start = time.perf_counter()
    predicted = baselines.predict("svr", x, y[:, 0], x[:10], speakers // 4)
    assert time.perf_counter() - start < 20
    assert "chosen on 2000 of 4000" in caplog.text
    assert predicted == pytest.approx(y[:10, 0], abs=1.0)


def test_bad_input_is_one_line() -> None:
    x, y, _ = features(6, 20)
    with pytest.raises(AffectError, match="do not fit"):
        baselines.predict("ridge", x, y[:5], x)
    with pytest.raises(AffectError, match="groups for 20"):
        baselines.predict("ridge", x, y, x, [1, 2])
    with pytest.raises(AffectError, match="target 0 has no label"):
        baselines.predict("constant", x, np.full(20, np.nan), x)
    x[3, 2] = np.nan
    with pytest.raises(AffectError, match="training feature 2 of row 3 is not finite"):
        baselines.predict("svr", x, y, x[:2])


def test_an_svr_is_fitted_on_a_bounded_number_of_rows(monkeypatch, caplog) -> None:
    fitted: list[int] = []

    class Counted(baselines.SVR):
        def fit(self, x, y):
            fitted.append(len(x))
            return super().fit(x, y)

    monkeypatch.setattr(baselines, "SVR", Counted)
    monkeypatch.setattr(baselines, "_MOST_FITTING", 300)
    monkeypatch.setattr(baselines, "_MOST_CHOOSING", 100)
    caplog.set_level("INFO", logger="affect")
    x, y, speakers = features(7, 1000, 3)
    predicted = baselines.predict("svr", x[:800], y[:800], x[800:], speakers[:800])
    assert sorted(fitted)[-2:] == [300, 300], "once a target"
    assert sorted(fitted)[-3] < 100
    assert caplog.text.count("fitted on 300, settings chosen on 100 of 800 training rows") == 1
    assert (baselines.predict("svr", x[:800], y[:800], x[800:], speakers[:800]) == predicted).all()
    assert ccc(predicted[:, 0], y[800:, 0]) > 0.85


def test_few_rows_are_all_fitted_without_a_word(caplog) -> None:
    assert baselines._MOST_FITTING == 10_000  # the docstring's
    caplog.set_level("INFO", logger="affect")
    x, y, speakers = features(8)
    baselines.predict("svr", x[:120], y[:120, 0], x[120:], speakers[:120])
    assert caplog.text == ""


def test_the_rows_that_are_fitted_come_from_all_groups() -> None:
    groups = np.repeat(np.arange(40), np.where(np.arange(40) % 2, 10, 30))
    rows = baselines.spread_rows(groups, 200)
    assert len(np.unique(rows)) == 200
    kept = np.bincount(groups[rows])
    assert set(kept[::2]) <= {7, 8}
    assert set(kept[1::2]) <= {2, 3}
