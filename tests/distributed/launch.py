"""Runs a worker on several real ranks and returns what each printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch.distributed.run as torchrun
from accelerate.commands.launch import launch_command, launch_command_parser

from affect.cli import guarded
from tests import forked

ROOT = Path(__file__).parents[2]
Said = list[dict[str, Any]]


def launch(main: Callable[[], object], *words: str, ranks: int = 2, accelerate: Sequence[str] | None = None) -> Said:
    """Return the last JSON line of each rank, in rank order, of `ranks_of`; asserts that all end well."""
    done = ranks_of(main, *words, ranks=ranks, accelerate=accelerate)
    assert done.returncode == 0, done.stderr[-4000:]
    return said_by(done.stdout, ranks)


def ranks_of(
    main: Callable[[], object], *words: str, ranks: int = 2, accelerate: Sequence[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return how several ranks end that are forked from here and call `main` with `words` as their arguments.

    `accelerate` are options of `accelerate launch`, which reads its file and sets the environment as ever: only
    torchrun, which it would call in the end, is replaced. Without them the ranks find DDP.
    """

    def begin(_: object = None) -> None:
        sys.exit(forked.world(ranks, lambda: guarded(main)))

    def work() -> None:
        sys.argv = ["worker", *words]
        if accelerate is None:
            os.environ["ACCELERATE_USE_CPU"] = "true"
            begin()
        else:
            torchrun.run = begin
            command = [*accelerate, "--num_processes", str(ranks), *sys.argv]
            launch_command(launch_command_parser().parse_args(command))

    return forked.program(work)


def started(script: str, *arguments: str) -> Said:
    """Return the last JSON line of each of two ranks, in order, of programs of their own that torchrun starts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*command, script, *arguments], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return said_by(done.stdout, 2)


def said_by(text: str, ranks: int) -> Said:
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
