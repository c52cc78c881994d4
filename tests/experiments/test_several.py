"""Suites: members that the command line makes equal, and what they leave behind."""

from __future__ import annotations

from dataclasses import replace

from affect.experiments import Suite, several
from affect.options import Options
from affect.recipe import Optim
from affect.report import suites
from affect.report.suites import Compared
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


def test_a_suite_leaves_behind_what_its_members_are_compared_with(tmp_path, monkeypatch):
    monkeypatch.setattr(several.folds, "run", lambda name, *given: tmp_path / name)
    members = {"whole": recipe(), "fast": replace(recipe(), optim=Optim(lr=0.5))}
    options, commands = Options(runs=tmp_path / "runs", name="x"), dict.fromkeys(members, "")
    for reference, kept in ((None, {}), ("whole", {"changes": "whole-x"}), ("fast", {"changes": "fast-x"})):
        suite = Suite(members=tuple(members), reference=reference)
        assert several.run_suite("changes", suite, members, options, commands) == (None, {})
        found = suites.read(tmp_path / "runs")
        assert found == {k: Compared(reference=v, members=("whole-x", "fast-x")) for k, v in kept.items()}
