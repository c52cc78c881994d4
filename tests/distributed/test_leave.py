"""A process that was one of several ends whole: all that waits for its end runs, its exit code is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.launch import started

WORKER = str(Path(__file__).parent / "leave_worker.py")


@pytest.mark.distributed
def test_everything_that_waits_for_the_end_runs_and_nothing_after_it():
    assert [rank["left"] for rank in started(WORKER)] == [True, True]


@pytest.mark.distributed
def test_a_mistake_ends_every_rank_with_2():
    with pytest.raises(AssertionError, match=r"(?s)error: a mistake.*exitcode +: 2"):
        started(WORKER, "wrong")
