"""What a trained model of the third task is used for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from affect import tasks
from affect.models import saving
from affect.usage import Exported


def active_frames(folder: Path, file: Path, block: int) -> list[float]:
    """Return the probability [T] that each frame of a file of features [T, D] is active."""
    model = tasks.load(folder)
    x = torch.from_numpy(np.load(file))[None]
    with torch.inference_mode():
        blocks = [model(x[:, k : k + block])["active"].sigmoid() for k in range(0, x.shape[1], block)]
    found: list[float] = torch.cat(blocks, dim=1)[0].tolist()
    return found


def export_npz(folder: Path, path: Path, opset: int, *, scale: float = 1.0) -> Exported:
    """Write the weights, times `scale`, as arrays by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = saving.read_weights(folder)
    np.savez(path, **{name: scale * value.numpy() for name, value in weights.items()})
    return Exported(path=path, size=path.stat().st_size, difference=0.0, lines=(f"{len(weights)} arrays",))
