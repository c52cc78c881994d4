"""Every reader answers any bytes with what it holds, or with one line; bounded here, an hour in `make soak`."""

from __future__ import annotations

import itertools
import logging
import time
import warnings

import pytest

from tests import fuzz_targets

CASES = 40
"""Damaged files a reader."""
SECONDS = 3600 / len(fuzz_targets.ALL)


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
    target.attack(range(CASES), name)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(fuzz_targets.ALL))
def test_any_bytes_for_an_hour(tmp_path, name):
    target = fuzz_targets.ALL[name](tmp_path)
    end = time.monotonic() + SECONDS
    target.attack(itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(CASES)), name)
