"""What holding all, half or none of a step's graphs costs and saves: CPU-seconds and peak memory, each in a process.

    AFFECT_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/hold.py [--rounds 5]

The small WavLM of benchmarks/speed.py with a CCC loss, global batch 64 of IEMOCAP-like durations cut by 30 s, its CNN
frozen or all of it trained. Hold, half and replay take turns; the ratios are medians of the rounds' ratios to hold.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import speed

ROOT = Path(__file__).resolve().parents[1]
MODES: dict[str, Any] = {"hold": "hold", "half": 0.5, "replay": "replay"}
KINDS = {"the CNN frozen": "transformer", "all trained": "all"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", nargs=3, metavar=("ROOT", "KIND", "MODE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        one(Path(given.run[0]), KINDS[given.run[1]], MODES[given.run[2]])
        return
    print("| trained | graphs kept | CPU-s a step (median) | to hold | peak memory, MB |")
    print("| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        speed.write_corpus(root, speed.BATCH * speed.STEPS)
        for kind in KINDS:
            rounds = [{mode: measured(root, kind, mode) for mode in MODES} for _ in range(given.rounds)]
            for mode in MODES:
                ratio = median(values[mode]["seconds"] / values["hold"]["seconds"] for values in rounds)
                seconds, memory = (median(values[mode][what] for values in rounds) for what in ("seconds", "megabytes"))
                print(f"| {kind} | {mode} | {seconds:.2f} | {ratio:.2f} | {memory:.0f} |", flush=True)


def measured(root: Path, kind: str, mode: str) -> dict[str, float]:
    """Return CPU-seconds a step and the peak memory of a process that trains so."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AFFECT_CACHE": str(root / "cache")}
    done = subprocess.run(
        [sys.executable, __file__, "--run", str(root), kind, mode], env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def one(root: Path, kind: str, mode: Any) -> None:
    """Train an epoch to warm up and one that counts, and print what it took."""
    speed.BUDGET = 30.0
    seconds = speed.Ours(root, kind, mode).seconds(time.process_time) / speed.STEPS
    print(json.dumps({"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
