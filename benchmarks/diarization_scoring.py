"""DER and JER of 18 AMI meetings (9.7 h, 15,000 turns): reading, scoring, and the whole command with its imports.

    python benchmarks/diarization_scoring.py [DATA] [--rounds 9]     # DATA/rttm_pairs; or AFFECT_REAL_DATA

Prints medians of CPU and of wall-clock seconds, and the slowest round. Skips, saying so, without the data.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from affect.data.rttm import read_rttm, read_uem
from affect.tasks.diarization.scoring import Score, score_recordings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(os.environ.get("AFFECT_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=root)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    folder = options.data / "rttm_pairs"
    if not folder.is_dir():
        print(f"skipped: {folder} is absent; set AFFECT_REAL_DATA to the folder of real data")
        return
    print("| | CPU s | wall s | slowest, wall s |\n|---|---|---|---|")
    total = measure(folder, options.rounds)[0]
    print(f"\nDER {100 * total.der:.4f} %, JER {100 * total.jer:.4f} %")


def measure(folder: Path, rounds: int) -> tuple[Score, float, float]:
    """Print rows; return the total, and the CPU seconds of both scores and of the command."""
    paths = [folder / name for name in ("ami_ref", "vbx_headset_dev", "ami_uem")]
    code = "from affect.cli import main; main()"
    command = [sys.executable, "-c", code, "score", *map(str, paths[:2]), "--uem", str(paths[2])]
    sides = read_rttm(paths[0]), read_rttm(paths[1]), read_uem(paths[2])
    measured("read RTTM and UEM", lambda: [read_rttm(paths[0]), read_rttm(paths[1]), read_uem(paths[2])], rounds)
    scores = measured("DER and JER", lambda: score_recordings(*sides), rounds)
    whole = measured(
        "the command `affect score`", lambda: subprocess.run(command, capture_output=True, check=True), rounds
    )
    return score_recordings(*sides).total, scores, whole


def measured(what: str, work: Callable[[], object], rounds: int) -> float:
    """Print a row: what, and the medians of several rounds; return that of CPU seconds."""
    cpu, wall = [], []
    for _ in range(rounds):
        before, start = _cpu(), time.perf_counter()
        work()
        cpu.append(_cpu() - before)
        wall.append(time.perf_counter() - start)
    print(f"| {what} | {statistics.median(cpu):.3f} | {statistics.median(wall):.3f} | {max(wall):.3f} |", flush=True)
    return statistics.median(cpu)


def _cpu() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
