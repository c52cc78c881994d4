"""Programs forked from a process whose libraries are loaded: they begin at once, and cost no imports."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import io
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from tqdm import tqdm

from affect.process import PARENT

_GRACE = 3.0
"""Seconds that the other ranks have when one has failed, as with srun --kill-on-bad-exit."""


_LONGEST = 300
"""Seconds that a program may take: one that hangs is ended."""
_EVERYWHERE = ("tyro", "torch._dynamo", "affect.experiments.folds", "affect.tasks.emotion.model", "affect.data.prosody")
_WITH_DEEPSPEED = ("transformers.integrations.deepspeed", "deepspeed.runtime.zero.muon.muon_optimizer")
"""What DeepSpeed loads for every engine: most of torch's compiler."""


def preload() -> None:
    """Load here once what every forked process would load."""
    for name in (*_EVERYWHERE, *(_WITH_DEEPSPEED if importlib.util.find_spec("deepspeed") else ())):
        importlib.import_module(name)


def program(work: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    """Return how a process ends that is forked from here to do `work` as a program of its own would."""
    preload()
    # No TemporaryDirectory: the end of the forked process would remove it, too.
    folder = Path(tempfile.mkdtemp())
    out, err = folder / "out.txt", folder / "err.txt"

    def begin() -> None:
        speak(out, err)
        # What is loaded is no garbage: each end of a run looks for some.
        gc.freeze()
        os.environ.update({"OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
        _be(work)

    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    process.join(_LONGEST)
    try:
        if process.exitcode is None:
            assert process.pid is not None
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            pytest.fail(f"not done within {_LONGEST} s: {err.read_text()[-3000:]}")
        return subprocess.CompletedProcess([], process.exitcode, out.read_text(), err.read_text())
    finally:
        shutil.rmtree(folder)


def speak(out: Path, err: Path) -> None:
    """Let a forked process be the first of a session of its own, and write all it says to files."""
    os.setsid()
    for path in (out, err):
        path.write_bytes(b"")
    for number, path in ((1, out), (2, err)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
    # tqdm's own is shared by all that are forked from one process: one that is killed inside would keep it for ever.
    tqdm.set_lock(threading.RLock())


def world(ranks: int, work: Callable[[], object]) -> int:
    """Be the launcher of `ranks` ranks that do `work`, and return the highest of their exit codes, as srun does.

    No signal is handed on. What an engine needs in the environment stands there already.
    """
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    world = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({**world, "MASTER_PORT": str(port), PARENT: str(os.getpid())})
    left: dict[int, int] = {}
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank)})
            _be(work)
        left[child] = rank
    return _wait(left)


def _be(work: Callable[[], object]) -> None:
    """Do what a process was forked for, and end as a program of its own would."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(left: dict[int, int]) -> int:
    """Wait for ranks by their process ids, end the others when one has failed, and return the highest exit code."""
    highest, deadline = 0, float("inf")
    while left:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            code = os.waitstatus_to_exitcode(status)
            print(f"rank {left.pop(child)}\n  exitcode : {code}", file=sys.stderr, flush=True)
            highest = max(highest, code if code >= 0 else 128 - code)
            deadline = time.monotonic() + _GRACE if code and deadline == float("inf") else deadline
        elif time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGTERM if time.monotonic() < deadline + _GRACE else signal.SIGKILL)
            time.sleep(0.2)
        time.sleep(0.01)
    return highest
