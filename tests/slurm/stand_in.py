"""A program that ends as a run would and takes no time: it writes when it began and which signal came.

FOLDER, and the code with which its second start and later ones end. AT_ONCE names the folds whose first start ends at
once, with 0; SLOW the rank that is told to stop and does not come to its end; WRONG the one that makes a mistake, of
which the others know no more than that it is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from affect.cli.terminal import guarded
from affect.errors import AffectError, LostError, StoppedError

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
rank, fold = os.environ["SLURM_PROCID"], os.environ.get("SLURM_ARRAY_TASK_ID", "")
name = "-".join(filter(None, [fold, os.environ.get("SLURM_RESTART_COUNT", "0"), rank]))


def stop(number: int, frame: FrameType | None) -> None:
    """Write which signal came, and end: to be started again after SIGUSR1 alone."""
    (folder / f"signal-{name}").write_text(str(number))
    if rank == os.environ.get("SLOW"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        raise StoppedError(number, "nothing was to be saved")


def run() -> None:
    """Wait to be told to stop, unless this is no first start."""
    signal.signal(signal.SIGUSR1, stop)
    signal.signal(signal.SIGTERM, stop)
    (folder / f"began-{name}").write_text(" ".join(sys.argv[2:]))
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        sys.exit(int(sys.argv[2]))
    if "WRONG" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        # Slurm kills who is slow to end: all have begun before one of them ends.
        while len([*folder.glob("began-*")]) < int(os.environ["SLURM_NTASKS"]):
            time.sleep(0.05)
        if rank == os.environ["WRONG"]:
            raise AffectError("a mistake")
        time.sleep(1)
        raise LostError("another rank of this run was lost")
    end = time.monotonic() + 280
    while (not fold or fold not in os.environ.get("AT_ONCE", "").split()) and time.monotonic() < end:
        time.sleep(1)


guarded(run)
