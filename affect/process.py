"""What a process is to the one that started it: it ends when that one is gone, and tells it when to start it again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

PARENT = "AFFECT_PARENT"
"""Variable by which `affect folds` tells a run which process it is to follow."""
NOBODY = "0"
"""What the same variable says where a run is to follow no process."""
_LAUNCHED = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
"""Variables that torchrun and `accelerate launch` give to the processes that they start."""
_PR_SET_PDEATHSIG = 1
_launcher = 0


def follow_launcher() -> None:
    """Let Linux send this process SIGTERM when the launcher that started it dies; elsewhere nothing is done.

    A launcher that is killed can't tell its processes, which would hold their GPUs for ever.
    """
    global _launcher
    if os.environ.get(PARENT) == NOBODY:
        return
    # Of this process alone: what it starts itself follows nobody by it.
    parent = os.environ.pop(PARENT, None)
    if _launcher or (parent is None and not any(name in os.environ for name in _LAUNCHED)):
        return
    _launcher = int(parent or os.getppid())
    die_with_parent(signal.SIGTERM)
    if orphaned():
        os.kill(os.getpid(), signal.SIGTERM)


def orphaned() -> bool:
    """Tell whether the launcher that this process follows is gone."""
    return _launcher != 0 and os.getppid() != _launcher


def ask_again() -> None:
    """Make the file that AFFECT_AGAIN names, for a batch script that may not see this process's exit code (75).

    Of several ranks the one that is slower to end is killed, and srun then tells of that alone.
    """
    _add_to_mark("")


def refuse_again() -> None:
    """Write into the file that AFFECT_AGAIN names that this run failed of itself, and would fail again.

    Other ranks know no more than that one is lost, and ask to be started again.
    """
    _add_to_mark("a rank failed of itself\n")


def _add_to_mark(words: str) -> None:
    if name := os.environ.get("AFFECT_AGAIN"):
        with contextlib.suppress(OSError), open(name, "a", encoding="utf-8") as file:
            file.write(words)


def die_with_parent(number: signal.Signals) -> None:
    """Let Linux send this process a signal when its parent dies; elsewhere nothing is done."""
    if sys.platform == "linux":
        library: Any = ctypes.CDLL(None, use_errno=True)
        library.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def launched_as() -> list[str]:
    """Return the words that started this process, up to the program: those of its launcher, where one started it."""
    told, program = os.environ.get("AFFECT_COMMAND"), Path(sys.argv[0]).name
    if told is None and not any(name in os.environ for name in _LAUNCHED):
        return ["python"]
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        # Of what this process follows no environment variable tells the words; Linux does.
        words = (
            shlex.split(told) if told else Path(f"/proc/{os.getppid()}/cmdline").read_text(encoding="utf-8").split("\0")
        )
        # A launcher's own script is run by a Python of its own.
        words = words[1:] if Path(words[0]).name.startswith("python") and not words[1].startswith("-") else words
        end = next(k for k, word in enumerate(words) if k and Path(word).name == program)
        return [Path(words[0]).name, *words[1:end]]
    return ["accelerate", "launch"]
