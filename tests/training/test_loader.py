"""The loader: batches in the plan's order, whatever becomes of the workers that make them."""

from __future__ import annotations

import os
import signal
from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from affect.errors import AffectError
from affect.training import loader
from affect.training.loader import Loader, _died, _Orders


class Squares(torch.utils.data.Dataset):
    """Item n is n squared; at the orders `fatal` the worker that makes it is killed, as often as `times` says."""

    def __init__(self, fatal: int = -1, times: int = 0, marks=None):
        self.fatal, self.times, self.marks = fatal, times, marks

    def __getitem__(self, order):
        if order == self.fatal and len(list(self.marks.iterdir())) < self.times:
            (self.marks / str(len(list(self.marks.iterdir())))).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor(order**2)


@given(st.lists(st.integers(), unique=True), st.lists(st.sampled_from(["give", "take", "again"])))
def test_orders_are_taken_once_and_in_their_turn_whatever_dies(orders, events):
    """The deaths drop all that was given and not taken; a new reader begins where the old one stood."""
    given_out = _Orders(orders)
    reader, waiting, taken = iter(given_out), deque(), []
    for event in events:
        if event == "give" and (order := next(reader, None)) is not None:
            waiting.append(order)
        elif event == "take" and waiting:
            taken.append(waiting.popleft())
            given_out.taken()
        elif event == "again":
            given_out.again()
            reader, waiting = iter(given_out), deque()
    assert [*taken, *waiting, *reader] == orders


def test_a_worker_that_is_killed_changes_no_batch_and_is_told_of_once(tmp_path, caplog):
    batches = Loader(Squares(7, 1, tmp_path), range(20), workers=2, pin=False)
    assert [int(batch) for batch in batches.take(20)] == [n**2 for n in range(20)]
    assert caplog.text.count("a worker of the loader died") == 1


def test_workers_that_die_again_and_again_are_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "_DEATHS", 2)
    batches = Loader(Squares(3, 9, tmp_path), range(20), workers=1, pin=False)
    with pytest.raises(AffectError, match="died 2 times at one place.*a smaller --train.workers"):
        batches.take(4)


@pytest.mark.filterwarnings("error:This DataLoader will create")
def test_on_one_core_there_is_one_worker_and_no_advice_of_torchs():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        batches = Loader(Squares(), range(4), workers=2, pin=False)
        assert len(batches.take(4)) == 4 and batches.workers == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_what_a_worker_raises_is_no_death():
    assert not _died(RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nOriginal ..."))
    assert not _died(FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.\n..."))
    assert not _died(PermissionError("no"))
    assert _died(RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly"))
    assert _died(ConnectionResetError(104, "Connection reset by peer"))


def test_a_death_is_not_raised_wherever_the_main_thread_is(tmp_path):
    """torch would raise it from a signal handler: inside a collective, perhaps."""
    before = signal.getsignal(signal.SIGCHLD)
    Loader(Squares(), range(4), workers=1, pin=False).take(4)
    assert signal.getsignal(signal.SIGCHLD) == before
