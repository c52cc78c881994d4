"""The clock of a step: seconds of its phases, for which no host waits."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, Self

import torch

STEP = ("loading", "forward", "exchange", "backward", "update")
"""The phases of a step that are timed, in their order: waiting for data, and what is queued by then, belongs to
loading; waiting for other ranks to exchange, or, inside a backward that reduces, to backward."""


class Clock:
    """Adds up the seconds of a rank's phases while its block is open; `mark` (below) says that one begins.

    On a CPU by the host's clock. On a device by events in its queue, read once they have passed: the last phase of a
    step, its update, is then read with the next one.
    """

    def __init__(self, device: torch.device) -> None:
        module = None if device.type == "cpu" else torch.get_device_module(device)
        self._event: Any = getattr(module, "Event", None)
        self._marks: list[tuple[str, Any]] = []

    def __enter__(self) -> Self:
        global _current
        _current = self
        return self

    def __exit__(self, *_: object) -> None:
        global _current
        _current = None

    def mark(self, phase: str) -> None:
        """Take note that a phase begins."""
        if self._marks and self._marks[-1][0] == phase:
            return
        if self._event is None:
            self._marks.append((phase, time.perf_counter()))
            return
        event = self._event(enable_timing=True)
        event.record()
        self._marks.append((phase, event))

    def read(self) -> dict[str, float]:
        """Return the seconds of each phase since the last reading, by "<phase>_seconds", and end the last one."""
        self.mark("")
        taken, passed = dict.fromkeys(STEP, 0.0), 0
        for (phase, begun), (_, ended) in pairwise(self._marks):
            if self._event is not None and not ended.query():
                break
            passed += 1
            if phase in taken:
                taken[phase] += ended - begun if self._event is None else begun.elapsed_time(ended) / 1e3
        del self._marks[:passed]
        return {f"{phase}_seconds": seconds for phase, seconds in taken.items()}


_current: Clock | None = None


def mark(phase: str) -> None:
    """Tell the clock, where one runs, that a phase begins."""
    if _current is not None:
        _current.mark(phase)
