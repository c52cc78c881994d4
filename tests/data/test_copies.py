import numpy as np
import pytest

from affect.data import copies
from affect.errors import AffectError

PARTS = {
    "train": [("a", "x"), ("b", "y"), ("c", "x"), ("d", "")],
    "valid": [("e", "z"), ("f", "")],
    "test": [("g", "x"), ("h", "z"), ("i", "w")],
}


def test_pairs_across_parts_and_inside():
    across, inside = copies.pairs(PARTS)
    assert across == [(("train", "a"), ("test", "g")), (("valid", "e"), ("test", "h"))]
    assert inside == [(("train", "a"), ("train", "c"))]


def test_what_is_refused_and_what_is_said(caplog):
    with pytest.raises(AffectError) as caught:
        copies.check("a split", PARTS, "recordings", refuse="remove one")
    assert str(caught.value) == (
        "a split leaks: 2 recordings are in two parts under two names: a (train) = g (test), e (valid) = h (test) "
        "(remove one)"
    )
    copies.check("a split", PARTS, "recordings", refuse=None)
    copies.say("corpus", {"": [("a", "x"), ("b", "x")]}, "recordings")
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "2 recordings are in two parts under two names: a (train) = g (test), e (valid) = h (test)",
        "1 recordings are there under two names: a = b",
    ]
    caplog.clear()
    copies.check("a split", {"train": [("a", "x")], "test": [("b", "y")]}, "recordings", refuse="x")
    copies.say("a split", {"train": [("a", "x")], "test": [("b", "x")]}, "recordings")
    assert not caplog.records


def test_tests_may_share_what_they_like():
    parts = {"train": [("a", "x")], "test1": [("b", "y")], "test2": [("c", "y")]}
    copies.check("a split", parts, "recordings", refuse="x")
    with pytest.raises(AffectError, match=r"a \(train\) = d \(test2\) \(x\)"):
        copies.check("a split", {**parts, "test2": [("c", "y"), ("d", "x")]}, "recordings", refuse="x")


def test_a_digest_is_of_all_arrays_and_none_of_a_few_numbers():
    sound, film = np.random.default_rng(0).normal(size=(2, 5000, 3))
    other = film.copy()
    other[-1, -1] += 1
    whole = copies.digest({"sound": sound, "film": film, "text": None})
    assert whole == copies.digest({"film": film, "sound": sound}) != ""
    others = ({"sound": sound, "film": other}, {"sound": film, "film": sound}, {"sound": sound},
              {"sound": sound[:, :2], "film": film})  # fmt: skip
    assert len({whole, *map(copies.digest, others)}) == 5
    assert copies.digest({}) == copies.digest({"sound": None}) == ""
    assert copies.digest({"sound": np.zeros((5000, 3)), "count": np.arange(6.0)}) == ""
    # A silence before the sound begins hides nothing.
    assert copies.digest({"sound": np.concatenate([np.zeros((5000, 3)), sound])}) != ""


def test_what_many_samples_have_stands_for_what_is_missing():
    assert copies.telling(["x"] * 4 + ["y", "y", ""]) == [""] * 4 + ["y", "y", ""]


def test_of_many_pairs_the_first_are_told():
    many = {"train": [(f"a{k}", str(k)) for k in range(9)], "test": [(f"b{k}", str(k)) for k in range(9)]}
    assert copies.told(copies.pairs(many)[0]).endswith("a4 (train) = b4 (test) and 4 more")
