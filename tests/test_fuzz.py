"""Every reader answers any bytes with what it holds, or with one line; bounded here, an hour in `make soak`."""

from __future__ import annotations

import itertools
import logging
import time
import warnings
from collections.abc import Iterable, Iterator

import pytest

from tests import fuzz_targets

CASES = 40
"""Damaged files a reader."""
LEAST = 5
"""Of them however long they take."""
BOUND, SOAK = (seconds / len(fuzz_targets.ALL) for seconds in (30, 3600))
"""Seconds a reader, of half a minute and of an hour in all."""


def until(seconds: float, seeds: Iterable[int]) -> Iterator[int]:
    """Yield seeds, the first of them in any case and the others until `seconds` have passed."""
    end = time.monotonic() + seconds
    for number_of, seed in enumerate(seeds):
        if number_of >= LEAST and time.monotonic() >= end:
            return
        yield seed


@pytest.fixture(autouse=True)
def quiet():
    """Say nothing of what is left out: thousands of lines."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", sorted(fuzz_targets.ALL))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, name):
    target = fuzz_targets.ALL[name](tmp_path)
    target.read()
    target.attack(until(BOUND, range(CASES)), name)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(fuzz_targets.ALL))
def test_any_bytes_for_an_hour(tmp_path, name):
    target = fuzz_targets.ALL[name](tmp_path)
    target.attack(until(SOAK, itertools.count(CASES)), name)


def test_a_slow_reader_stops_at_its_bound_and_after_some_files(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert list(until(3.0, range(CASES))) == [0, 1, 2, 3, 4, 5, 6]
    assert list(until(-1.0, range(CASES))) == list(range(LEAST))
    assert list(until(1e9, range(CASES))) == list(range(CASES))
