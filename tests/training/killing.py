"""Saves that are killed at each of the places where they touch the disk; run as a program of its own.

`python -m tests.training.killing FOLDER` leaves in FOLDER/<case>/<n> what a SIGKILL at the n-th place leaves of a
folder that was whole, until a save that nothing killed; every save is a process of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

from affect.training import atomic_swap, checkpoint
from tests.training.part import Part

TOUCHES = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.copyfile")
OLD, NEW = 3, 6
CASES = ("checkpoint", "best", "best by renames")


class Killer:
    """Kills its process at the n-th touch of the disk below `folder`."""

    def __init__(self, folder: Path, at: int):
        self.folder, self.at, self.count = str(folder), at, 0

    def touch(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        # Names inside a folder that is being removed are told without it.
        inside = event in ("os.remove", "os.rmdir") or self.folder in str(arguments[:1])
        if event in TOUCHES and inside:
            self.touch()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def touching(*arguments: Any, **named: Any) -> Any:
            self.touch()
            result = function(*arguments, **named)
            self.touch()
            return result

        return touching

    def half(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def writing(tensors: Any, path: str) -> None:
            self.touch()
            function(tensors, path)
            if self.count + 1 == self.at:
                os.truncate(path, os.path.getsize(path) // 2)
            self.touch()

        return writing


def refuse(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def save(part: Part, folder: Path, case: str) -> None:
    if case == "checkpoint":
        part.save(folder / "checkpoints", NEW, best=None)
    else:
        part.save_best(folder / "checkpoints", NEW)


def kill(top: Path, case: str) -> None:
    part = Part(steps=OLD)
    base = top / "base"
    (base / "checkpoints").mkdir(parents=True)
    (base / "recipe.json").write_text("{}\n")
    part.save(base / "checkpoints", OLD, best=0.5 if case != "checkpoint" else None, best_step=OLD)
    if case != "checkpoint":
        part.save_best(base / "checkpoints", OLD)
    part.step()
    for n in range(1, 1000):
        folder = top / str(n)
        shutil.copytree(base, folder)
        child = os.fork()
        if child == 0:
            killer = Killer(folder, n)
            os.fsync = killer.around(os.fsync)
            atomic_swap.exchange = killer.around(refuse if case == "best by renames" else atomic_swap.exchange)
            checkpoint.save_file = killer.half(safetensors.torch.save_file)
            sys.addaudithook(killer.hear)
            save(part, folder, case)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return


if __name__ == "__main__":
    for each in CASES:
        kill(Path(sys.argv[1]) / each, each)
