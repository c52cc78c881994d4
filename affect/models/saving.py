"""A model's folder: its weights in safetensors, config.json, and their checksums where a run wrote them.

config.json holds `task` (whose model it is), `model` (that section of the recipe), `data` (what the model has to know
of the data) and what else the task builds it by. Importing this module loads no tensor library: pushing needs none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from affect import checksums
from affect.checksums import DamagedError
from affect.errors import AffectError, first_few, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer"
"""The folder of a tokenizer, beside the weights."""


@contextmanager
def _built(folder: Path) -> Iterator[None]:
    """Raise AffectError for what comes of cut-off weights, and of fields, shapes or tensors that are of no model."""
    from huggingface_hub.errors import StrictDataclassError  # of a field of transformers' that is of another type

    common = (AffectError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError)
    try:
        yield
    except (*common, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        # What affect says is a line; what torch does may be pages.
        most = None if isinstance(error, AffectError) else 300
        raise AffectError(f"the model in {folder} cannot be read: {reason[:most]}") from error


def save(weights: Mapping[str, Tensor], config: Mapping[str, Any], folder: Path) -> None:
    """Write weights and configuration to `folder`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, str(folder / WEIGHTS))
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a model's folder, held against their checksums where it has some.

    Raises AffectError where they are damaged, or not finite.
    """
    from safetensors.torch import load_file

    from affect.coverage import not_finite

    try:
        if (folder / checksums.FILE).exists():
            checksums.check(folder, (WEIGHTS,))
        weights = load_file(str(folder / WEIGHTS))
    except (DamagedError, OSError, SafetensorError) as error:
        raise AffectError(f"the weights in {folder} are damaged: {first_line(error)}; copy them there again") from error
    if names := not_finite(weights):
        raise AffectError(f"the weights in {folder} hold NaN or infinite values: {first_few(names)}")
    return weights


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a model's folder. Raises AffectError where it is missing, damaged or of no model."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AffectError(f"{folder} holds no model: {CONFIG} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise AffectError(f"{path} is damaged: {first_line(error)}; copy it there again") from error
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise AffectError(f"{path} names no task: it is no model's, or of an earlier version of affect")
    return config


def check_pretrained(
    folder: Path, weights: Mapping[str, Tensor], task: str, build: Callable[[dict[str, Any]], nn.Module]
) -> None:
    """Raise AffectError where weights lack some of a pretrained part that the config.json of their folder describes.

    Of another task than `task` nothing is said.
    """
    from affect.coverage import pretrained_missing

    config = read_config(folder)
    if config["task"] != task or '"architecture": {' not in json.dumps(config):
        return
    with _built(folder):
        missing = pretrained_missing(build(config), weights)
    if missing:
        raise AffectError(
            f"the weights in {folder} lack {len(missing)} of its pretrained parts, as its {CONFIG} describes them: "
            f"{first_few(missing)}"
        )


def load(folder: Path, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """Return the model in a folder, on the CPU and in evaluation mode; `build` makes it of its config.json.

    A folder with checksums is held against them. Raises AffectError if it holds no such model or its files are damaged.
    """
    from safetensors.torch import load_file

    from affect.coverage import faults_of_saved

    if not (folder / WEIGHTS).is_file():
        raise AffectError(f"{folder} holds no model: {WEIGHTS} is missing")
    try:
        if (folder / checksums.FILE).exists():
            checksums.check(folder)
    except DamagedError as error:
        raise AffectError(
            f"the model in {folder} is damaged: {error}; copy it there again, or train it anew with --overwrite"
        ) from error
    config = read_config(folder)
    with _built(folder):
        model = build(config)
        weights = load_file(str(folder / WEIGHTS))
        if wrong := faults_of_saved(model, weights):
            raise AffectError(wrong)
        model.load_state_dict(weights)
    return model.eval()
