"""The clock of a step, on the host and by events of a device's queue."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from affect.training import clock
from affect.training.clock import STEP, Clock


@pytest.fixture
def host(monkeypatch):
    """Seconds that the host's clock shows."""
    shown = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: shown.seconds)
    return shown


def go_through(timer: Clock, host, phases: list[tuple[str, float]]) -> None:
    with timer:
        for phase, seconds in phases:
            clock.mark(phase)
            host.seconds += seconds


def test_phases_add_up_and_what_is_no_part_of_a_step_is_left_out(host):
    timer = Clock(torch.device("cpu"))
    steps = [
        ("loading", 1.0),
        ("forward", 2.0),
        ("backward", 4.0),
        ("forward", 2.0),
        ("backward", 4.0),
        ("update", 8.0),
    ]
    go_through(timer, host, [*steps, ("evaluating", 99.0), ("evaluating", 99.0), ("loading", 1.0)])
    found = timer.read()
    assert found == {
        "loading_seconds": 2.0, "forward_seconds": 4.0, "exchange_seconds": 0.0, "backward_seconds": 8.0,
        "update_seconds": 8.0,
    }  # fmt: skip
    host.seconds += 50.0
    go_through(timer, host, [("forward", 3.0)])
    assert sum(timer.read().values()) == 3.0, "since the last reading"


def test_without_a_clock_a_mark_is_nothing(host):
    timer = Clock(torch.device("cpu"))
    with timer:
        pass
    clock.mark("forward")
    assert set(timer.read().values()) == {0.0}


def test_a_devices_phases_are_read_when_they_have_passed(host, monkeypatch):
    """The host runs ahead of the queue: nothing waits, and what has not passed comes with the next reading."""
    passed = 0.0

    class Event:
        def __init__(self, enable_timing: bool):
            assert enable_timing

        def record(self) -> None:
            self.at = host.seconds

        def query(self) -> bool:
            return self.at <= passed

        def elapsed_time(self, later: Event) -> float:
            assert later.query(), "one that has not passed would be an error"
            return 1e3 * (later.at - self.at)

    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(Event=Event))
    timer = Clock(torch.device("meta"))
    go_through(timer, host, [("loading", 1.0), ("forward", 2.0), ("update", 4.0)])
    passed = 3.5
    first = timer.read()
    assert [first[f"{phase}_seconds"] for phase in STEP] == [1.0, 2.0, 0.0, 0.0, 0.0]
    go_through(timer, host, [("loading", 1.0), ("forward", 2.0), ("update", 4.0)])
    passed = 99.0
    second = timer.read()
    assert [second[f"{phase}_seconds"] for phase in STEP] == [1.0, 2.0, 0.0, 0.0, 8.0]
