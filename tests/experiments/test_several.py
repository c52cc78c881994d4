"""Suites: members that the command line makes equal."""

from __future__ import annotations

from dataclasses import replace

from affect.experiments import several
from affect.recipe import Optim
from tests.training.toy_task import recipe


def test_of_members_with_equal_recipes_the_first_is_run_and_the_others_are_named(caplog):
    base = recipe()
    other = replace(base, optim=Optim(lr=0.5))
    members = {"whole": base, "narrow": replace(base), "fast": other, "plain": replace(base)}
    assert several.distinct(members) == {"whole": base, "fast": other}
    (line,) = caplog.messages
    assert line.endswith("equal: narrow is whole, plain is whole")
    caplog.clear()
    assert several.distinct({"whole": base, "fast": other}) == {"whole": base, "fast": other}
    assert not caplog.messages
