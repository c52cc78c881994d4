"""Block-wise diarization on one core: seconds that a second of sound takes, by model, online and decoded again.

    python benchmarks/diarization_online.py [--seconds 16] [--rounds 2]

About 100 CPU-seconds as it is, 1,400 with 120 s and 5 rounds; each figure is told when it is there. Weights are random,
so thresholds are set that a few speakers are enrolled, as in a conversation: the work depends on how many there are.
All kinds in turn, so that what else the machine does is shared by all; of the rounds the median is told. `anew` sees
each window whole, as an encoder has to, in place of keeping features.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from affect.tasks.diarization import stream_features
from affect.tasks.diarization.config import SMALL, Loss, Model, Online, signature
from affect.tasks.diarization.models import Diarizer, build
from affect.tasks.diarization.online import Window, decode
from affect.tasks.diarization.stream_features import StreamFeatures

RATE, SPEAKERS = 16_000, 4
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
    """Return options with which the pseudo-speaker is heard in a half of the frames, and enrols the most there are."""
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


def factor(model: Diarizer, options: Online, samples: np.ndarray) -> tuple[float, int]:
    """Return the CPU seconds that a second of sound takes, and how many speakers were enrolled."""
    begun = time.process_time()
    _, stream = decode(model, options, lambda: [samples], most=SPEAKERS)
    return (time.process_time() - begun) * RATE / len(samples), len(stream.speakers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=16.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    samples = sound(options.seconds)
    models = {name: drawn(config, hop, samples) for name, (config, hop) in MODELS.items()}
    taken: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    speakers = {}
    for round_ in range(options.rounds):
        for name, (model, own) in models.items():
            for kind in ("online", "online, anew", "offline"):
                with anew(kind == "online, anew"):
                    took, speakers[name] = factor(model, replace(own, offline=kind == "offline"), samples)
                taken[name, kind].append(took)
                print(f"round {round_ + 1}: {name}, {kind}: {taken[name, kind][-1]:.3f} s a second", flush=True)
    head = "parameters | hop and look-ahead, s | speakers | online | anew | offline"
    print(f"| {options.seconds:g} s, one thread | {head} |")
    print("|---|---|---|---|---|---|---|")
    for name, (model, own) in models.items():
        size = sum(weights.numel() for weights in model.parameters()) / 1e6
        each = [f"{statistics.median(taken[name, kind]):.3f}" for kind in ("online", "online, anew", "offline")]
        print(f"| {name} | {size:.2f} M | {own.latency:.2f} | {speakers[name]} | {' | '.join(each)} |")


if __name__ == "__main__":
    main()
