"""Two checkouts in turn: what a benchmark's cases take before and after a change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median


def measured(root: Path, script: str, name: str) -> float:
    """Return what `script --case NAME` prints last, in a process of its own with the checkout `root`."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1"}
    command = [sys.executable, str(Path(script).resolve()), "--case", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    return float(done.stdout.split()[-1])


def table(script: str, there: Path, names: Iterable[str], pairs: int) -> None:
    """Print CPU milliseconds of each case with the checkout `there` and with this one, and the ratios of pairs."""
    here = Path(__file__).resolve().parents[1]
    print("| step | before, CPU ms | after, CPU ms | ratio of a pair, median (least to most) |\n|---|---|---|---|")
    for name in names:
        taken = [(measured(there.resolve(), script, name), measured(here, script, name)) for _ in range(pairs)]
        ratios = sorted(after / before for before, after in taken)
        before, after = (median(column) for column in zip(*taken, strict=True))
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {name} | {before:.2f} | {after:.2f} | {median(ratios):.3f} ({spread}) |", flush=True)
