"""Starts a worker script in several real processes and returns what each printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def launch(script: str, *arguments: str, ranks: int = 2, timeout: float = 240) -> list[dict[str, Any]]:
    """Return the last JSON line of each rank, in rank order; asserts that the world has `ranks` ranks."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--standalone"]
    done = subprocess.run(
        [*command, script, *arguments], capture_output=True, text=True, timeout=timeout, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return said_by(done.stdout, ranks)


def said_by(text: str, ranks: int) -> list[dict[str, Any]]:
    """Return the last JSON line of each rank, in rank order; asserts that the world has `ranks` ranks."""
    found = {said["rank"]: said for said in _objects(text) if "rank" in said}
    assert sorted(found) == list(range(ranks)), f"expected {ranks} ranks, heard of {sorted(found)}"
    assert all(line["world"] == ranks for line in found.values())
    return [found[rank] for rank in range(ranks)]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects in `text`; two ranks' may stand on one line."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place != -1:
        try:
            found, place = decoder.raw_decode(text, place)
            yield found
        except json.JSONDecodeError:  # an engine's own words
            place += 1
        place = text.find("{", place)
