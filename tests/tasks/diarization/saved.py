"""A folder of weights that finds turns: a small model of ours as drawn, asked with a threshold that fits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from affect.config import to_dict
from affect.models import saving
from affect.tasks.diarization.config import Online
from affect.tasks.diarization.online import Window
from affect.tasks.diarization.stream_features import StreamFeatures
from tests.tasks.diarization.blocks import made

RATE = 16_000


def noise(seconds: float, seed: int = 1) -> np.ndarray:
    """Return noise whose level changes five times a second."""
    random = np.random.default_rng(seed)
    samples = random.normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    levels = np.repeat(random.uniform(0.1, 3, round(5 * seconds) + 1), RATE // 5)[: len(samples)]
    return (samples * levels).astype(np.float32)


def model(folder: Path, **options: Any) -> Path:
    """Write the model and return its folder."""
    network = made("ours").eval()
    with torch.no_grad():
        # As drawn, all speakers would be alike.
        network.to_embedding.bias.zero_()
        for layer, times in ((network.to_pool, 30), (network.meaning, 3), (network.to_slot, 3), (network.to_frame, 3)):
            layer.weight *= times
    features = StreamFeatures(network, 25)
    features.push(noise(2))
    with torch.inference_mode():
        shares = Window(network, features.window(25)).activity(torch.zeros(0, network.config.width))
    own = {"window": 2.0, "enrol": 0.32, "least": 0.16, "shortest": 0.0, "merge": 0.99, **options}
    online = Online(threshold=float(shares.median()), **own)
    saving.save(network.state_dict(), {"task": "diarization", **network.describe(), "online": to_dict(online)}, folder)
    return folder


def recording(path: Path, seconds: float, seed: int = 1) -> Path:
    """Write a recording and return its path."""
    soundfile.write(path, noise(seconds, seed).clip(-1, 1), RATE, subtype="FLOAT", format="WAV")
    return path
