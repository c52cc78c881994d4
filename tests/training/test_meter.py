"""The meter's line and its flag for a run that starves."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from affect.training.costs import Costs
from affect.training.plan import Cut, Micro
from affect.training.trainer import Meter, pace

LENGTHS = np.array([2.0, 4.0, 3.0])
CUT = Cut(((Micro((0, 1)),), (Micro((2,)),)))


@pytest.fixture
def meter(caplog):
    caplog.set_level(logging.INFO, logger="affect")
    return Meter("s of audio", workers=2)


def test_a_step_of_two_ranks(meter):
    timing = meter.time(LENGTHS, CUT, seconds=3.0, waited=0.3, memory=2**30)
    assert timing["units_per_second"] == pytest.approx(9.0 / 3.0), "the audio of both ranks"
    assert timing["padding"] == pytest.approx(1 - 9.0 / (2 * 4.0 + 3.0))
    assert timing["waiting"] == pytest.approx(0.1)


@pytest.mark.parametrize(("waited", "flagged"), [(0.5, False), (3.0, True)])
def test_waiting_over_a_tenth_is_flagged(meter, caplog, waited, flagged):
    for _ in range(2):
        meter.time(LENGTHS, CUT, seconds=10.0, waited=waited, memory=2**30)
    meter.report(epoch=0, last=False)
    line = next(r.message for r in caplog.records if r.levelname == "INFO")
    assert line.startswith("epoch 1: 0.9 s of audio a second, padding 18 %, waiting for data")
    assert "memory 1.00 GB" in line
    said = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert bool(said) == flagged
    assert all("raise --train.workers (now 2)" in message for message in said)


def test_short_epochs_share_a_line(meter, caplog):
    for epoch in range(4):
        meter.time(LENGTHS, CUT, seconds=4.0, waited=0.0, memory=1)
        meter.report(epoch, last=epoch == 3)
    assert [r.message.split(":")[0] for r in caplog.records] == ["epoch 3", "epoch 4"]


def test_a_long_run_has_a_line_a_minute_and_an_advice_once(meter, caplog):
    for epoch in range(40):
        meter.time(LENGTHS, CUT, seconds=9.0, waited=3.0, memory=1)
        meter.report(epoch, last=False)
    # 18 s, then each 63 s.
    told = [r.message.split(":")[0] for r in caplog.records if r.levelname == "INFO"]
    assert told == [f"epoch {2 + 7 * k}" for k in range(6)]
    assert sum("raise --train.workers" in r.message for r in caplog.records) == 1


# Drift from the costs

COSTS = Costs(1.0, 0.5, 0.0)


def test_the_slowest_rank_is_predicted(meter):
    timing = meter.time(LENGTHS, CUT, seconds=3.0, waited=0.0, memory=1, costs=COSTS)
    assert timing["predicted"] == pytest.approx(1.0 + 2 * 4.0 * 0.5)
    assert "predicted" not in meter.time(LENGTHS, CUT, seconds=3.0, waited=0.0, memory=1)


def drifted(caplog, meter, paces, predicted=5.0) -> list[str]:
    for epoch, times in enumerate(paces):
        for k in range(3):
            # One step in three is disturbed, and counts for nothing.
            seconds = predicted * times * (9.0 if k == 1 else 1.0)
            meter.time(LENGTHS, CUT, seconds=seconds, waited=0.0, memory=1, costs=COSTS)
        meter.report(epoch, last=True)
    return [r.message for r in caplog.records if r.levelname == "WARNING"]


def test_a_drift_from_the_costs_is_said_once(meter, caplog):
    assert drifted(caplog, meter, (1.3, 1.3, 1.6, 1.0)) == [], "within 1.5 times of the first epoch"
    (line,) = drifted(caplog, meter, (2.6, 2.6, 2.4))
    assert line.startswith("epoch 1: steps take 2.60 times what the costs say, and took 1.30 times before")
    assert len(drifted(caplog, meter, (9.0, 1.0, 9.0))) == 2, "one in ten minutes of steps"


def test_a_few_short_steps_tell_nothing_of_a_drift(meter, caplog):
    assert drifted(caplog, meter, (1.0, 9.0), predicted=0.05) == []


def test_a_resumed_run_is_compared_with_its_first_epoch(caplog):
    lines = [{"seconds": 10.0, "waiting": 0.5, "predicted": 10.0}, {"seconds": 2.0, "waiting": 0.0}]
    assert pace(lines) == 0.5
    assert pace(lines[1:]) is None
    assert len(drifted(caplog, Meter("s of audio", 2, usual=pace(lines)), (1.0,))) == 1
    caplog.clear()
    assert drifted(caplog, Meter("s of audio", 2, usual=pace(lines)), (0.6,)) == []
