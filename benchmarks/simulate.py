"""Simulated conversations: seconds of audio made in a second on one core, and how hard they are to diarize.

    python benchmarks/simulate.py [--voices FOLDER] [--fitted RTTM] [--rounds 60]

Speed: each kind in turn, so that what else the machine does is shared by all; of the rounds the median is told. Without
a folder of voices a few are generated. Noise is on in all but the first row; `fitted` are turns as in real ones.

Then, of 200 conversations a row, the share of speech in the time and of overlap in the speech, and the DER of whoever
knows when somebody speaks, and takes all of it for one speaker. At last, how like real turns fitted ones are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from affect.data import synthetic_voices, voices
from affect.data.activity import in_samples, in_seconds
from affect.data.rttm import joined, read_rttm
from affect.data.simulation import Simulation
from affect.data.simulator import Simulator
from affect.data.turn_taking import fit, overlap_ratio
from affect.metrics.diarization import Errors, errors

LENGTHS = (8.0, 64.0)
COUNT = 200
HOURS = 12


def kinds(fitted: str | None) -> dict[str, Simulation]:
    dry = Simulation(reverberation=0.0, noise=1.0)
    rooms = replace(dry, reverberation=1.0)
    real = {"fitted, no room": replace(dry, fitted=fitted), "fitted, rooms": replace(rooms, fitted=fitted)}
    return {"no room, no noise": replace(dry, noise=0.0), "no room": dry, "rooms": rooms, **(real if fitted else {})}


def difficulty(simulator: Simulator, seconds: float) -> tuple[float, float, float]:
    """Return shares of speech and of overlap, and the DER of perfect activity given to one speaker."""
    total, speech, overlap = Errors(), 0.0, 0.0
    for index in range(COUNT):
        turns = in_seconds(simulator.conversation(1, 0, index, seconds).turns)
        together = [tuple(turn) for turn in joined(turn._replace(speaker="") for turn in turns)]
        total += errors(together, [tuple(turn) for turn in turns])
        spoken = sum(end - start for start, end, _ in together)
        speech += spoken
        overlap += spoken * overlap_ratio(in_samples(turns))
    return speech / (COUNT * seconds), overlap / speech, total.rate


def measured(simulators: dict[str, Simulator], rounds: int) -> dict[tuple[str, float], float]:
    """Return how many times faster than real time each makes conversations of each length, in CPU time."""
    taken: defaultdict[tuple[str, float], list[float]] = defaultdict(list)
    for index in range(rounds + 1):
        for name, simulator in simulators.items():
            for seconds in LENGTHS:
                start = time.process_time()
                simulator.conversation(0, 0, index, seconds)
                if index:  # The first one makes noises that are kept.
                    taken[name, seconds].append(time.process_time() - start)
    return {key: key[1] / statistics.median(times) for key, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=Path)
    parser.add_argument("--fitted")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AFFECT_CACHE"] = folder
        root = options.voices
        if root is None:
            root, _ = synthetic_voices.generate(Path(folder) / "voices", synthetic_voices.VoiceSettings(voices=6))
        made = voices.read(root)
        simulators = {name: Simulator(made, rules) for name, rules in kinds(options.fitted).items()}
        speeds = measured(simulators, options.rounds)
    print(f"| {len(made)} voices, 2 to 4 speakers | " + " | ".join(f"{each:g} s" for each in LENGTHS) + " |")
    print("|---|" + "---|" * len(LENGTHS))
    for name in simulators:
        print(f"| {name} | " + " | ".join(f"{speeds[name, seconds]:,.0f}" for seconds in LENGTHS) + " |")
    print("\n| speakers, turns | seconds | speech | overlap | oracle speech as one speaker |\n|---|---|---|---|---|")
    for count in (2, 3, 4):
        for name in [each for each in simulators if each in ("no room", "fitted, no room")]:
            rules = replace(simulators[name].simulation, speakers=(count, count), noise=0.0)
            for seconds in LENGTHS:
                speech, overlap, rate = difficulty(Simulator(made, rules), seconds)
                turns = "fitted" if rules.fitted else "by rules"
                print(f"| {count}, {turns} | {seconds:g} | {speech:.3f} | {overlap:.3f} | {100 * rate:.1f} |")
    if options.fitted:
        real = fit(read_rttm(options.fitted))
        alike = Simulator(made, Simulation(speakers=(4, 4), reverberation=0.0, noise=0.0), real)
        again = fit({str(k): in_seconds(alike.conversation(2, 0, k, 1200.0).turns) for k in range(3 * HOURS)})
        print(f"\n| means in seconds, and shares | real | {HOURS} h of 4 speakers |\n|---|---|---|")
        means = [each.summary() | {"back": each.back} for each in (real, again)]
        for name in means[0]:
            print(f"| {name} | {means[0][name]:.3f} | {means[1][name]:.3f} |")


if __name__ == "__main__":
    main()
