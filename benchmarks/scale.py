"""What more ranks cost: measured with one and two ranks on this machine, simulated for 1 to 512.

    AFFECT_THREADS=1 python benchmarks/scale.py [--measure] [--simulate]      # both by default; about five minutes

Measured: DDP over gloo, one thread a rank, the small WavLM of benchmarks/speed.py with a CCC loss on files of
IEMOCAP-like durations, the same global batch of 64 for one rank and for two, balanced by cost and by padded length,
which take turns. Waiting is time inside collectives, and at the end of the backward until the gradients of all ranks
are there.

Simulated: a step of affect's plan, by cost and by padded length alone (train.costs linear), and the same random global
batch dealt out in equal counts and cut into micro-batches of --rows, beside what no cut can be below: the longest
utterance alone, or the mean share of the best cut of one rank. A micro-batch takes start + second * padded seconds +
square * rows * longest^2, fitted here or given by --costs. A step is as long as its slowest rank, then the ring's
all-reduce of the gradients, not overlapped with the backward: 2 (W - 1) (bytes / W / bandwidth + latency); then the
update. Not simulated: reading, evaluation, stragglers, contention, ZeRO's and FSDP's collectives. The global batch is
the larger of 64 and 8 a rank.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.training import balance, cost_probe, costs, plan

ROOT = Path(__file__).resolve().parents[1]
WORLDS = tuple(2**k for k in range(10))
Floats = NDArray[np.float64]
Rank = tuple[plan.Micro, ...]
Way = tuple[int, str]
"""Ranks, and what they are balanced by: linear (padded length) or cost."""


# Simulated


@dataclass(frozen=True)
class Costs(costs.Costs):
    """Seconds of a micro-batch as a run fits them, seconds of an update, and the gradients' megabytes."""

    update: float
    megabytes: float

    def rank(self, lengths: Floats, micros: Sequence[plan.Micro]) -> float:
        """Return the seconds of forward and backward of a rank's micro-batches."""
        return plan.seconds(lengths, micros, self)

    def bound(self, lengths: Floats, members: NDArray[np.int64], world: int, budget: float) -> float:
        """Return the seconds that no cut's slowest rank can be below."""
        ordered = np.sort(lengths[members])[::-1]
        return balance.bound(ordered, self.rows(ordered), self.start, world, budget)

    def reduce(self, world: int, bandwidth: float, latency: float) -> float:
        """Return the seconds of a ring's all-reduce of the gradients; bandwidth in GB/s, latency in s a message."""
        return 2 * (world - 1) * (self.megabytes * 1e-3 / world / bandwidth + latency)


def iemocap_like(n: int = 10_039, seed: int = 0) -> Floats:
    """Return durations like IEMOCAP's: mean 4.5 s, .6 to 34 s."""
    drawn = np.random.default_rng(seed).lognormal(np.log(4.5) - 0.65**2 / 2, 0.65, n)
    return np.clip(drawn, 0.6, 34.0)


def podcast_like(n: int = 80_000, seed: int = 0) -> Floats:
    """Return durations like MSP-Podcast's: mean about 5.8 s, 2.75 to 11 s."""
    drawn = np.random.default_rng(seed).lognormal(np.log(5.65) - 0.42**2 / 2, 0.42, n)
    return np.clip(drawn, 2.75, 11.0)


def deal(members: NDArray[np.int64], world: int, rows: int) -> tuple[Rank, ...]:
    """Return what a random batch becomes without a plan: equal counts a rank, in micro-batches of `rows`, as drawn."""
    shares = [share.tolist() for share in np.array_split(members, world)]
    return tuple(tuple(plan.Micro(tuple(s[k : k + rows])) for k in range(0, len(s), rows)) for s in shares)


def batches(lengths: Floats, batch: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield global batches, epoch after epoch."""
    epoch = 0
    while True:
        yield from plan.draw(len(lengths), batch, seed, epoch)
        epoch += 1


def figures(lengths: Floats, steps: Sequence[tuple[Rank, ...]], costs: Costs) -> dict[str, float]:
    """Return means over steps: seconds of the slowest rank, its excess over the mean rank, and padding (or filler)."""
    loads = [[costs.rank(lengths, rank) for rank in ranks] for ranks in steps]
    return {
        "slowest": float(np.mean([max(load) for load in loads])),
        "waiting": float(np.mean([max(load) / np.mean(load) for load in loads])) - 1.0,
        "padding": plan.padding(lengths, [plan.Cut(ranks) for ranks in steps]),
    }


def simulate(
    lengths: Floats, world: int, costs: Costs, *, budget: float, rows: int, steps: int, network: tuple[float, float]
) -> dict[str, float]:
    """Return the figures of steps of `world` ranks cut by cost, by length, and at random in equal counts."""
    batch = max(64, 8 * world)
    drawn = [members for _, members in zip(range(steps), batches(lengths, batch), strict=False)]
    row = {"world": float(world), "batch": float(batch)}
    after = costs.reduce(world, *network) + costs.update
    # As a run has it, which plans by no less a start than this.
    planned = cost_probe.started(costs, lengths)
    ways: dict[str, Callable[[NDArray[np.int64]], tuple[Rank, ...]]] = {
        "plan": lambda members: plan.cut(lengths, members, world, budget, planned).ranks,
        "length": lambda members: plan.cut(lengths, members, world, budget).ranks,
        "random": lambda members: deal(members, world, rows),
    }
    for name, cut in ways.items():
        values = figures(lengths, [cut(members) for members in drawn], costs)
        row |= {f"{name}_{key}": value for key, value in values.items()}
        row[f"{name}_step"] = values["slowest"] + after
    audio = float(np.mean([lengths[members].sum() for members in drawn]))
    row["bound"] = float(np.mean([costs.bound(lengths, members, world, budget) for members in drawn]))
    row["speed"] = audio / row["plan_step"] / world
    return row


def print_simulated(costs: Costs, options: argparse.Namespace) -> None:
    """Print a table for each corpus."""
    for name, lengths in (("IEMOCAP-like", iemocap_like()), ("MSP-Podcast-like", podcast_like())):
        print(f"\n{name}: {len(lengths)} utterances, mean {lengths.mean():.2f} s, longest {lengths.max():.1f} s; means "
              f"of {options.steps} steps; waiting: slowest rank above the mean; of bound: its multiple\n")  # fmt: skip
        print("| ranks | batch | bound | step by cost (of bound) | waiting | padding | step by length | waiting "
              "| cost to length | step, random | cost is faster by | audio s/s a rank |")  # fmt: skip
        print("|---:" * 12 + "|")
        for world in WORLDS:
            f = simulate(
                lengths, world, costs, budget=options.budget, rows=options.rows, steps=options.steps,
                network=(options.bandwidth, options.latency * 1e-6),
            )  # fmt: skip
            cells = [f"{world}", f"{f['batch']:.0f}", f"{f['bound']:#.3g} s"]
            cells += [f"{f['plan_step']:#.3g} s ({f['plan_slowest'] / f['bound']:.3f})"]
            cells += [f"{f['plan_waiting']:.1%}", f"{f['plan_padding']:.1%}"]
            cells += [f"{f['length_step']:#.3g} s", f"{f['length_waiting']:.1%}"]
            cells += [f"{f['plan_step'] / f['length_step']:.2f}", f"{f['random_step']:#.3g} s"]
            cells += [f"{f['random_step'] / f['plan_step']:.2f}", f"{f['speed']:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


# Measured


def launch(root: Path, ranks: int, budget: float, mode: str, by: str = "linear") -> dict[str, Any]:
    """Return what rank 0 of a run with `ranks` processes says, balanced `by` costs (linear, or three numbers).

    Raises RuntimeError with the run's last words.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AFFECT_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "AFFECT_CACHE": str(root / "cache")}
    # One rank alone is a plain process: torch.distributed.run would make it DDP's.
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    done = subprocess.run(
        [sys.executable, *launcher, str(ROOT / "benchmarks" / "scale_worker.py"), str(root), str(budget), mode, by],
        capture_output=True, text=True, env=environment, timeout=600, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"world"')]
    if done.returncode or len(lines) != 1:
        raise RuntimeError(f"{ranks} ranks ended with {done.returncode}:\n{done.stderr[-6000:]}")
    record: dict[str, Any] = json.loads(lines[0])
    assert record["world"] == ranks
    return record


def fit(samples: Sequence[tuple[float, float, float]], update: float, megabytes: float) -> Costs:
    """Return the costs, none below zero, of least relative squared error on (rows, longest, seconds)."""
    fitted, _ = costs.fit([(int(rows), longest, seconds) for rows, longest, seconds in samples])
    return Costs(*fitted.stored(), update, megabytes)


def predicted(run: dict[str, Any], costs: Costs) -> float:
    """Return the seconds of a step that the costs predict for a measured run, its slowest rank and no network."""
    loads = [[sum(costs.micro(*shape) for shape in micros) for micros in ranks] for ranks in run["shapes"]]
    return float(np.mean([max(step) for step in loads])) + costs.update


def measure(
    rounds: int, budget: float, mode: str, given: Costs | None, worlds: Sequence[int]
) -> tuple[dict[Way, list[dict[str, Any]]], Costs]:
    """Return what runs of each way said, in turns, and the costs that one of them was balanced by."""
    import speed

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        speed.write_corpus(root, speed.BATCH * speed.STEPS)
        if given is None:
            first = launch(root, 1, budget, mode)
            fitted = fit([tuple(row) for row in first["samples"]], first["update"], first["megabytes"])
            # The files of the runs are as long.
            given = cost_probe.started(fitted, iemocap_like())
        results: dict[Way, list[dict[str, Any]]] = {(w, by): [] for w in worlds for by in ("linear", "cost")}
        for k in range(rounds):
            for (world, by), runs in results.items():
                way = by if by == "linear" else ",".join(map(str, given.stored()))
                runs.append(launch(root, world, budget, mode, way))
                print(
                    f"round {k + 1}: {world} ranks by {by}: {runs[-1]['step']:.2f} s a step",
                    file=sys.stderr,
                    flush=True,
                )
    return results, given


def print_measured(results: dict[Way, list[dict[str, Any]]], costs: Costs) -> None:
    """Print the table of medians over rounds."""
    first = [run["step"] for run in next(iter(results.values()))]
    print(f"\nglobal batch 64, medians of {len(first)} rounds of 4 steps, one thread a rank; speed-up of rounds\n")
    print("| ranks | balanced by | s a step (min to max) | CPU-s of the slowest rank | audio s/s | speed-up | waiting "
          "| the costs predict |")  # fmt: skip
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for (world, by), runs in results.items():
        steps = [run["step"] for run in runs]
        step = statistics.median(steps)
        faster = statistics.median(one / many for one, many in zip(first, steps, strict=True))
        waiting, busy = (statistics.median(run[name] for run in runs) for name in ("waiting", "busy"))
        cells = [f"{world}", by, f"{step:.2f} ({min(steps):.2f} to {max(steps):.2f})", f"{busy:.2f}"]
        cells += [f"{runs[0]['audio'] / step:.1f}", f"{faster:.2f}", f"{waiting:.1%}"]
        print(f"| {' | '.join(cells)} | {predicted(runs[0], costs):.2f} s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="only measure (and fit the costs)")
    parser.add_argument("--simulate", action="store_true", help="only simulate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="numbers of ranks that are measured")
    parser.add_argument("--budget", type=float, default=60.0, help="padded seconds of the plan's micro-batches")
    parser.add_argument("--mode", choices=("hold", "replay"), default="hold", help="of the steps that are measured")
    parser.add_argument("--rows", type=int, default=8, help="rows of the random micro-batches")
    parser.add_argument("--steps", type=int, default=20, help="global batches that each simulated figure is a mean of")
    names = ("START", "SECOND", "SQUARE", "UPDATE", "MEGABYTES")
    parser.add_argument("--costs", type=float, nargs=5, metavar=names, help="seconds (and MB) in place of fitted ones")
    parser.add_argument("--bandwidth", type=float, default=12.5, help="GB/s between ranks (12.5: 100 Gbit/s)")
    parser.add_argument("--latency", type=float, default=20.0, help="microseconds of a message between ranks")
    options = parser.parse_args()
    both = options.measure == options.simulate
    costs = Costs(*options.costs) if options.costs else None
    if both or options.measure or costs is None:
        rounds = options.rounds if both or options.measure else 0
        results, costs = measure(rounds, options.budget, options.mode, costs, options.ranks)
        if any(results.values()):
            print_measured(results, costs)
    print(f"\ncosts: {costs.start * 1e3:.2f} ms a micro-batch + {costs.second * 1e3:.3f} ms a padded second + "
          f"{costs.square * 1e3:.4f} ms a row's second squared; update {costs.update * 1e3:.1f} ms; "
          f"gradients {costs.megabytes:.1f} MB")  # fmt: skip
    if both or options.simulate:
        print(f"network: {options.bandwidth:g} GB/s, {options.latency:g} us a message; the plan is cut by "
              f"{options.budget:g} s, random batches into micro-batches of {options.rows}")  # fmt: skip
        print_simulated(costs, options)


if __name__ == "__main__":
    main()
