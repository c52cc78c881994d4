"""The folds of the training part: the public toolkit's sizes, a draw of the seed's alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect import tasks
from affect.errors import AffectError
from affect.tasks.multimodal_emotion import task as folds
from tests.tasks.multimodal_emotion import small

PLACES = st.sets(st.integers(0, 9999), min_size=5, max_size=200).map(lambda found: np.array(sorted(found)))


@given(PLACES, st.integers(2, 5), st.integers(0, 99))
def test_folds_are_the_toolkits(places, count, seed):
    """Each takes a count-th, rounded down; the last takes the rest as well. Together they are all, none twice."""
    found = folds.split(places, count, seed)
    size = len(places) // count
    assert [len(fold) for fold in found] == [size] * (count - 1) + [len(places) - size * (count - 1)]
    assert sorted(np.concatenate(found).tolist()) == places.tolist()
    assert all((np.diff(fold) > 0).all() for fold in found), "in the corpus's order"


def test_speakers_are_in_one_fold_each():
    places = np.arange(100, 130)
    speakers = [f"s{k}" for k in np.random.default_rng(0).integers(0, 9, 30)]
    found = folds.split(places, 3, 0, speakers)
    own = [{speakers[place - 100] for place in fold} for fold in found]
    assert not own[0] & own[1] and not own[0] & own[2] and not own[1] & own[2]
    assert sorted(np.concatenate(found).tolist()) == places.tolist()
    assert all((np.diff(fold) > 0).all() for fold in found) and max(map(len, found)) - min(map(len, found)) <= 5
    assert any(not np.array_equal(a, b) for a, b in zip(found, folds.split(places, 3, 1, speakers), strict=True))
    with pytest.raises(AffectError, match="data.folds is 3, and the training part has 2 speakers"):
        folds.split(places, 3, 0, ["a", "b"] * 15)


def test_mer2023_by_hand():
    assert [len(fold) for fold in folds.split(np.arange(3373), 5, 0)] == [674, 674, 674, 674, 677]


@given(PLACES, st.integers(0, 99))
def test_the_draw_is_a_function_of_the_seed(places, seed):
    np.random.seed(len(places))
    first = folds.split(places, 5, seed)
    np.random.seed(0)
    assert all(np.array_equal(a, b) for a, b in zip(first, folds.split(places, 5, seed), strict=True))


def test_seeds_differ_and_folds_are_random():
    places = np.arange(500)
    drawn = [folds.split(places, 5, seed) for seed in range(4)]
    assert len({tuple(found[0].tolist()) for found in drawn}) == 4
    for found in drawn:
        assert all(150 < fold.mean() < 350 for fold in found), "no fold is a stretch of the corpus"


def test_the_rest_may_not_be_lost_and_too_few_are_refused():
    assert [fold.size for fold in folds.split(np.arange(9), 5, 0)] == [1, 1, 1, 1, 5]
    with pytest.raises(AffectError, match="data.folds is 5, and the training part has 4 utterances"):
        folds.split(np.arange(4), 5, 0)


def test_a_fold_has_to_have_what_it_is_judged_by():
    classes, some = ("calm", "glad", "sad"), np.array([1.0, np.nan], np.float32)
    folds.check(np.array([2, 0, 1, -100]), some, classes, 1, 0)
    with pytest.raises(AffectError, match="fold 3 of seed 7 has no utterance of the class glad: give fewer data.folds"):
        folds.check(np.array([2, 0, -100, 2]), some, classes, 3, 7)
    with pytest.raises(AffectError, match="fold 3 of seed 7 has no utterance with a valence"):
        folds.check(np.array([2, 0, 1]), some[1:], classes, 3, 7)


def test_the_parts_of_a_task_are_its_folds(tmp_path_factory):
    whole = tasks.make(small.recipe(small.corpus(tmp_path_factory.mktemp("corpus") / "c")))
    assert whole.folds() == [1, 2]
    train = set(np.array(whole.examples.ids)[whole.corpus.indices("train")])
    valid = []
    for seed in (0, 1):
        for fold in whole.folds():
            parts = whole.for_fold(seed, fold).datasets()
            mine, rest = set(parts["valid"]["id"][:]), set(parts["train"]["id"][:])
            assert mine | rest == train and not mine & rest
            for test in ("test1", "test2", "test3"):
                assert len(parts[test]) == 20
                assert not set(parts[test]["id"][:]) & train
            valid.append(mine)
    assert not valid[0] & valid[1] and not valid[2] & valid[3]
    assert valid[0] != valid[2], "another seed has other folds"


def test_one_fold_alone_is_that_fold(tmp_path_factory):
    root = small.corpus(tmp_path_factory.mktemp("corpus") / "c")
    alone = tasks.make(small.with_(small.recipe(root), data__fold=2))
    assert alone.folds() == [2]
    whole = tasks.make(small.recipe(root))
    assert alone.for_fold(0, 2).datasets()["valid"]["id"][:] == whole.for_fold(0, 2).datasets()["valid"]["id"][:]
