from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from affect.metrics import classification
from affect.metrics.bootstrap import interval, percentiles
from affect.metrics.classification import confusion, macro_f1, recalls, unweighted_accuracy, weighted_accuracy

CLASSES = ("ang", "hap", "neu", "sad")
pairs = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=60)


@given(pairs)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_scikit_learns(rows: list[tuple[str, str]]) -> None:
    x, y = zip(*rows, strict=True)
    assert weighted_accuracy(x, y) == pytest.approx(accuracy_score(y, x))
    if len(set(y)) > 1:  # scikit-learn warns of one class
        assert unweighted_accuracy(x, y) == pytest.approx(balanced_accuracy_score(y, x))
    assert macro_f1(x, y) == pytest.approx(f1_score(y, x, average="macro"))
    assert confusion(x, y, CLASSES).tolist() == confusion_matrix(y, x, labels=list(CLASSES)).tolist()
    occurring = sorted(set(y))
    expected = recall_score(y, x, labels=occurring, average=None)
    assert list(recalls(x, y)) == occurring
    assert list(recalls(x, y).values()) == pytest.approx(list(expected))


def test_by_hand() -> None:
    target = ["ang", "ang", "ang", "sad"]
    prediction = ["ang", "ang", "sad", "hap"]
    assert weighted_accuracy(prediction, target) == 0.5
    assert unweighted_accuracy(prediction, target) == pytest.approx((2 / 3 + 0) / 2)  # hap has no label: no recall
    assert macro_f1(prediction, target) == pytest.approx((2 * 2 / 5 + 0 + 0) / 3)  # hap is predicted: it counts, as 0
    assert confusion(prediction, target, ["sad", "ang", "hap"]).tolist() == [[0, 0, 1], [1, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize("missing", [None, math.nan, "", np.nan])
def test_missing_labels_are_left_out(missing: object) -> None:
    target = ["ang", missing, "sad", missing]
    prediction = ["ang", "sad", "ang", None]
    for score in (weighted_accuracy, unweighted_accuracy):
        assert score(prediction, target) == 0.5
    assert macro_f1(prediction, target) == pytest.approx(1 / 3)
    assert confusion(prediction, target, ["ang", "sad"]).tolist() == [[1, 0], [1, 0]]


def test_nothing_labelled_is_no_score() -> None:
    for x, y in (([], []), (["ang"], [None])):
        assert all(math.isnan(score(x, y)) for score in (weighted_accuracy, unweighted_accuracy, macro_f1))
        assert recalls(x, y) == {}
        assert not confusion(x, y, ["ang"]).any()


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ValueError, match="1 of 2 predictions are missing, the first at 1"):
        weighted_accuracy(["ang", None], ["ang", "sad"])
    with pytest.raises(ValueError, match="two \\[N\\] arrays"):
        macro_f1(["ang"], ["ang", "sad"])
    with pytest.raises(ValueError, match="hap is none of ang, sad"):
        confusion(["hap"], ["sad"], ["ang", "sad"])
    with pytest.raises(ValueError, match="at least two"):
        classification.replicates(["one", "one"], ["ang", "ang"], ["ang", "sad"])


def test_replicates_are_those_of_resampled_rows() -> None:
    random = np.random.default_rng(0)
    groups = np.array([f"dialogue{i}" for i in np.repeat(np.arange(15), 8)])
    target = random.choice(CLASSES, len(groups), p=(0.05, 0.25, 0.5, 0.2)).astype(object)
    prediction = np.where(random.random(len(groups)) < 0.6, target, random.choice(CLASSES, len(groups)))
    target[::7] = None
    fast = classification.replicates(groups, prediction, target, n=200, seed=3)
    slow = interval(lambda p, t: unweighted_accuracy(p, t), groups, prediction, target, n=200, seed=3)
    assert percentiles(fast) == pytest.approx(slow, abs=1e-12)
    assert fast.std() > 0.01


def test_a_group_without_labels_is_drawn_too() -> None:
    """Else systems scored on other rows would see other resamples; one that draws nothing labelled has no score."""
    samples = classification.replicates(["a", "b"], ["ang", "ang"], ["ang", None], n=400)
    assert 0.15 < np.isnan(samples).mean() < 0.35
    assert (samples[~np.isnan(samples)] == 1).all()
