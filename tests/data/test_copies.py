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


def test_of_many_pairs_the_first_are_told():
    many = {"train": [(f"a{k}", str(k)) for k in range(9)], "test": [(f"b{k}", str(k)) for k in range(9)]}
    assert copies.told(copies.pairs(many)[0]).endswith("a4 (train) = b4 (test) and 4 more")
