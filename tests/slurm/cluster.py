"""A real Slurm of two nodes on this machine: its own munge, controller and daemons, all below one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo", "setpriv")
NODES = ("n1", "n2")
# Devices that there are everywhere stand for GPUs: Slurm counts and hands them out, and torch finds none.
_DEVICES = ("null", "zero", "full", "random")
_CONFIGURATION = """\
ClusterName=affect
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
KillWait=5
MinJobAge=3000
JobRequeue=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


@dataclass
class Cluster:
    """A running Slurm: its folder, the environment that its clients need, and what was started for it."""

    folder: Path
    environment: dict[str, str]
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str | Path, folder: Path | None = None, **environment: str) -> str:
        """Return what a command of Slurm's printed; asserts that it succeeded."""
        done = subprocess.run(
            [str(word) for word in command], cwd=folder or self.folder, env={**self.environment, **environment},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *command: str | Path, folder: Path, **environment: str) -> str:
        """Submit a batch job and return its number."""
        return self.run("sbatch", "--parsable", *command, folder=folder, **environment).split(";")[0]

    def jobs(self, number: str) -> list[dict[str, str]]:
        """Return what Slurm says of a job, or of every task of an array."""
        said = self.run("scontrol", "--oneliner", "show", "job", number)
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in said.splitlines()]

    def ended(self, number: str, timeout: float = 480) -> list[dict[str, str]]:
        """Wait until a job (all tasks of an array) has ended and return what Slurm says of it."""
        going = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED")
        until(lambda: all(job["JobState"] not in going for job in self.jobs(number)), timeout, self.said)
        return self.jobs(number)

    def left(self) -> set[str]:
        """Return the jobs and tasks of arrays that still wait or run."""
        return set(self.run("squeue", "--noheader", "--array", "--format=%i").split())

    def said(self) -> str:
        """Return the queue and the last lines of every log, for a test that waited in vain."""
        logs = [f"{path}: {path.read_text(errors='replace')[-1500:]}" for path in self.folder.glob("*.log")]
        return "\n".join([self.run("squeue", "--all"), *logs])

    def start(self) -> None:
        """Start every daemon and wait until both nodes are idle."""
        munge = self.folder / "munge"
        self._daemon(
            "munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
            f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--force",
        )  # fmt: skip
        until((munge / "socket").exists, 10, (munge / "output").read_text)
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        until(self._idle, 30, lambda: "the nodes of the test's Slurm did not come up")

    def _daemon(self, name: str, *options: str) -> None:
        # Where the tests themselves are killed, nobody else would end it.
        command = ["setpriv", "--pdeathsig", "TERM", shutil.which(name, path=_path()) or name, *options]
        with (self.folder / "munge" / "output").open("ab") as file:
            self.daemons.append(
                subprocess.Popen(
                    command, env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                    start_new_session=True,
                )
            )  # fmt: skip

    def _idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"], env=self.environment, capture_output=True, text=True,
            check=False, timeout=30,
        )  # fmt: skip
        return done.stdout.split() == ["idle"] * len(NODES)

    def stop(self) -> None:
        """Cancel what still runs and end every daemon."""
        cancel = ["scancel", "--full", "--signal=KILL", "--user=root"]
        subprocess.run(cancel, env=self.environment, capture_output=True, check=False, timeout=30)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def absent() -> str | None:
    """Return why no Slurm can be started here, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "a Slurm of two nodes is started by root alone"


def make(folder: Path, path: Sequence[str | Path] = ()) -> Cluster:
    """Return a cluster in `folder`, configured and not yet started; `path` comes first in its jobs' PATH."""
    for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    control, *ports = free_ports(1 + len(NODES))
    host = socket.gethostname()
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=1000 Gres=gpu:4"
        for node, port in zip(NODES, ports, strict=True)
    )
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, host=host, control=control, nodes=nodes))
    lines = [f"NodeName={','.join(NODES)} Name=gpu File=/dev/{device}\n" for device in _DEVICES]
    (folder / "gres.conf").write_text("".join(lines))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    search = ":".join([*map(str, path), _path()])
    return Cluster(folder, {**kept, "SLURM_CONF": str(configuration), "PATH": search})


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, each once."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(made.getsockname()[1]) for made in sockets]
    for made in sockets:
        made.close()
    return ports


def until(true: Callable[[], bool], timeout: float, why: Callable[[], str]) -> None:
    """Wait until `true()`, and fail with `why()` where that takes too long."""
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end, why()
        time.sleep(0.1)


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
