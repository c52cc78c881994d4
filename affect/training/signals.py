"""Signals that ask a run to stop: heard by a process, agreed on by all, acted on between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import torch

from affect import process
from affect.errors import StoppedError
from affect.training.distributed import Engine

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_IMPATIENCE = 5.0
"""Seconds after which a second SIGTERM is meant as one: a batch system and its launcher each send the first."""


class _Heard:
    """What this process has heard, and whether it acts on it at once."""

    def __init__(self) -> None:
        self.number = 0
        self.begun = 0.0
        self.at_once = False
        self.followed = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number:
            # The launcher's end is no impatience of the user's.
            end, self.followed = process.orphaned() and not self.followed, process.orphaned()
            if number == signal.SIGTERM and not end and now - self.begun > _IMPATIENCE:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self.number = signal.SIGTERM if number == signal.SIGTERM else self.number
            return
        self.number, self.begun = number, now
        if self.at_once:
            raise StoppedError(number, "outside of training, with nothing to save")

    def agree(self, number: int) -> None:
        if not self.number:
            self.number, self.begun = number, time.monotonic()


_HEARD = _Heard()


@contextlib.contextmanager
def heard(*, at_once: bool = False) -> Iterator[None]:
    """Let SIGTERM and SIGUSR1 be heard while a run trains; outside of its steps they stop it `at_once`.

    The handlers that were there before are restored, unless the process is about to end. Without effect outside the
    main thread, where no signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    mode, _HEARD.at_once = _HEARD.at_once, at_once
    before = {number: signal.signal(number, _HEARD.hear) for number in _SIGNALS}
    kept = False
    try:
        yield
    except BaseException as error:
        # A launcher ends the rank whose neighbour has ended: not before it has said its last word.
        kept = isinstance(error, StoppedError) or int(os.environ.get("WORLD_SIZE", "1")) > 1
        raise
    finally:
        _HEARD.at_once = mode and not kept
        if not kept:
            for number, handler in before.items():
                # None: one that was not set from Python, and can't be.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            if _HEARD.hear not in before.values():
                _HEARD.number = 0


stoppable = heard(at_once=True)
"""Decorates what SIGTERM and SIGUSR1 stop at once."""


def asked() -> int:
    """Return the signal by which this process was asked to stop, while it is heard; 0 where it was not."""
    return _HEARD.number


def check(engine: Engine, place: str, *, due: bool = False) -> bool:
    """Raise StoppedError on every rank where any of them was asked to stop, saying `place`. A collective.

    Returns whether something is `due` on any rank. One process reads flags; several add three numbers up.
    """
    number = _HEARD.number
    if engine.world > 1:
        flags = [*(number == other for other in _SIGNALS), due]
        total = engine.sum(torch.tensor(flags, dtype=torch.float32, device=engine.device)).tolist()
        due = total.pop() > 0
        # SIGTERM counts for more: it asks for an end, not for a new start.
        number = next((other for other, asked in zip(_SIGNALS, total, strict=True) if asked), 0)
    if number:
        # Heard by all from now on: a launcher that then ends the others is no second stop.
        _HEARD.agree(number)
        raise StoppedError(number, place)
    return due
