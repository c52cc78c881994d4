"""The watchdog: a run whose ranks wait for one that hangs ends, and says which one it was.

Every rank tells the others, through the store that its process group was made by, where it is. One whose own place has
not moved for too long reads what the others said, names the hindmost and ends its process. A backstop: a rank that dies
is noticed by the collectives themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from affect import process
from affect.errors import AGAIN
from affect.training import clock
from affect.training.distributed import Engine

PHASES = ("preparing", "measuring", "resuming", *clock.STEP, "evaluating", "saving")
"""What a rank does before the first step, and in each, in their order."""
_PREPARING = 12 * 3600.0
"""Seconds that preparing may take: one rank may fill the caches of a whole corpus while the others wait."""
_COLLECTIVES = "distributed_c10d.py:"
"""The file of torch that a rank is in while it waits for others."""
_KEEPER = "the process that keeps the ranks' store (rank 0, or the launcher)"
_EVERY = 1.0
"""Seconds between two publications."""
_ANSWER = 10.0
"""Seconds that the store and the other ranks have to answer a last question."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a rank says that it is."""

    rank: int
    host: str
    step: int
    phase: str
    seconds: float
    """Since when it is there."""
    where: str
    """The line of code that its main thread is at."""
    beat: int
    """Publications so far: a rank that is stopped, or gone, publishes no more."""


def hindmost(places: Sequence[Place], silent: Sequence[Place]) -> str:
    """Return in words which ranks keep the others waiting: those that are silent, else those furthest behind."""
    if silent:
        names = "; ".join(f"rank {p.rank} ({p.host}), last seen at step {p.step}, {p.phase}" for p in silent)
        return f"no sign of life from {names}"
    order = [(place.step, PHASES.index(place.phase)) for place in places]
    level = [place for place, progress in zip(places, order, strict=True) if progress == min(order)]
    # Of several at the same place, those inside a collective wait for one that is not.
    behind = [place for place in level if not place.where.startswith(_COLLECTIVES)] or level
    return "; ".join(
        f"rank {p.rank} ({p.host}) has been at step {p.step}, {p.phase}, for {p.seconds:.0f} s, in {p.where}"
        for p in behind
    )


class Watchdog:
    """Watches the ranks of a run while its block is open; `mark` (below) says that this one has moved."""

    def __init__(self, engine: Engine, log: Path, minutes: float):
        """Watch for a rank that stays at a place for `minutes` (preparing: longer); what ends the run goes to `log`."""
        self.engine, self.log, self.seconds = engine, log, 60 * minutes
        self._at = (0, PHASES[0], time.monotonic())
        self._main = threading.get_ident()
        self._over = threading.Event()
        self._beat = 0
        self._stores: list[Any] = []
        if engine.world > 1:
            store: Any = torch.distributed.distributed_c10d._get_default_store()
            # Clones: a request that waits for an answer keeps its connection, and each thread asks for itself.
            self._stores = [store.clone(), store.clone()]

    def __enter__(self) -> Watchdog:
        global _current
        _current = self
        self.mark(PHASES[0])
        if self._stores:
            threading.Thread(target=self._publish, name="places", daemon=True).start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = None
        self._over.set()

    def mark(self, phase: str, step: int | None = None) -> None:
        """Take note that this rank has come to a phase of its step, or of another (from 1)."""
        self._at = (self._at[0] if step is None else step, phase, time.monotonic())

    def _place(self) -> Place:
        step, phase, since = self._at
        where = "an ended thread"
        if frame := sys._current_frames().get(self._main):
            last = traceback.extract_stack(frame, limit=1)[0]
            where = f"{Path(last.filename).name}:{last.lineno} {last.name}"
        return Place(
            rank=self.engine.rank, host=socket.gethostname(), step=step, phase=phase,
            seconds=time.monotonic() - since, where=where, beat=self._beat,
        )  # fmt: skip

    def _publish(self) -> None:
        # A store whose host is gone has nobody to tell.
        with contextlib.suppress(RuntimeError):
            while not self._over.is_set():
                self._beat += 1
                self._stores[0].set(_key(self.engine.rank), json.dumps(asdict(self._place())))
                self._over.wait(_EVERY)

    def _watch(self) -> None:
        while not self._over.wait(min(_EVERY, self.seconds / 4)):
            _, phase, since = self._at
            if time.monotonic() - since > (max(_PREPARING, self.seconds) if phase == "preparing" else self.seconds):
                self._end()

    def _end(self) -> None:
        """Say who is behind, once for all ranks, and end the process."""
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(self._ask()), daemon=True)
        asking.start()
        asking.join(_ANSWER + 3 * _EVERY)
        behind = answers[0] if answers else f"{_KEEPER} does not answer"
        if self._over.is_set():
            return
        if behind:
            line = (
                f"error: no progress for {time.monotonic() - self._at[2]:.0f} s (train.timeout): {behind}; "
                "give the command again: it goes on from its last checkpoint\n"
            )
            # Not through the log, whose locks the main thread may hold.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as file:
                file.write(line)
        process.ask_again()
        os._exit(AGAIN)

    def _ask(self) -> str:
        """Return who is behind, or nothing where another rank says so."""
        if not self._stores:
            return hindmost([self._place()], [])
        store = self._stores[1]
        store.set_timeout(timedelta(seconds=_ANSWER))
        try:
            # The first to ask speaks for all.
            if store.add("affect/watchdog", 1) > 1:
                time.sleep(3 * _EVERY)
                return ""
            before = self._places(store)
            time.sleep(2.5 * _EVERY)
            after = self._places(store)
        except RuntimeError:
            return f"{_KEEPER} is gone"
        silent = [place for rank, place in after.items() if rank in before and before[rank].beat == place.beat]
        return hindmost(list(after.values()), silent)

    def _places(self, store: Any) -> dict[int, Place]:
        ranks = [rank for rank in range(self.engine.world) if store.check([_key(rank)])]
        return {rank: Place(**json.loads(store.get(_key(rank)))) for rank in ranks}


_current: Watchdog | None = None


def mark(phase: str, step: int | None = None) -> None:
    """Tell the watchdog and the clock, where there are any, that this rank has come to a phase of a step (from 1)."""
    clock.mark(phase)
    if _current is not None:
        _current.mark(phase, step)


def _key(rank: int) -> str:
    return f"affect/place/{rank}"
