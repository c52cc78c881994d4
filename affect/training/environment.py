"""What a run says of its surroundings, for environment.json."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from platform import machine, python_version
from typing import Any

import torch

from affect.task import Task
from affect.training.distributed import Engine

_PACKAGES = ("affect", "accelerate", "datasets", "numpy", "torch", "transformers")


def describe(engine: Engine, task: Task) -> dict[str, Any]:
    """Return versions, hardware, processes, and the data's own description."""
    device, memory = f"CPU ({machine()})", {}
    if engine.device.type == "cuda":
        device = torch.cuda.get_device_name(engine.device)
        # Beside it the report sees how nearly full the card was.
        memory = {"device_memory_bytes": torch.cuda.get_device_properties(engine.device).total_memory}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "device": device,
        **memory,
        "threads": torch.get_num_threads(),
        "engine": engine.name,
        "world": engine.world,
        "precision": engine.precision,
        **task.describe(),
    }
