"""A program that ends as a run would and takes no time: it writes which signal came, and ends with its code."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
rank, start = os.environ["SLURM_PROCID"], os.environ.get("SLURM_RESTART_COUNT", "0")


def stop(number: int, frame: FrameType | None) -> None:
    """Write which signal came, and end: to be started again after SIGUSR1 alone."""
    (folder / f"signal-{start}-{rank}").write_text(str(number))
    sys.exit(75 if number == signal.SIGUSR1 else 128 + number)


signal.signal(signal.SIGUSR1, stop)
signal.signal(signal.SIGTERM, stop)
(folder / f"began-{start}-{rank}").write_text(" ".join(sys.argv[2:]))
if start != "0":
    sys.exit(int(sys.argv[2]))
time.sleep(120)
