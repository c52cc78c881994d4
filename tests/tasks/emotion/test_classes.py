"""Which emotions are told apart."""

from __future__ import annotations

import pytest

from affect.errors import AffectError
from affect.tasks.emotion.corpus import choose


def test_iemocap_has_four_classes_with_excited_as_happy():
    found = choose((), "iemocap", ["ang", "exc", "hap", "neu", "sad", "fru", "xxx"])
    assert found.names == ("ang", "hap", "neu", "sad")
    assert [found.name(emotion) for emotion in ("exc", "hap", "fru", "")] == ["hap", "hap", None, None]


def test_other_corpora_have_all_their_emotions():
    assert choose((), "emodb", ["fear", "anger", "", "fear"]).names == ("anger", "fear")


def test_a_recipe_may_join_emotions():
    found = choose(("sad", "ang+fru"), "iemocap", ["sad", "ang", "fru"])
    assert (found.names, found.index("fru")) == (("sad", "ang"), 1)


@pytest.mark.parametrize(
    ("spelt", "emotions", "said"),
    [
        (("sad", "angr"), ["sad", "ang"], "no utterance is 'angr'; did you mean 'ang'"),
        (("sad", "ang+sad"), ["sad", "ang"], "name each emotion once"),
        (("sad",), ["sad", "ang"], "at least two classes"),
        ((), ["", ""], "has none"),
    ],
)
def test_bad_classes_are_named(spelt, emotions, said):
    with pytest.raises(AffectError, match=said):
        choose(spelt, "emodb", emotions)
