"""Prosody of a voice of 4 s: CPU milliseconds, beside another checkout's where one is named.

    python benchmarks/prosody.py [--before CHECKOUT] [--pairs 5]

Each measurement is a process of its own on one core, and its median of 40 calls.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import beside
import numpy as np

from affect.data import functionals, pitch


def waveform() -> np.ndarray:
    """Return 4 s of a gliding voice, four syllables a second, in a little noise."""
    second = np.arange(4 * pitch.RATE) / pitch.RATE
    cycles = 150 * second + 10 * np.sin(3 * second)
    tone = sum(0.2 / k * np.sin(2 * np.pi * k * cycles) for k in range(1, 12)) * np.sin(4 * np.pi * second) ** 2
    return (tone + 0.01 * np.random.default_rng(0).standard_normal(len(second))).astype(np.float32)


CASES: dict[str, Callable[[np.ndarray], object]] = {"functionals": functionals.functionals, "pitch": pitch.track}


def taken(case: str, rounds: int = 40) -> float:
    """Return the median CPU milliseconds of a case."""
    wave, spent = waveform(), list[float]()
    for _ in range(rounds + 3):
        start = time.process_time()
        CASES[case](wave)
        spent.append(time.process_time() - start)
    return 1000 * statistics.median(spent[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--case", choices=CASES)
    given = parser.parse_args()
    if given.case:
        print(f"{taken(given.case):.3f}")
    elif given.before:
        beside.table(__file__, given.before, CASES, given.pairs)
    else:
        for case in CASES:
            print(f"{case}: {taken(case):.2f} CPU ms")


if __name__ == "__main__":
    main()
