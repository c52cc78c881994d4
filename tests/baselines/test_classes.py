"""The baselines of classes: better than chance where there is something to see, honest where there is not."""

from __future__ import annotations

import numpy as np
import pytest

from affect.baselines import classes
from affect.errors import AffectError
from affect.metrics.classification import unweighted_accuracy

NAMES = ("ang", "hap", "sad")


def clouds(count: int = 60, seed: int = 0):
    """Return features [N, 4] of three classes, one of them rare, and their names."""
    random = np.random.default_rng(seed)
    place = random.choice(3, count, p=[0.6, 0.3, 0.1])
    return random.normal(size=(count, 4)) + 3.0 * np.eye(3, 4)[place], [NAMES[k] for k in place]


def test_the_mean_is_the_majority():
    x, labels = clouds()
    assert set(classes.predict("constant", x, labels, x[:5])) == {"ang"}


@pytest.mark.parametrize("name", ["ridge", "svr"])
def test_rare_classes_count_alike(name):
    x, labels = clouds()
    new, wanted = clouds(seed=1)
    found = classes.predict(name, x, labels, new, groups=np.arange(60) % 4)
    assert unweighted_accuracy(found, wanted) > 0.75
    assert found == classes.predict(name, x, labels, new, groups=np.arange(60) % 4), "deterministic"


def test_missing_labels_are_left_out_and_one_class_is_that_class():
    x, labels = clouds()
    hidden = [None if k % 2 else label for k, label in enumerate(labels)]
    kept = [k for k, label in enumerate(hidden) if label is not None]
    wanted = classes.predict("ridge", x[kept], [labels[k] for k in kept], x)
    assert classes.predict("ridge", x, hidden, x) == wanted
    assert classes.predict("svr", x, ["sad"] * 60, x[:2]) == ["sad", "sad"]


def test_mistakes_are_one_line():
    x, labels = clouds()
    with pytest.raises(AffectError, match="no training row has a class"):
        classes.predict("ridge", x, [None] * 60, x)
