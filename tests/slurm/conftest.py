"""A real Slurm for the tests here; skipped with a word where it can't be started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm import cluster
from tests.slurm.cluster import Cluster


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory, own_cache: Path, small_corpus: Path) -> Iterator[Cluster]:
    """Two nodes on this machine, up for the session; nothing of it is left at its end."""
    why = cluster.absent()
    if why is not None:
        pytest.skip(why)
    made = cluster.make(tmp_path_factory.mktemp("slurm") / "slurm", [Path(sys.executable).parent])
    made.environment.update(
        AFFECT_TEST_CORPUS=str(small_corpus), OMP_NUM_THREADS="1", AFFECT_THREADS="1", VENV="", ENGINE="cpu_2"
    )
    try:
        made.start()
        yield made
    finally:
        made.stop()
