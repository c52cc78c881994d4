from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, mean_squared_error

from affect.metrics import emotion
from affect.metrics.bootstrap import interval, percentiles
from affect.metrics.emotion import class_f1, emoval, emoval_of, mse, softmax, weighted_f1, weighted_f1_counts

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
pairs = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60)


def sample(seed: int, size: int = 120, right: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted and labelled places, of classes as unequal as real ones."""
    random = np.random.default_rng(seed)
    target = random.choice(6, size, p=(0.3, 0.25, 0.2, 0.1, 0.12, 0.03))
    return np.where(random.random(size) < right, target, random.integers(0, 6, size)), target


@given(pairs)
def test_scores_are_scikit_learns(rows: list[tuple[str, str]]) -> None:
    x, y = zip(*rows, strict=True)
    assert weighted_f1(x, y) == pytest.approx(f1_score(y, x, average="weighted", zero_division=0))
    occurring = sorted({*x, *y})
    expected = f1_score(y, x, labels=occurring, average=None, zero_division=0)
    assert list(class_f1(x, y)) == occurring
    assert list(class_f1(x, y).values()) == pytest.approx(list(expected))
    table = confusion_matrix(y, x, labels=list(CLASSES))
    assert float(weighted_f1_counts(table)) == pytest.approx(weighted_f1(x, y))


@given(pairs, st.randoms())
def test_the_order_of_rows_and_the_names_of_classes_do_not_matter(rows: list[tuple[str, str]], random) -> None:
    x, y = zip(*rows, strict=True)
    mixed = random.sample(rows, len(rows))
    renamed = [(a[::-1], b[::-1]) for a, b in mixed]
    assert weighted_f1(*zip(*mixed, strict=True)) == pytest.approx(weighted_f1(x, y))
    assert weighted_f1(*zip(*renamed, strict=True)) == pytest.approx(weighted_f1(x, y))


def test_by_hand() -> None:
    target = ["angry", "angry", "angry", "sad"]
    prediction = ["angry", "angry", "sad", "happy"]
    assert class_f1(prediction, target) == pytest.approx({"angry": 4 / 5, "happy": 0.0, "sad": 0.0})
    assert weighted_f1(prediction, target) == pytest.approx(0.75 * 4 / 5)
    # Errors of 1 and 2 and one unknown: MSE 2.5.
    assert emoval(prediction, target, [1.0, 0.0, -1.0, 3.0], [2.0, math.nan, -1.0, math.nan]) == pytest.approx(
        0.6 - 0.25 * 0.5
    )
    assert emoval_of(0.6, 2.5) == pytest.approx(0.6 - 0.625)


def test_tables_are_scored_all_at_once() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (4, 5, 6, 6))
    scores = weighted_f1_counts(tables)
    assert scores.shape == (4, 5)
    for place in np.ndindex(4, 5):
        assert scores[place] == float(weighted_f1_counts(tables[place]))
    assert weighted_f1_counts(tables / tables.sum((-1, -2), keepdims=True)) == pytest.approx(scores)
    assert math.isnan(float(weighted_f1_counts(np.zeros((6, 6)))))
    with pytest.raises(ValueError, match="C, C"):
        weighted_f1_counts(np.zeros((6, 5)))


@pytest.mark.parametrize("missing", [None, math.nan, ""])
def test_missing_labels_are_left_out(missing: object) -> None:
    target = ["angry", missing, "sad", missing]
    prediction = ["angry", "sad", "angry", None]
    assert weighted_f1(prediction, target) == weighted_f1(["angry", "angry"], ["angry", "sad"])
    assert class_f1(prediction, target) == class_f1(["angry", "angry"], ["angry", "sad"])


def test_nothing_labelled_is_no_score() -> None:
    assert math.isnan(weighted_f1([], []))
    assert class_f1(["angry"], [None]) == {}
    assert math.isnan(mse([1.0], [math.nan]))
    assert math.isnan(emoval(["angry"], ["angry"], [1.0], [math.nan]))
    assert math.isnan(emoval(["angry"], [None], [1.0], [1.0]))


def test_the_squared_error_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(0, 2, (2, 50))
    assert mse(x, y) == pytest.approx(mean_squared_error(y, x))
    with pytest.raises(ValueError, match="not finite"):
        mse([math.nan], [1.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8), st.floats(-1e4, 1e4))
def test_softmax_is_torchs_and_ignores_a_shift(logits: list[float], shift: float) -> None:
    expected = torch.tensor(logits, dtype=torch.float64).softmax(-1).numpy()
    assert softmax(logits) == pytest.approx(expected, abs=1e-12)
    assert softmax([logits, logits]).shape == (2, len(logits))
    assert softmax(np.array(logits) + shift) == pytest.approx(expected, abs=1e-6)
    assert softmax(logits).sum() == pytest.approx(1)


def test_replicates_are_those_of_resampled_rows() -> None:
    prediction, target = sample(0)
    names = np.array(CLASSES)
    for groups in (np.arange(120), np.repeat(np.arange(20), 6)):
        fast = emotion.replicates_weighted_f1(prediction, target, 6, n=200, seed=3, groups=groups)
        slow = interval(lambda p, t: weighted_f1(p, t), groups, names[prediction], names[target], n=200, seed=3)
        assert percentiles(fast) == pytest.approx(slow, abs=1e-12)
        assert fast.std() > 0.01
    alone = emotion.replicates_weighted_f1(prediction, target, 6, n=50, seed=3)
    assert (alone == emotion.replicates_weighted_f1(prediction, target, 6, n=50, seed=3, groups=np.arange(120))).all()
    assert not (alone == emotion.replicates_weighted_f1(prediction, target, 6, n=50, seed=4)).all()


def test_several_systems_see_the_same_resamples() -> None:
    prediction, target = sample(1)
    worse = np.where(np.arange(120) % 10 == 0, (prediction + 1) % 6, prediction)
    stacked = emotion.replicates_weighted_f1(np.stack([[prediction, worse]] * 3), target, 6, n=100)
    assert stacked.shape == (3, 2, 100)
    for place, system in ((0, prediction), (1, worse)):
        alone = emotion.replicates_weighted_f1(system, target, 6, n=100)
        assert (stacked[:, place] == alone).all()
    assert (stacked[0, 0] - stacked[0, 1]).std() < 0.7 * stacked[0, 0].std()


def test_missing_labels_keep_the_drawing() -> None:
    prediction, target = sample(2)
    gone = np.where(np.arange(120) % 3 == 0, -100, target)
    names = np.array([*CLASSES, ""])
    fast = emotion.replicates_weighted_f1(prediction, gone, 6, n=100)
    slow = interval(
        lambda p, t: weighted_f1(p, t), np.arange(120), names[prediction], names[np.where(gone < 0, 6, gone)], n=100
    )
    assert percentiles(fast) == pytest.approx(slow, abs=1e-12)
    # A missing prediction of an example without a label is no fault.
    assert (emotion.replicates_weighted_f1(np.where(gone < 0, -1, prediction), gone, 6, n=100) == fast).all()
    half = emotion.replicates_weighted_f1([0, 0], [0, -1], 6, n=400)
    assert 0.15 < np.isnan(half).mean() < 0.35
    assert (half[~np.isnan(half)] == 1).all()
    assert np.isnan(emotion.replicates_weighted_f1([0, 0], [-1, -1], 6, n=3)).all()


def test_thirty_systems_of_eight_hundred_take_a_moment() -> None:
    target = sample(3, 834)[1]
    systems = np.stack([sample(seed, 834)[0] for seed in range(30)])
    start = time.perf_counter()
    emotion.replicates_weighted_f1(systems, target, 6)
    assert time.perf_counter() - start < 3  # measured: .2 s


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction are missing|predictions are missing"):
        weighted_f1(["angry", None], ["angry", "sad"])
    with pytest.raises(ValueError, match=r"\[.., N\]"):
        emotion.replicates_weighted_f1([0, 1, 2], [0, 1], 6)
    with pytest.raises(ValueError, match="at least two"):
        emotion.replicates_weighted_f1([0], [0], 6)
    for prediction, target, name in (([0, 6], [0, 1], "prediction"), ([0, -1], [0, 1], "prediction"),
                                     ([0, 1], [0, 6], "target"), ([0.0, 1.0], [0, 1], "prediction")):  # fmt: skip
        with pytest.raises(ValueError, match=f"every {name} .* from 0 to 5"):
            emotion.replicates_weighted_f1(prediction, target, 6)
