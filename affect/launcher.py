"""One task of srun becomes one rank: Accelerate's launch file, Slurm's world, and the program in the task's place."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from affect.errors import AGAIN, AffectError, first_line, nearest, no_file
from affect.process import NOBODY, PARENT

CONFIGURATIONS = "accelerate_configs"
"""The folder of launch files that are named as engines."""
_PORTS, _STEPS = range(10000, 30000), 16
"""Below those that a kernel gives out by itself; a job has as many of its own."""
_LOOK, _PATIENCE = 0.1, 10.0
"""Seconds between two looks at the ranks, and that they have to end once one of them has failed."""


def place(environment: Mapping[str, str]) -> dict[str, int]:
    """Return the place that Slurm gave to this task, by torchrun's variables. Raises AffectError where it is no task.

    A group is a node: its number, and how many there are.
    """
    if "SLURM_JOB_ID" not in environment:
        raise AffectError(
            "affect launch makes a rank of each task of srun, and no Slurm is here: give accelerate launch "
            "--config_file accelerate_configs/ddp.yaml RECIPE.py EXPERIMENT"
        )
    if "SLURM_STEP_ID" not in environment:
        # The job's script has a SLURM_PROCID too: without this, one process would wait for all others.
        raise AffectError("affect launch is for the tasks of srun, and this is the job's script: put srun before it")
    try:
        node = int(environment["SLURM_NODEID"])
        counts = tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        return {
            "RANK": int(environment["SLURM_PROCID"]), "WORLD_SIZE": int(environment["SLURM_STEP_NUM_TASKS"]),
            "LOCAL_RANK": int(environment["SLURM_LOCALID"]), "LOCAL_WORLD_SIZE": counts[node],
            "GROUP_RANK": node, "GROUP_WORLD_SIZE": len(counts),
        }  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise AffectError(f"Slurm does not say where this task is ({error}): give the job to srun anew") from error


def tasks_per_node(text: str) -> list[int]:
    """Return the tasks of each node from Slurm's short form: 2(x3),1 is 2, 2, 2, 1. Raises ValueError."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"no number of tasks: {text!r}")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def port(job: int, step: int) -> int:
    """Return the port at which the ranks of a step meet: another for each of the 1,250 jobs before and after it."""
    return _PORTS[(job * _STEPS + step % _STEPS) % len(_PORTS)]


def address(environment: Mapping[str, str], nodes: int) -> str:
    """Return the address of the step's first node, where rank 0 is. Raises AffectError where nobody knows it."""
    if nodes == 1:
        return "127.0.0.1"
    listed = environment["SLURM_STEP_NODELIST"]
    name = _scontrol("show", "hostnames", listed).split()[0]
    try:
        socket.getaddrinfo(name, None)
        return name
    except OSError:
        # Slurm's name of a node need not be the network's.
        match = re.search(r"\bNodeAddr=(\S+)", _scontrol("--oneliner", "show", "node", name))
        if match is None:
            raise AffectError(f"the node {name} has no address here: export MASTER_ADDR in the job's script") from None
        return match[1]


def _scontrol(*words: str) -> str:
    if shutil.which("scontrol") is None:
        raise AffectError(
            "scontrol is not here (a container?), so the first node's address is unknown: export MASTER_ADDR in the "
            "job's script"
        )
    done = subprocess.run(["scontrol", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AffectError(f"scontrol {' '.join(words)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def ranks(environment: Mapping[str, str], where: Mapping[str, int]) -> dict[str, str]:
    """Return the variables that torchrun would set for a rank; a meeting place named in the environment is kept."""
    return {
        **{name: str(value) for name, value in where.items()},
        "MASTER_ADDR": environment.get("MASTER_ADDR") or address(environment, where["GROUP_WORLD_SIZE"]),
        "MASTER_PORT": environment.get("MASTER_PORT")
        or str(port(int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"]))),
    }


def configuration(engine: str) -> Path:
    """Return the launch file of an engine by its name: accelerate_configs/<engine>.yaml, here or beside the package."""
    folders = [Path(CONFIGURATIONS), Path(__file__).resolve().parents[1] / CONFIGURATIONS]
    files = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.yaml")}
    if not files:
        raise AffectError(f"no folder {CONFIGURATIONS} here: run from the project's folder, or give --config-file")
    if engine not in files:
        raise AffectError(f"unknown engine {engine!r}; {nearest(engine, files)}")
    return files[engine]


def environment_of(
    path: Path | None, script: Path, arguments: Sequence[str], where: Mapping[str, int],
    around: Mapping[str, str] | None = None,
) -> dict[str, str]:  # fmt: skip
    """Return the whole environment of a rank: what Accelerate makes of the launch file at `path`, and its place.

    The number of processes in the file does not matter; None is no file, and Accelerate's usual values. `around` is
    the environment that says where the ranks meet, here this process's. Raises AffectError for a file that can't be
    read, or that asks for what affect has no engine for.
    """
    if path is not None and not path.is_file():
        raise no_file("launch file", path)
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        prepared, sharded = _prepared(path, script, arguments, where["WORLD_SIZE"])
    except (YAMLError, ValueError, TypeError, KeyError, AttributeError, ImportError, RecursionError) as error:
        raise AffectError(f"{path or 'this'} can't be used as a launch file: {first_line(error)}") from error
    if where["WORLD_SIZE"] > 1 or sharded:
        # Of the environment that came here: where one node starts one process, Accelerate writes a port of its own.
        return {**prepared, **ranks(os.environ if around is None else around, where)}
    return prepared


def _prepared(path: Path | None, script: Path, arguments: Sequence[str], world: int) -> tuple[dict[str, str], bool]:
    """Return Accelerate's environment, and whether the engine needs a world even of one."""
    from accelerate.commands import launch
    from accelerate.utils import launch as environments

    words = ["--config_file", str(path)]
    if path is None:
        # Named, since Accelerate warns of each value that it takes by itself.
        words = ["--num_processes", str(world), "--num_machines", "1", "--mixed_precision", "no"]
        words += ["--dynamo_backend", "no", *(["--multi_gpu"] if world > 1 else [])]
    given = launch.launch_command_parser().parse_args([*words, str(script), *arguments])
    settings, defaults, precision = launch._validate_launch_command(given)
    for kind, asked in (("TPU", settings.tpu), ("Megatron-LM", settings.use_megatron_lm)):
        if asked:
            raise ValueError(f"affect has no engine for {kind}")
    # One node, as far as Accelerate knows: it starts nobody here, and would look for hosts and for a free port.
    settings.num_processes, settings.num_machines, settings.machine_rank, settings.main_process_port = world, 1, 0, 0
    if settings.use_deepspeed:
        fields = [*defaults.deepspeed_config, *(["mixed_precision"] if precision else [])]
        settings.deepspeed_fields_from_accelerate_config = ",".join(fields)
        return dict(environments.prepare_deepspeed_cmd_env(settings)[1]), True
    if settings.multi_gpu or settings.use_fsdp:
        return dict(environments.prepare_multi_gpu_env(settings)), bool(settings.use_fsdp)
    return dict(environments.prepare_simple_launcher_cmd_env(settings)[1]), False


def start(path: Path, script: Path, arguments: Sequence[str], command: str) -> NoReturn:
    """Become the rank: the script takes this process's place, so that Slurm's signals reach it and nobody else.

    `command` is what a report shows. Raises AffectError for what the user can mend.
    """
    where = place(os.environ)
    if not script.is_file():
        raise no_file("recipe file", script)
    made = environment_of(path, script, arguments, where)
    made.setdefault("AFFECT_COMMAND", command)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvpe(sys.executable, [sys.executable, str(script), *arguments], made)


def start_here(
    path: Path | None, count: int | None, script: Path, arguments: Sequence[str], command: str
) -> int:  # fmt: skip
    """Run the script as the processes of this machine, and return the exit code that says most of them.

    How many: `count`, else what the launch file at `path` says (without one Accelerate's default file, where there is
    one), else one a GPU and one without any. A single one takes this process's place. Raises AffectError for what the
    user can mend.
    """
    if not script.is_file():
        raise no_file("recipe file", script)
    if count is not None and count < 1:
        raise AffectError(f"--num-processes must be positive, not {count}")
    path = path or usual_file()
    world = count or _processes(path)
    where = {
        "RANK": 0, "WORLD_SIZE": world, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0,
        "GROUP_WORLD_SIZE": 1,
    }  # fmt: skip
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    made = environment_of(path, script, arguments, where, {**meeting, **os.environ})
    made.setdefault("AFFECT_COMMAND", command)
    program = [sys.executable, str(script), *arguments]
    if world == 1:
        # Nobody stands between it and the terminal, so it follows nobody: a shell that is left may end before it.
        os.execvpe(sys.executable, program, {**made, PARENT: NOBODY})
    return _together(program, [{**made, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(world)])


def usual_file() -> Path | None:
    """Return the launch file that `accelerate config` wrote, where it did."""
    from accelerate.commands.config.config_args import default_config_file

    path = Path(default_config_file)
    return path if path.is_file() else None


def _processes(path: Path | None) -> int:
    """Return how many processes a launch file asks for; without one, a process a GPU. Raises AffectError."""
    import torch

    if path is None:
        return max(1, torch.cuda.device_count())
    from accelerate.commands.config.config_args import load_config_from_file

    if not path.is_file():
        raise no_file("launch file", path)
    try:
        asked = load_config_from_file(str(path))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AffectError(f"{path} can't be used as a launch file: {first_line(error)}") from error
    if int(asked.num_machines or 1) > 1:
        raise AffectError(f"{path} is of {asked.num_machines} machines: give accelerate launch on each, or use srun")
    return int(asked.num_processes or 1)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _together(program: Sequence[str], environments: Sequence[Mapping[str, str]]) -> int:
    """Run a process in each environment; what a terminal or a batch system signals is handed on to all, once."""
    ranks: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            rank.send_signal(number)

    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    # nohup's word counts: what is not to end with its terminal ignores the signal already.
    before = {n: signal.signal(n, hand_on) for n in heard if signal.getsignal(n) != signal.SIG_IGN}
    try:
        for environment in environments:
            own = {**environment, PARENT: str(os.getpid())}
            ranks.append(subprocess.Popen(program, env=own, stdin=subprocess.DEVNULL, start_new_session=True))
        return _ended(ranks)
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
                rank.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended(ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all ranks, not for ever for those of a run that lost one; return the exit code that says most."""
    lost = 0.0
    # All of them are asked each time: one that ended is known as ended by that alone.
    while None in (codes := [rank.poll() for rank in ranks]):
        if any(codes) and not lost:
            lost = time.monotonic()
        late = time.monotonic() - lost if lost else 0.0
        for rank in ranks if late > _PATIENCE else ():
            if rank.poll() is None:
                rank.send_signal(signal.SIGTERM if late < 2 * _PATIENCE else signal.SIGKILL)
        time.sleep(_LOOK if late < _PATIENCE else _PATIENCE / 2)
    # A rank that was killed, or lost another, asks to be started again; one that failed of itself knows why.
    own = [code for code in codes if code and code > 0 and code != AGAIN]
    return own[0] if own else AGAIN if any(codes) else 0
