from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from affect.metrics import classification
from affect.metrics.bootstrap import percentiles
from affect.metrics.classification import (
    confusion,
    macro_f1,
    softmax,
    unweighted_accuracy,
    weighted_accuracy,
    weighted_f1,
)
from tests.resampling import interval

CLASSES = ("ang", "hap", "neu", "sad")
pairs = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60)


@settings(deadline=None)
@given(pairs)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_scikit_learns(rows: list[tuple[str, str]]) -> None:
    x, y = zip(*rows, strict=True)
    assert weighted_accuracy(x, y) == pytest.approx(accuracy_score(y, x))
    if len(set(y)) > 1:  # scikit-learn warns of one class
        assert unweighted_accuracy(x, y) == pytest.approx(balanced_accuracy_score(y, x))
    assert macro_f1(x, y) == pytest.approx(f1_score(y, x, average="macro"))
    assert confusion(x, y, CLASSES).tolist() == confusion_matrix(y, x, labels=list(CLASSES)).tolist()
    assert weighted_f1(x, y) == pytest.approx(f1_score(y, x, average="weighted", zero_division=0))


@settings(deadline=None)
@given(pairs, st.randoms())
def test_the_order_of_rows_and_the_names_of_classes_do_not_matter(rows: list[tuple[str, str]], random) -> None:
    x, y = zip(*rows, strict=True)
    mixed = random.sample(rows, len(rows))
    renamed = [(a[::-1], b[::-1]) for a, b in mixed]
    assert weighted_f1(*zip(*mixed, strict=True)) == pytest.approx(weighted_f1(x, y))
    assert weighted_f1(*zip(*renamed, strict=True)) == pytest.approx(weighted_f1(x, y))


def test_by_hand() -> None:
    target = ["ang", "ang", "ang", "sad"]
    prediction = ["ang", "ang", "sad", "hap"]
    assert weighted_accuracy(prediction, target) == 0.5
    assert unweighted_accuracy(prediction, target) == pytest.approx((2 / 3 + 0) / 2)  # hap has no label: no recall
    assert macro_f1(prediction, target) == pytest.approx((2 * 2 / 5 + 0 + 0) / 3)  # hap is predicted: it counts, as 0
    assert weighted_f1(prediction, target) == pytest.approx(0.75 * 4 / 5)
    assert confusion(prediction, target, ["sad", "ang", "hap"]).tolist() == [[0, 0, 1], [1, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize("missing", [None, math.nan, "", np.nan])
def test_missing_labels_are_left_out(missing: object) -> None:
    target = ["ang", missing, "sad", missing]
    prediction = ["ang", "sad", "ang", None]
    for score in (weighted_accuracy, unweighted_accuracy):
        assert score(prediction, target) == 0.5
    assert macro_f1(prediction, target) == pytest.approx(1 / 3)
    assert weighted_f1(prediction, target) == weighted_f1(["ang", "ang"], ["ang", "sad"])
    assert confusion(prediction, target, ["ang", "sad"]).tolist() == [[1, 0], [1, 0]]


def test_nothing_labelled_is_no_score() -> None:
    for x, y in (([], []), (["ang"], [None])):
        for score in (weighted_accuracy, unweighted_accuracy, macro_f1, weighted_f1):
            assert math.isnan(score(x, y))
        assert not confusion(x, y, ["ang"]).any()


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ValueError, match="1 of 2 predictions are missing, the first at 1"):
        weighted_accuracy(["ang", None], ["ang", "sad"])
    with pytest.raises(ValueError, match="two \\[N\\] arrays"):
        macro_f1(["ang"], ["ang", "sad"])
    with pytest.raises(ValueError, match="hap is none of ang, sad"):
        confusion(["hap"], ["sad"], ["ang", "sad"])
    with pytest.raises(ValueError, match="at least two"):
        classification.replicates_ua(["one", "one"], ["ang", "ang"], ["ang", "sad"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8), st.floats(-1e4, 1e4))
def test_softmax_is_torchs_and_ignores_a_shift(logits: list[float], shift: float) -> None:
    expected = torch.tensor(logits, dtype=torch.float64).softmax(-1).numpy()
    assert softmax(logits) == pytest.approx(expected, abs=1e-12)
    assert softmax([logits, logits]).shape == (2, len(logits))
    assert softmax(np.array(logits) + shift) == pytest.approx(expected, abs=1e-6)
    assert softmax(logits).sum() == pytest.approx(1)


SCORES = ((classification.replicates_ua, unweighted_accuracy), (classification.replicates_f1, weighted_f1))


@pytest.mark.parametrize(("replicates", "score"), SCORES)
def test_replicates_are_those_of_resampled_rows(replicates, score) -> None:
    random = np.random.default_rng(0)
    groups = np.array([f"dialogue{i}" for i in np.repeat(np.arange(15), 8)])
    target = random.choice(CLASSES, len(groups), p=(0.05, 0.25, 0.5, 0.2)).astype(object)
    prediction = np.where(random.random(len(groups)) < 0.6, target, random.choice(CLASSES, len(groups)))
    target[::7] = None
    # A missing prediction of an example without a label is no fault.
    prediction = prediction.astype(object)
    prediction[::14] = None
    for units in (groups, np.arange(len(groups))):
        fast = replicates(units, prediction, target, n=200, seed=3)
        slow = interval(score, units, prediction, target, n=200, seed=3)
        assert percentiles(fast) == pytest.approx(slow, abs=1e-12)
        assert fast.std() > 0.01
        assert not (fast == replicates(units, prediction, target, n=200, seed=4)).all()


@pytest.mark.parametrize("replicates", [replicates for replicates, _ in SCORES])
def test_a_group_without_labels_is_drawn_too(replicates) -> None:
    """Else systems scored on other rows would see other resamples; one that draws nothing labelled has no score."""
    samples = replicates(["a", "b"], ["ang", "ang"], ["ang", None], n=400)
    assert 0.15 < np.isnan(samples).mean() < 0.35
    assert (samples[~np.isnan(samples)] == 1).all()
    assert np.isnan(replicates(["a", "b"], ["ang", "ang"], [None, None], n=3)).all()


def test_two_systems_see_the_same_resamples() -> None:
    random = np.random.default_rng(1)
    target = random.choice(CLASSES, 120)
    prediction = np.where(random.random(120) < 0.6, target, random.choice(CLASSES, 120))
    worse = np.where(np.arange(120) % 10 == 0, "sad", prediction)
    ours, theirs = (classification.replicates_f1(np.arange(120), one, target, n=100) for one in (prediction, worse))
    assert (ours - theirs).std() < 0.7 * ours.std()
