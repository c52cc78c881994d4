"""All seeds and folds of a recipe as processes of their own: one a device, or a few at once on a CPU.

Those that ran as jobs of a cluster are only concluded here: their report, and what did not come to its end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from affect import process, tasks
from affect.errors import AffectError, StoppedError
from affect.experiments import folds
from affect.experiments.progress_table import Display, Progress
from affect.options import Options
from affect.recipe import Recipe, differences
from affect.training import hardware, run_dir, signals
from affect.training.schedule import Schedule

_LOOK = 0.2
"""Seconds between two looks at the runs."""
_PATIENCE = 10.0
"""Seconds that an interrupted run has to end by itself."""
_SAVING = 110.0
"""Seconds that a run which is told to stop has to come to the end of its step and to save: slurm/ asks for 120."""
_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OUTPUT = "output.log"
"""What a run of `affect folds` wrote to its screen, in its folder."""
_SLURM = re.compile(r"(srun|slurmstepd\S*|slurmd\S*): ")


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where one run at a time goes: its name in the table, and the environment that puts a process there."""

    name: str
    environment: dict[str, str]


@dataclass(kw_only=True)
class Job:
    """One seed and fold: the words that give it to the recipe file, and its process while it runs."""

    progress: Progress
    words: list[str]
    slot: Slot | None = None
    process: subprocess.Popen[bytes] | None = None
    begun: int = 0


def slots(devices: str | None, jobs: int | None) -> list[Slot]:
    """Return where runs go: the GPUs that `devices` lists (0,1,2), or `jobs` places on a CPU.

    With neither, every GPU, or a place for two cores each. The cores are shared out, unless AFFECT_THREADS (or
    OMP_NUM_THREADS) says how many threads a run has. Raises AffectError for a device that is not there.
    """
    if devices is not None and jobs is not None:
        raise AffectError("--devices and --jobs are one or the other: a run a GPU, or N runs on a CPU")
    if jobs is not None and jobs < 1:
        raise AffectError(f"--jobs must be positive, not {jobs}")
    cores, there = hardware.cores(), _gpus()
    if devices is None and (jobs is not None or not there):
        count = jobs or max(1, cores // 2)
        return [Slot(name="cpu", environment={"CUDA_VISIBLE_DEVICES": "", **_threads(cores // count)})] * count
    chosen = [str(number) for number in range(len(there))] if devices is None else devices.replace(" ", "").split(",")
    for number in chosen:
        if not number.isdecimal():
            raise AffectError(f"--devices must list numbers of GPUs, as 0,1,2, not {devices!r}")
        if not there:
            raise AffectError(f"--devices names {number}, but no GPU is here: give --jobs N to use the CPU")
        if int(number) >= len(there):
            raise AffectError(f"--devices names {number}, but the GPUs here are 0 to {len(there) - 1}")
        if chosen.count(number) > 1:
            raise AffectError(f"--devices must name each GPU once, not {devices!r}")
    threads = _threads(cores // len(chosen))
    return [
        Slot(name=f"gpu {number}", environment={"CUDA_VISIBLE_DEVICES": there[int(number)], **threads})
        for number in chosen
    ]


@signals.stoppable
def run(
    script: Path, experiment: str, recipe: Recipe, options: Options, arguments: Sequence[str], *,
    places: Sequence[Slot], precision: str | None, command: str,
) -> tuple[Path, list[Progress]]:  # fmt: skip
    """Run every seed and fold of the recipe that is not finished; return the experiment's folder and all runs.

    `arguments` are the fields given for the experiment, without those that say which seeds, or how to start anew. A
    run that fails has the state `failed` and a line that says why; the others go on. Raises AffectError before
    anything starts where a folder holds another recipe; an interruption ends every run. SIGTERM and SIGUSR1 are handed
    on: every run saves and ends, and so does this one, with a StoppedError.
    """
    top = run_dir.experiment_folder(options.runs, experiment, options.name)
    jobs = plan(script, experiment, recipe, options, arguments, top)
    extra = {"AFFECT_COMMAND": command, "PYTHONUNBUFFERED": "1"}
    if precision is not None:
        extra["ACCELERATE_MIXED_PRECISION"] = precision
    display = Display(sys.stdout)
    for job in jobs:
        if job.progress.state == "finished":
            display.say(f"{job.progress.folder} is finished: skipped (--overwrite runs it again)")
    with _interruptible(), signals.heard(), display:
        try:
            _work(jobs, places, extra, display)
        finally:
            _stop(jobs, signal.Signals(signals.asked() or signal.SIGINT))
    if options.report:
        folds.conclude(options.runs, top)
    return top, [job.progress for job in jobs]


def plan(
    script: Path, experiment: str, recipe: Recipe, options: Options, arguments: Sequence[str], top: Path
) -> list[Job]:
    """Return the runs, their folders claimed; the corpus is read and what is computed of it is cached here, once."""
    if recipe.train.world not in (None, 1):
        raise AffectError(f"train.world asks for {recipe.train.world} processes, but each fold has one here")
    whole = tasks.make(recipe)
    jobs = []
    for seed, number in folds.units(recipe, whole.folds(), options):
        task = whole.for_fold(seed, number)
        folder = folds.folder_of(top, seed, number)
        done = run_dir.claim(folder, task.recipe, experiment=experiment, overwrite=options.overwrite)
        lengths = np.asarray(task.datasets()["train"]["length"][:], dtype=np.float64)
        schedule = Schedule(lengths, recipe.train, seed, 1, 1.0)
        progress = Progress(
            seed=seed, fold=number, folder=folder, steps=schedule.steps,
            epochs=schedule.epochs, unit=whole.unit,
            shown=tuple(measure.name for measure in whole.measures if measure.headline),
        )  # fmt: skip
        if done:
            progress.state = "finished"
            progress.look()
        words = [str(script), experiment, *arguments, "--seeds", str(seed), "--no-report"]
        data = task.recipe.to_dict()
        # What makes a fold's recipe differ from the experiment's; the seed has its own argument.
        for name in differences(recipe.to_dict(), data):
            words += [] if name == "seed" else [f"--{name}", str(reduce(getitem, name.split("."), data))]
        jobs.append(Job(progress=progress, words=words))
    return jobs


def _work(jobs: list[Job], places: Sequence[Slot], extra: dict[str, str], display: Display) -> None:
    free = list(places)
    while True:
        for job in jobs:
            if job.process is not None and job.process.poll() is not None:
                assert job.slot is not None
                free.append(job.slot)
                _end(job, display)
            if job.progress.state == "waiting" and free:
                _start(job, free.pop(0), extra)
            if job.progress.state == "running":
                job.progress.look()
        going = any(job.process is not None for job in jobs)
        display.show([job.progress for job in jobs], now=not going)
        if not going:
            return
        if number := signals.asked():
            raise StoppedError(number, "every run that was begun is saved where it stands")
        time.sleep(_LOOK)


def _start(job: Job, slot: Slot, extra: dict[str, str]) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in _LAUNCHER}
    path = job.progress.folder / OUTPUT
    try:
        with path.open("ab") as file:
            job.begun = file.tell()
            # A group of its own: an interruption reaches it and its workers through this process alone, once.
            job.process = subprocess.Popen(
                [sys.executable, *job.words], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env={**kept, **slot.environment, **extra, process.PARENT: str(os.getpid())}, start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise AffectError(f"could not start {job.progress.name}: {error.strerror or error}") from error
    job.slot, job.progress.place, job.progress.state = slot, slot.name, "running"


def _end(job: Job, display: Display) -> None:
    """Take note of how a run ended, and see that nothing of it is left."""
    assert job.process is not None
    code, run = job.process.returncode, job.progress
    _kill(job.process, signal.SIGKILL)
    job.process = None
    run.look()
    run.state = "finished" if code == 0 else "failed"
    if code != 0:
        run.error = _why(run.folder / OUTPUT, job.begun, code)
        display.say(f"{run.name} failed: {run.error} (all it said: {run.folder / OUTPUT})")


def _why(path: Path, begun: int, code: int) -> str:
    """Return why a run failed, in one line: its own error, else its last words."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (": out of memory, perhaps" if name == "SIGKILL" else "")
    with path.open("rb") as file:
        file.seek(begun)
        return last_words(file.read().decode("utf-8", "replace")) or f"ended with {code}"


def last_words(text: str) -> str:
    """Return why a process ended, in a line of its log: its own error, else why Slurm ended it, else its last words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    ended = [line.strip("* ") for line in lines if _SLURM.match(line) and " DUE TO " in line]
    own = [line for line in lines if not _SLURM.match(line)]
    return (errors or ended or own or lines or [""])[-1]


def _stop(jobs: list[Job], number: signal.Signals) -> None:
    """Send runs the signal `number`, and kill what is left of them after a while."""
    running = [job.process for job in jobs if job.process is not None]
    for child in running:
        if number == signal.SIGINT:
            _kill(child, number)
        else:
            # Its workers still have to decode the step that it is in.
            child.send_signal(number)
    end = time.monotonic() + (_PATIENCE if number == signal.SIGINT else _SAVING)
    for child in running:
        try:
            # An impatient second Ctrl-C ends the wait, not the killing.
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                child.wait(max(0.0, end - time.monotonic()))
        finally:
            _kill(child, signal.SIGKILL)
            child.wait()


def _kill(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let a closed terminal end this as Ctrl-C does, and no run outlive it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _gpus() -> list[str]:
    """Return the GPUs that a process started here may be given, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return [part.strip() for part in named.split(",")][:count] if named else [str(number) for number in range(count)]


def _threads(share: int) -> dict[str, str]:
    most = os.environ.get("AFFECT_THREADS") or os.environ.get("OMP_NUM_THREADS") or str(max(1, share))
    return {name: os.environ.get(name) or most for name in ("AFFECT_THREADS", "OMP_NUM_THREADS")}


def conclude(experiment: str, recipe: Recipe, options: Options, logs: str | None) -> tuple[Path | None, list[str]]:
    """Write the report over the runs that are finished; return its folder (None of none) and why others are not.

    The recipe says which seeds and folds there should be; `logs` is where the log of a fold's job is, with {fold} in
    the place of its number. Nothing is trained.
    """
    top = run_dir.experiment_folder(options.runs, experiment, options.name)
    units = folds.units(recipe, tasks.make(recipe).folds(), options)
    left = [unit for unit in units if not run_dir.finished(folds.folder_of(top, *unit))]
    if len(left) < len(units) and options.report:
        folds.conclude(options.runs, top)
    return (top if len(left) < len(units) else None), [_unfinished(top, *unit, logs) for unit in left]


def _unfinished(top: Path, seed: int, fold: int, logs: str | None) -> str:
    """Return in a line how far a run came that is not at its end, and why it ended."""
    folder = folds.folder_of(top, seed, fold)
    steps = [line["step"] for line in run_dir.read_lines(folder / "metrics.jsonl") if line.get("event") == "step"]
    state = f"stopped after step {steps[-1]}" if steps else "did not begin"
    log = folder / OUTPUT if logs is None else Path(logs.replace("{fold}", str(fold)))
    why = f"there is no {log}"
    if log.is_file():
        why = f"{last_words(log.read_text(encoding='utf-8', errors='replace')) or 'its log is empty'} ({log})"
    return f"seed{seed}/fold{fold} {state}: {why}"
