"""What the tests of faults compare with: runs that nothing happened to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests import forked
from tests.faults.harness import ENGINES, Forked, Launched, Ranked

NAMES = {"ddp": "DDP", "zero2": "ZeRO-2"}
"""What a run says that it is on."""


@pytest.fixture(scope="session")
def whole(small_corpus, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run of one process."""
    # Loaded once, not by every process that is forked from here.
    forked.preload()
    session = Forked(small_corpus, tmp_path_factory.mktemp("whole"))
    assert session.end() == 0, session.text()
    return session.folder


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request) -> str:
    """An engine of two ranks."""
    return request.param


@pytest.fixture(scope="module")
def whole_of_two(engine, small_corpus, whole, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run of two ranks; `whole` has filled the caches."""
    # By torchrun where nothing else is there to look at; it costs imports.
    begin = Launched if engine == "ddp" else Ranked
    session = begin(engine, small_corpus, tmp_path_factory.mktemp(engine))
    assert session.end() == 0, session.text()
    assert f"engine {NAMES[engine]}, 2 ranks" in session.text()
    return session.folder


@pytest.fixture
def draw() -> np.random.Generator:
    """What chance is drawn from; its seed is printed, and AFFECT_TEST_SEED repeats it."""
    seed = int(os.environ.get("AFFECT_TEST_SEED") or time.time_ns() % 2**32)
    print(f"AFFECT_TEST_SEED={seed}")
    return np.random.default_rng(seed)
