"""Small fusion models without a run: what tests of their prediction and card share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from affect.models import saving
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models import build
from affect.tasks.multimodal_emotion.models.fusion import Fusion

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def save(folder: Path, *, streams: Any, classes: tuple[str, ...] = CLASSES, **model: Any) -> Fusion:
    """Write a new model of these streams to `folder` and return it."""
    torch.manual_seed(3)
    made = build(Model(**{"hidden": 8, **model}), Signature(streams=tuple(streams), classes=classes))
    saving.save(made.state_dict(), {"task": "multimodal_emotion", **made.describe()}, folder)
    return made.eval()
