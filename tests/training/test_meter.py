"""The meter's line and its flag for a run that starves."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from affect.training.plan import Cut, Micro
from affect.training.trainer import Meter

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
