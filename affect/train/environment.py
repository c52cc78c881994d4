"""What a run says of its surroundings, for environment.json."""

from __future__ import annotations

from importlib.metadata import version
from platform import machine, python_version
from typing import Any

import torch

from affect.task import Task
from affect.train.engine import Engine

_PACKAGES = ("affect", "accelerate", "datasets", "numpy", "torch", "transformers")


def describe(engine: Engine, task: Task) -> dict[str, Any]:
    """Return versions, hardware, processes, and the data's own description."""
    device = torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else f"CPU ({machine()})"
    return {
        "python": python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "device": device,
        "threads": torch.get_num_threads(),
        "engine": engine.name,
        "world": engine.world,
        "precision": engine.precision,
        **task.describe(),
    }
