"""Block-wise diarization on one core: seconds that a second of sound takes, by model, online and decoded again.

    python benchmarks/diarization_online.py [--seconds 16] [--rounds 2] [--enrolled 1 4 8]
    python benchmarks/diarization_online.py --run RUN

Some 300 CPU-seconds as it is, 100 for one number of speakers; each figure is told when it is there. Weights are random,
and the work depends on how many speakers are enrolled: so many are before it begins, with memories full of drawn
frames, and nobody else is. The threshold is one at which a pseudo-speaker is heard in half of the frames, so that
newcomers are looked for in each window. All kinds in turn, so that what else the machine does is shared by all; of the
rounds the median is told. `anew` sees each window whole, as an encoder has to, in place of keeping features.

With --run it tells what that does to a trained run: the DER on its simulated tests with features that are kept, each
with the mean level of when it was computed, and anew for each window, with the mean so far.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from affect import tasks
from affect.inference import opening
from affect.tables import grid, number, signed
from affect.task import TRAIN, VALID
from affect.tasks.diarization import predict, stream_features
from affect.tasks.diarization.breakdown import rate
from affect.tasks.diarization.config import SMALL, Loss, Model, Online, signature
from affect.tasks.diarization.measures import REAL
from affect.tasks.diarization.models import Diarizer, build
from affect.tasks.diarization.online import OnlineDiarizer, Window
from affect.tasks.diarization.stream_features import StreamFeatures

RATE = 16_000
KINDS = ("online", "online, anew", "offline")
DEMO: dict[str, Any] = {
    "width": 64, "hidden": 128, "encoder_layers": 2, "decoder_layers": 2, "channels": (16, 32, 64, 64),
    "pseudo": 4, "slots": 8,
}  # fmt: skip
MODELS = {
    "demo": (Model(**DEMO), 0.64),
    "ours at its defaults": (Model(), 0.64),
    "small, hop 0.64 s": (Model(**SMALL, extractor="resnet"), 0.64),
    "small, hop 1.28 s": (Model(**SMALL, extractor="resnet"), 1.28),
}


def sound(seconds: float) -> np.ndarray:
    random = np.random.default_rng(0)
    levels = np.repeat(random.uniform(0.1, 3, round(seconds)), RATE)
    return (random.normal(0, 0.1, len(levels)) * levels).astype(np.float32)


def asked(model: Diarizer, hop: float, samples: np.ndarray) -> Online:
    """Return options with which the pseudo-speaker is heard in a half of the frames, and nobody is merged."""
    features = StreamFeatures(model, 100)
    features.push(samples[: 8 * RATE])
    with torch.inference_mode():
        shares = Window(model, features.window(100)).activity(torch.zeros(0, model.config.width))
    return Online(threshold=float(shares.median()), hop=hop, enrol=0.16, least=0.16, merge=1.0)


@contextmanager
def anew(whole: bool) -> Iterator[None]:
    kept = stream_features.reach
    stream_features.reach = (lambda config: None) if whole else kept
    try:
        yield
    finally:
        stream_features.reach = kept


def drawn(config: Model, hop: float, samples: np.ndarray) -> tuple[Diarizer, Online]:
    """Return a model with its weights as drawn, and the options that it is asked with."""
    torch.manual_seed(0)
    model = build(config, signature(config, Loss(), frames=0, speakers=0)).eval()
    return model, asked(model, hop, samples)


def enrol(stream: OnlineDiarizer, count: int) -> None:
    """Enrol so many speakers before anything is heard, whose memories are full of drawn frames."""
    memory = stream.memory
    shares = torch.tensor([[0.9], [0.1]]).expand(2, memory.most)
    for _ in range(count):
        frames = torch.randn(memory.most, stream.model.config.width)
        # Places before the stream's first frame: what is heard counts as other frames.
        memory.add(memory.enrol(), frames, torch.ones(memory.most, dtype=torch.bool), shares, -memory.most)
    stream.speakers, stream.met = [*range(count)], count
    stream.active = np.zeros((count, 0), bool)


def factor(model: Diarizer, options: Online, samples: np.ndarray, speakers: int) -> float:
    """Return the CPU seconds that a second of sound takes where so many speakers are enrolled, from start to end."""
    stream = OnlineDiarizer(model, options, most=speakers)
    with torch.inference_mode():
        enrol(stream, speakers)
    begun = time.process_time()
    stream.push(samples)
    stream.finish()
    if options.offline:
        stream = stream.again(speakers)
        stream.push(samples)
        stream.finish()
    taken = time.process_time() - begun
    assert len(stream.speakers) == speakers, "what is timed is so many speakers' work"
    return taken * RATE / len(samples)


def timed(seconds: float, rounds: int, enrolled: Sequence[int]) -> None:
    """Print a line a figure, then the table of medians."""
    samples = sound(seconds)
    models = {name: drawn(config, hop, samples) for name, (config, hop) in MODELS.items()}
    taken: defaultdict[tuple[str, int, str], list[float]] = defaultdict(list)
    for round_ in range(rounds):
        for (name, (model, own)), count, kind in product(models.items(), enrolled, KINDS):
            with anew(kind == "online, anew"):
                took = factor(model, replace(own, offline=kind == "offline"), samples, count)
            taken[name, count, kind].append(took)
            print(f"round {round_ + 1}: {name}, {count} enrolled, {kind}: {took:.3f} s a second", flush=True)
    rows = []
    for (name, (model, own)), count in product(models.items(), enrolled):
        size = sum(weights.numel() for weights in model.parameters()) / 1e6
        each = [f"{statistics.median(taken[name, count, kind]):.3f}" for kind in KINDS]
        rows.append([name, f"{size:.2f} M", f"{own.latency:.2f}", str(count), *each])
    head = ["parameters", "hop and look-ahead, s", "enrolled", "online", "anew", "decoded again"]
    print(grid([f"{seconds:g} s, one thread", *head], rows))


def compared(run: Path) -> None:
    """Print the DER of a run's simulated tests with kept features and with those of each window computed anew."""
    task, model = tasks.make(tasks.read_recipe(run / "recipe.json")), predict.load(opening.one_of(run)).model
    rows: list[list[str]] = []
    for name, part in task.datasets().items():
        if name in (TRAIN, VALID) or name.startswith(REAL):
            continue
        ders = []
        for whole in (False, True):
            with anew(whole), torch.inference_mode():
                # One at a time: they would be padded to the longest.
                lines = [line for row in part for line in task.predict(model, task.collate([row], None))]
            ders.append(rate("der", lines))
        rows.append([name, str(len(part)), *map(number, ders), signed(ders[1] - ders[0])])
    print(grid(["DER", "n", "kept", "anew", "difference"], rows))


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--enrolled", type=int, nargs="+", default=[1, 4, 8], help="speakers, one table row each")
    parser.add_argument("--run", type=Path, help="a run's folder (runs/NAME/seed0/fold1): compare DERs, time nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run is not None:
        compared(options.run)
    else:
        timed(options.seconds, options.rounds, options.enrolled)


if __name__ == "__main__":
    main()
