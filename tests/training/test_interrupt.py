"""Signals that ask a run to stop: heard while one trains, and by nobody else."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch

from affect.errors import StoppedError
from affect.training import signals

ALONE = SimpleNamespace(world=1)


def ask(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def patient():
    """Handlers that fail the test, in place of the defaults that would kill it."""

    def unheard(number, frame):
        raise AssertionError("not heard")

    before = {number: signal.signal(number, unheard) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield unheard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_a_signal_is_heard_and_acted_on_where_it_is_asked_for(patient, number, code):
    with signals.heard():
        signals.check(ALONE, "nowhere")
        ask(number)
        with pytest.raises(StoppedError, match="stopped: saved at step 4; give the command again") as stop:
            signals.check(ALONE, "saved at step 4")
    assert stop.value.code == code
    assert signal.getsignal(number) is patient, "restored"
    with signals.heard():
        signals.check(ALONE, "forgotten")


def test_sigterm_counts_for_more(patient):
    with signals.heard():
        ask(signal.SIGUSR1)
        ask(signal.SIGTERM)
        with pytest.raises(StoppedError) as stop:
            signals.check(ALONE, "")
    assert stop.value.code == 143


def test_before_the_first_step_it_stops_at_once_and_is_heard_once(patient):
    reached = []

    @signals.stoppable
    def prepare() -> None:
        ask(signal.SIGUSR1)
        reached.append("after")

    with pytest.raises(StoppedError, match="nothing to save") as stop, signals.heard(at_once=True):
        try:
            prepare()
        finally:
            ask(signal.SIGUSR1)  # from who wants to be sure, while all is being closed
    assert stop.value.code == 75
    assert reached == []


@pytest.mark.parametrize(("flags", "code"), [((0.0, 1.0, 1.0), 75), ((1.0, 1.0, 0.0), 143), ((2.0, 0.0, 0.0), 143)])
def test_what_any_rank_heard_stops_all(patient, flags, code):
    engine = SimpleNamespace(world=2, device="cpu", sum=lambda mine: mine + torch.tensor(flags))
    with signals.heard():
        with pytest.raises(StoppedError) as stop:
            signals.check(engine, "")
        assert stop.value.code == code
        ask(signal.SIGTERM)  # the launcher ends a rank whose neighbour has ended already


@pytest.mark.parametrize("mine", [False, True])
@pytest.mark.parametrize("theirs", [0.0, 1.0])
def test_what_is_due_on_any_rank_is_due_on_all(mine, theirs):
    engine = SimpleNamespace(world=2, device="cpu", sum=lambda flags: flags + torch.tensor([0.0, 0.0, theirs]))
    assert signals.check(engine, "", due=mine) == (mine or theirs > 0)
    assert signals.check(ALONE, "", due=mine) == mine


def test_other_threads_hear_nothing_and_change_nothing(patient):
    def work() -> None:
        with signals.heard():
            assert signal.getsignal(signal.SIGTERM) is patient

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_no_run_that_failed_hides_it():
    assert not issubclass(StoppedError, Exception)
