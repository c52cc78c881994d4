"""What is done when memory runs out: half the budget, here or in the next session."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from affect.errors import AffectError, LostError
from affect.recipe import Train
from affect.training import memory
from affect.training.run_state import State
from affect.training.step import OutVotedError

SHORT = torch.OutOfMemoryError("CUDA out of memory.")


def engine(world: int) -> SimpleNamespace:
    return SimpleNamespace(world=world, rank=1, accelerated=False, on_main=lambda work: work())


@pytest.mark.parametrize(
    ("mode", "then"), [("hold", "replay"), ("mixed", "replay"), ("replay", "replay"), ("one pass", "one pass")]
)
@pytest.mark.parametrize(("world", "error"), [(1, SHORT), (1, MemoryError()), (2, OutVotedError("rank 1"))])
def test_the_step_is_repeated_at_half_the_budget(tmp_path, mode, then, world, error):
    state = State(budget=3.0, mode=mode)
    assert memory.is_short(error)
    memory.halve(engine(world), state, 0.5, tmp_path, error)
    assert (state.budget, state.mode) == (1.5, then)
    assert list(tmp_path.iterdir()) == []


def test_single_examples_are_the_least(tmp_path):
    with pytest.raises(AffectError, match="even for single examples: CUDA out of memory"):
        memory.halve(engine(1), State(budget=0.9, mode="replay"), 0.5, tmp_path, SHORT)


def test_what_others_can_not_repeat_is_left_to_the_next_session(tmp_path):
    with pytest.raises(LostError, match=r"rank 1 ran out of memory; give the command again.* 1.5 at most") as lost:
        memory.halve(engine(2), State(budget=3.0, mode="hold"), 0.5, tmp_path, SHORT)
    assert lost.value.code == 75
    for budget, then in ((4.0, 1.5), (1.0, 1.0)):
        state = State(budget=budget, mode="hold")
        told = memory.settle(engine(2), Train(), state, replace(state), tmp_path)
        assert state.budget == then
        assert (told == []) == (budget == then)
        assert state.mode == ("hold" if told == [] else "replay")


@pytest.mark.parametrize(("named", "then"), [(3.0, 1.5), (4.0, 1.5), (2.0, 2.0), (1.0, 1.0)])
def test_a_named_budget_is_believed_unless_it_is_the_one_that_failed(tmp_path, named, then):
    with pytest.raises(LostError):
        memory.halve(engine(2), State(budget=3.0, mode="hold"), 0.5, tmp_path, SHORT)
    state = State(budget=8.0)
    memory.settle(engine(2), Train(budget=named), state, State(budget=named, mode="hold"), tmp_path)
    assert state.budget == then


def test_a_command_that_is_given_again_and_again_comes_to_an_end(tmp_path):
    budget, sessions = 3.0, 0
    while budget > 0.5:
        state = State(budget=8.0)
        memory.settle(engine(2), Train(budget=3.0), state, State(budget=3.0, mode="hold"), tmp_path)
        assert state.budget == budget
        with pytest.raises(AffectError) as lost:
            memory.halve(engine(2), state, 0.5, tmp_path, SHORT)
        budget, sessions = budget / 2, sessions + 1
    assert sessions == 3
    assert lost.value.code == 2


def test_no_limit_and_an_unreadable_one(tmp_path):
    assert memory.settle(engine(1), Train(), State(budget=3.0), State(budget=3.0), tmp_path) == []
    (tmp_path / memory.LIMIT).write_text("{")
    with pytest.raises(AffectError, match="does not hold a budget: remove it"):
        memory.settle(engine(1), Train(), State(budget=3.0), State(budget=3.0), tmp_path)


def test_other_errors_are_no_want_of_memory():
    assert not memory.is_short(ValueError("out of range"))
