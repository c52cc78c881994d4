"""What is done when memory runs out: half the budget, here or in the next session."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from affect.errors import AffectError, LostError
from affect.train import memory
from affect.train.state import State
from affect.train.step import OutVotedError

SHORT = torch.OutOfMemoryError("CUDA out of memory.")


def engine(world: int) -> SimpleNamespace:
    return SimpleNamespace(world=world, rank=1, device=torch.device("cpu"), on_main=lambda work: work())


@pytest.mark.parametrize(("mode", "then"), [("hold", "replay"), ("replay", "replay"), ("one pass", "one pass")])
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
    with pytest.raises(LostError, match=r"rank 1 ran out of memory.*--train.budget auto.* 1.5 at most") as lost:
        memory.halve(engine(2), State(budget=3.0, mode="hold"), 0.5, tmp_path, SHORT)
    assert lost.value.code == 1
    for budget, then in ((4.0, 1.5), (1.0, 1.0)):
        state = State(budget=budget, mode="hold")
        told = memory.heed(engine(2), state, tmp_path)
        assert state.budget == then
        assert (told is None) == (budget == then)
        assert state.mode == ("hold" if told is None else "replay")


def test_no_limit_and_an_unreadable_one(tmp_path):
    assert memory.heed(engine(1), State(budget=3.0), tmp_path) is None
    (tmp_path / memory.LIMIT).write_text("{")
    with pytest.raises(AffectError, match="does not hold a budget: remove it"):
        memory.heed(engine(1), State(budget=3.0), tmp_path)


def test_other_errors_are_no_want_of_memory():
    assert not memory.is_short(ValueError("out of range"))
