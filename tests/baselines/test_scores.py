"""Trivial predictors of scores: what each takes from features and names, and reference values on real scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

from affect.baselines import scores
from affect.errors import AffectError
from affect.metrics.quality import plcc, srcc, within_srcc


def corpus(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, two scores (of a feature, of the generator) and generators of 120 rows."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(120, 5))
    kinds = np.array(["a", "b", "c"])[np.arange(120) % 3]
    level = np.select([kinds == "a", kinds == "b"], [1.0, 3.0], 5.0)
    return x, np.stack([2 * x[:, 0], level + random.normal(0, 0.1, 120)], axis=1), kinds


def test_each_learns_what_it_can() -> None:
    x, y, kinds = corpus()
    for name, feature, generator in (("constant", 0, 0), ("kind_mean", 0, 1), ("ridge", 1, 0), ("forest", 1, 0)):
        found = scores.predict(name, x[:90], y[:90], x[90:], kinds_train=kinds[:90], kinds_test=kinds[90:])
        assert found.shape == (30, 2)
        for k, learns in enumerate((feature, generator)):
            error = np.mean((found[:, k] - y[90:, k]) ** 2) / np.var(y[90:, k])
            assert error < 0.2 if learns else error > 0.8, (name, k)
        alone = scores.predict(name, x[:90], y[:90, 0], x[90:], kinds_train=kinds[:90], kinds_test=kinds[90:])
        assert alone == pytest.approx(found[:, 0])


def test_missing_scores_are_left_out_score_by_score() -> None:
    x, y, kinds = corpus(1)
    holes = y[:90].copy()
    holes[::2, 0] = np.nan
    holes[kinds[:90] == "c", 1] = np.nan
    there = ~np.isnan(holes[:, 0])
    for name in scores.NAMES:
        found = scores.predict(name, x[:90], holes, x[90:], kinds_train=kinds[:90], kinds_test=kinds[90:])
        alone = scores.predict(
            name, x[:90][there], holes[there, 0], x[90:], kinds_train=kinds[:90][there], kinds_test=kinds[90:]
        )
        assert found[:, 0] == pytest.approx(alone), name
    means = scores.predict("kind_mean", x[:90], holes, x[90:], kinds_train=kinds[:90], kinds_test=kinds[90:])[:, 1]
    assert means[kinds[90:] == "a"] == pytest.approx(holes[kinds[:90] == "a", 1].mean())
    assert means[kinds[90:] == "c"] == pytest.approx(np.nanmean(holes[:, 1])), "no label of the kind: the mean of all"
    unseen = scores.predict("kind_mean", x[:90], y[:90], x[:2], kinds_train=kinds[:90], kinds_test=["d", ""])
    assert unseen == pytest.approx(np.tile(y[:90].mean(0), (2, 1)))


def test_a_missing_feature_is_its_training_mean() -> None:
    x, y, _ = corpus(2)
    train, test = x[:90].copy(), x[90:].copy()
    train[::4, 0] = np.nan
    test[3] = np.nan
    train[:, 4] = test[:, 4] = np.nan
    filled = np.nan_to_num(np.nanmean(train[:, :4], axis=0)).tolist() + [0.0]
    for name in ("ridge", "forest"):
        found = scores.predict(name, train, y[:90, 0], test)
        wanted = scores.predict(
            name, np.where(np.isnan(train), filled, train), y[:90, 0], np.where(np.isnan(test), filled, test)
        )
        assert found == pytest.approx(wanted)
    with pytest.raises(AffectError, match="baseline forest: a feature is infinite"):
        scores.predict("forest", train, y[:90], np.full((1, 5), np.inf))


def test_the_forest_is_scikit_learns() -> None:
    x, y, _ = corpus(3)
    wanted = RandomForestRegressor(100, random_state=0).fit(x[:90], y[:90, 0]).predict(x[90:])
    assert scores.predict("forest", x[:90], y[:90, 0], x[90:]) == pytest.approx(wanted)


def test_what_is_lacking_is_one_line() -> None:
    x, y, kinds = corpus()
    for given in ({}, {"kinds_train": kinds[:89], "kinds_test": kinds[90:]}):
        with pytest.raises(AffectError, match="^baseline kind_mean: each row needs its kind$"):
            scores.predict("kind_mean", x[:90], y[:90], x[90:], **given)
    for name in scores.NAMES:
        with pytest.raises(AffectError, match=f"baseline {name}: target 1 has no label"):
            scores.predict(name, x[:90], y[:90] * [1, np.nan], x[90:], kinds_train=kinds[:90], kinds_test=kinds[90:])


def test_sequences_are_pooled_by_their_mean() -> None:
    found = scores.pooled([np.arange(6).reshape(3, 2), None, [5.0, 7.0], np.zeros((0, 2))], 2)
    assert found[[0, 2]].tolist() == [[2, 3], [5, 7]]
    assert np.isnan(found[[1, 3]]).all()


# Real scores


@pytest.fixture
def thqa(real_data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """24 features, MOS, picture and generator of 640 clips."""
    path = real_data / "thqa" / "features_mos.csv"
    if not path.is_file():
        pytest.skip("THQA's features are absent")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row.pop("Image") for row in rows]
    y = np.array([float(row.pop("Score")) for row in rows])
    x = np.array([[float(value) for value in row.values()] for row in rows])
    pictures, generators = (np.array([name.split("_")[k] for name in names]) for k in (0, -1))
    return x, y, pictures, generators


@pytest.mark.parametrize(
    ("name", "pooled", "by_fold", "within"),
    [
        ("kind_mean", 0.59, 0.67, -0.40),
        ("ridge", 0.64, 0.64, 0.21),
        pytest.param("forest", 0.58, 0.64, -0.02, marks=pytest.mark.soak),
    ],
)
def test_reference_values_on_thqa_by_picture(thqa, name, pooled, by_fold, within) -> None:
    """GroupKFold(5) without shuffling over 16 pictures; the kind's mean has folds' offsets within a generator."""
    x, y, pictures, generators = thqa
    predicted, folds = np.full(640, np.nan), []
    for train, test in GroupKFold(5).split(x, y, pictures):
        predicted[test] = scores.predict(
            name, x[train], y[train], x[test], groups=pictures[train], kinds_train=generators[train],
            kinds_test=generators[test],
        )  # fmt: skip
        folds.append(srcc(predicted[test], y[test]))
    found = (srcc(predicted, y), np.mean(folds), within_srcc(predicted, y, generators))
    assert found == pytest.approx((pooled, by_fold, within), abs=0.01)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "wanted"), [("ridge", 0.22), ("forest", 0.19)])
def test_reference_values_on_thqa_with_a_generator_left_out(thqa, name, wanted) -> None:
    x, y, pictures, generators = thqa
    folds = [
        srcc(scores.predict(name, x[train], y[train], x[test], groups=pictures[train]), y[test])
        for train, test in LeaveOneGroupOut().split(x, y, generators)
    ]
    assert np.mean(folds) == pytest.approx(wanted, abs=0.005)


def test_reference_values_on_thqa_ntire(real_data) -> None:
    """The mean of the generator, which names tell: the talker and its set, or a recording's distortion and level."""
    folder = real_data / "thqa_ntire"
    if not (folder / "train.csv").is_file():
        pytest.skip("THQA-NTIRE's labels are absent")
    parts = []
    for part in ("train", "val"):
        with (folder / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            rows = [(row["Video"].removesuffix(".mp4").split("_"), float(row["Score"])) for row in csv.DictReader(file)]
        kinds = ["_".join(words[-3:]) if "SEN" in words else f"{'common' in words} {words[-1]}" for words, _ in rows]
        parts.append((kinds, np.array([score for _, score in rows])))
    (kinds, y), (wanted, labels) = parts
    assert (len(kinds), len(wanted), len(set(kinds))) == (8927, 1714, 42)
    blank = [np.zeros((len(rows), 1)) for rows in (y, labels)]
    found = scores.predict("kind_mean", blank[0], y, blank[1], kinds_train=kinds, kinds_test=wanted)
    assert (srcc(found, labels), plcc(found, labels)) == pytest.approx((0.742, 0.794), abs=0.0005)
