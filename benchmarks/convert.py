"""A pickle of talking faces to a folder to train on: megabytes a second, in a process of its own, its start included.

    python benchmarks/convert.py [--clips 300] [--rounds 5]

The generated ac.pkl at the report's widths, 50 to 300 frames a clip. Of the rounds the median is told, beside that of
`inspect`, which reads all of it and writes nothing. Files lie in the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from affect.data import pickle_file
from affect.data.synthetic_scores import GeneratorSettings, generate


def measured(clips: int, rounds: int) -> tuple[float, dict[str, list[float]]]:
    """Return the megabytes of a pickle of so many clips, and the seconds of each round to convert it and to inspect."""
    with tempfile.TemporaryDirectory() as folder:
        file = generate(Path(folder) / "made", GeneratorSettings(clips=clips))
        seconds: dict[str, list[float]] = {"convert": [], "inspect": []}
        for _ in range(rounds):
            start = time.perf_counter()
            pickle_file.convert(file, Path(folder) / "out")
            seconds["convert"].append(time.perf_counter() - start)
            shutil.rmtree(Path(folder) / "out")
            start = time.perf_counter()
            pickle_file.describe(file)
            seconds["inspect"].append(time.perf_counter() - start)
        return file.stat().st_size / 1e6, seconds


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size, seconds = measured(options.clips, options.rounds)
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name}: {size:.0f} MB in {median:.2f} s, {size / median:.0f} MB/s (slowest {size / max(taken):.0f})")


if __name__ == "__main__":
    main()
