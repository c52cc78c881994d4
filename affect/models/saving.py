"""A model's folder: its weights in safetensors, config.json, and their checksums where a run wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from affect import checksums
from affect.checksums import DamagedError
from affect.errors import AffectError, first_line

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save(weights: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> None:
    """Write weights and configuration to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, str(folder / WEIGHTS))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a model's folder, held against their checksums where it has some.

    Raises AffectError where they are damaged.
    """
    try:
        if (folder / checksums.FILE).exists():
            checksums.check(folder, (WEIGHTS,))
        return load_file(str(folder / WEIGHTS))
    except (DamagedError, OSError, SafetensorError) as error:
        raise AffectError(f"the weights in {folder} are damaged: {first_line(error)}; copy them there again") from error
