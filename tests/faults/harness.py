"""Real sessions of a run: started by a launcher, signalled or killed from outside, and given again until they end."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from affect import cli
from tests import forked
from tests.faults import recipe

ROOT = Path(__file__).parents[2]
RECIPE = Path(__file__).parent / "recipe.py"
MARK = "AFFECT_FAULTS_SESSION"
WORLD = 2
_TORCHRUN = ["-m", "torch.distributed.run", f"--nproc_per_node={WORLD}", "--standalone", "--shutdown-timeout=3"]
_ZERO = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
ENGINES = {"ddp": {"ACCELERATE_USE_CPU": "true"}, "zero2": {**_ZERO, "ACCELERATE_MIXED_PRECISION": "no"}}
"""What the ranks of an engine have in their environment."""


class Session:
    """One session of a run in `folder`/runs: from the command to its end; nothing of it may be left then."""

    def __init__(self, folder: Path):
        self.folder = folder / "runs" / "small" / "seed0" / "fold1"
        self.said = folder / "said.txt"

    def processes(self) -> list[psutil.Process]:
        """Return what is alive of this session, workers included."""
        raise NotImplementedError

    def poll(self, timeout: float = 0.0) -> int | None:
        """Return the exit code, once there is one."""
        raise NotImplementedError

    def ranks(self) -> list[psutil.Process]:
        """Return the processes of the ranks in their order, without their workers."""
        raise NotImplementedError

    def workers(self) -> list[psutil.Process]:
        """Return the processes that decode for the ranks."""
        return [child for rank in self.ranks() for child in rank.children()]

    def steps(self) -> int:
        """Return the last step that was written."""
        return max((line["step"] for line in lines(self.folder)), default=0)

    def wait(self, until: Callable[[], object], timeout: float = 120) -> None:
        """Wait until something is true of a session that goes on."""
        end = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < end, f"waited in vain\n{self.text()}"
            assert self.poll() is None, f"ended before its time\n{self.text()}"
            time.sleep(0.01)

    def wait_step(self, step: int) -> None:
        """Wait until a step was written."""
        self.wait(lambda: self.steps() >= step)

    def end(self, timeout: float = 120) -> int:
        """Wait for the end and return the exit code; asserts that soon nothing of the session is left."""
        try:
            code = self.poll(timeout)
            assert code is not None, f"did not end\n{self.text()}"
            until = time.monotonic() + 20
            while (left := self.processes()) and time.monotonic() < until:
                time.sleep(0.05)
            assert not left, f"left behind: {[process.cmdline() for process in left]}\n{self.text()}"
            return code
        finally:
            self.clear()

    def clear(self) -> None:
        """Kill what is left of the session."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.poll(10)

    def text(self) -> str:
        """Return what the session said."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    def errors(self) -> list[str]:
        """Return its lines that are errors."""
        return [line for line in self.text().splitlines() if line.startswith("error: ")]


class Launched(Session):
    """A session of two ranks, started by torchrun: seconds pass before they begin."""

    def __init__(self, engine: str, root: Path, folder: Path, *arguments: str, fault: str = ""):
        super().__init__(folder)
        self.mark = uuid.uuid4().hex
        named = {"OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        environment = {
            **os.environ,
            **named,
            **ENGINES[engine],
            MARK: self.mark,
            "FAULT": fault,
            "PYTHONPATH": str(ROOT),
        }
        with self.said.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *_TORCHRUN, str(RECIPE), *words(root, folder, arguments)],
                cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def poll(self, timeout: float = 0.0) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout)
        return None

    def processes(self) -> list[psutil.Process]:
        return [process for process in _living() if _environment(process).get(MARK) == self.mark]

    def ranks(self) -> list[psutil.Process]:
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.ppid() == self.process.pid and "RANK" in _environment(process):
                    found[int(_environment(process)["RANK"])] = process
        return [found[rank] for rank in sorted(found)]


class Forked(Session):
    """A session of one process, forked from this one, whose libraries are loaded: it begins at once."""

    def __init__(self, root: Path, folder: Path, *arguments: str, fault: str = "", said: str = "said.txt"):
        super().__init__(folder)
        self.said = folder / said
        folder.mkdir(exist_ok=True)
        self.said.touch()
        given = words(root, folder, arguments)
        self.process = multiprocessing.get_context("fork").Process(target=self._begin, args=(given, fault))
        self.process.start()

    def _begin(self, given: list[str], fault: str) -> None:
        forked.speak(self.said, self.said)
        _run(given, fault)

    def poll(self, timeout: float = 0.0) -> int | None:
        self.process.join(timeout)
        return self.process.exitcode

    def processes(self) -> list[psutil.Process]:
        return [process for process in _living() if _group(process) == self.process.pid]

    def ranks(self) -> list[psutil.Process]:
        return [psutil.Process(self.process.pid)]


class Ranked(Forked):
    """A session of two ranks, forked by a launcher that is forked from this process: it begins at once, too.

    The launcher hands no signal on, and dies of each; its exit code is the ranks' highest, as srun's is.
    """

    def __init__(self, engine: str, root: Path, folder: Path, *arguments: str, fault: str = ""):
        self.engine = engine
        super().__init__(root, folder, *arguments, fault=fault)

    def ranks(self) -> list[psutil.Process]:
        return sorted(psutil.Process(self.process.pid).children(), key=lambda child: child.pid)

    def _begin(self, given: list[str], fault: str) -> None:
        forked.speak(self.said, self.said)
        os.environ.update(ENGINES[self.engine])
        sys.exit(forked.world(WORLD, lambda: _run(given, fault)))


def _run(given: list[str], fault: str) -> None:
    """Be a process of a forked session."""
    sys.argv = [str(RECIPE)]
    recipe.faulty(fault)
    cli.launch({"small": recipe.small}, given)


def words(root: Path, folder: Path, arguments: Sequence[str]) -> list[str]:
    return ["small", "--data.root", str(root), "--runs", str(folder / "runs"), "--no-report", *arguments]


def _living() -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _group(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return 0


def lines(folder: Path) -> list[dict[str, object]]:
    """Return the whole lines of a run's metrics."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder) if line["event"] == "step"]


def same(folder: Path, whole: Path) -> None:
    """Hold that a run wrote what an uninterrupted one did, byte for byte, and left nothing half done."""
    for name in ("metrics.jsonl", "predictions-valid.jsonl", "predictions-test.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    left = [path.name for path in folder.rglob("*") if path.suffix in (".tmp", ".old")]
    assert left == []
