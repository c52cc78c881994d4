"""Small fusion models and inputs that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from affect.tasks.multimodal_emotion.config import Signature
from tests.tasks.multimodal_emotion.models import checks
from tests.tasks.multimodal_emotion.models.checks import CLASSES, Spec

ROBUST: dict[str, Any] = {"name": "attention_robust", "modality_dropout": 0.2, "warmup": 30}
STREAMS = (("audio", "a", 5), ("text", "t", 7), ("video", "v", 4))


def config(name: str = "attention", **named: Any) -> Spec:
    return checks.config(name, **{"streams": STREAMS, "hidden": 6, **named})


def inputs(rows: int = 8, streams: Any = STREAMS, seed: int = 0, missing: float = 0.3) -> dict[str, Tensor]:
    """Return random streams and a presence mask; the first row is whole, every row has something."""
    g = torch.Generator().manual_seed(seed)
    present = (torch.rand(rows, len(streams), generator=g) >= missing).float()
    present[0] = 1
    present[present.sum(1) == 0, 0] = 1
    keys = Signature(streams=streams, classes=CLASSES).keys
    found = {"present": present}
    for s, (key, (_, _, width)) in enumerate(zip(keys, streams, strict=True)):
        found[key] = torch.randn(rows, width, generator=g) * present[:, s : s + 1]
    return found


def total(outputs: dict[str, Tensor]) -> Tensor:
    """Return a number that depends on every output; weights of three sorts keep parts from cancelling."""
    return sum(((i + 1) * value.sin()).sum() for i, value in enumerate(outputs.values()))
