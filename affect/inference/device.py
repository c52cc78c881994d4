"""Where predictions are computed: the first GPU where there is one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from affect import tasks


def of_predictions() -> torch.device:
    """Return the device that predictions are computed on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(folder: Path) -> nn.Module:
    """Return the model in a folder on that device. Raises AffectError as `tasks.load` does."""
    return tasks.load(folder).to(of_predictions())
