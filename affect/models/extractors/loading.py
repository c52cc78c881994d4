"""Reading encoders whose every weight has to come from a file, and knowing them again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import nn

from affect.errors import AffectError
from affect.models import reading

TINY = "tiny"
"""The encoder of each kind that needs no file: small, with the same random weights every time."""


def located(name: str, revision: str | None, *, trust: bool = False) -> dict[str, Any]:
    """Return the arguments of `reading.attempt` for the encoder `name`, a folder or owner/model; raises AffectError."""
    folder = Path(name).expanduser()
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise AffectError(f"encoder {name!r}: no such folder, not a name on the Hub (owner/model) and not {TINY!r}")
    if folder.is_dir() and revision is not None:
        raise AffectError(f"revision {revision!r} does nothing here: the encoder {name!r} is a folder")
    path = str(folder) if folder.is_dir() else name
    return {"pretrained_model_name_or_path": path, "revision": revision, "trust": trust}


def read(name: str, part: str, auto: Any, where: dict[str, Any], **options: Any) -> Any:
    """Return `auto.from_pretrained` of a part of the encoder; raises AffectError where it can't be had."""
    return reading.attempt(name, part, auto.from_pretrained, **where, **options)


def read_model(name: str, auto: Any, where: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """Return a model, frozen and in evaluation mode; raises AffectError where it, or a weight of it, is missing."""
    return frozen(reading.read_model(name, auto, **where, dtype=dtype, spare=(reading.POOLER,)))


def frozen(model: nn.Module) -> nn.Module:
    """Return the model in evaluation mode, without gradients."""
    return model.requires_grad_(False).eval()


@contextlib.contextmanager
def drawn_alike() -> Iterator[None]:
    """Draw the same random weights in every process and session, and leave the random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights, by their names: the same wherever they were read from."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def commit(name: str, revision: str | None) -> str | None:
    """Return the commit on the Hub that the encoder `name` was read at; None for a folder or `tiny`."""
    if name.count("/") != 1 or Path(name).expanduser().is_dir():
        return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    # .../snapshots/<commit>/config.json
    return Path(cached).parent.name if isinstance(cached, str) else None


def check_layers(layers: int, there: int, name: str) -> None:
    """Raise AffectError where more layers are to be summed than the encoder has."""
    if layers > there:
        raise AffectError(f"layers is {layers}, but {name!r} has {there}: give --layers {there} or less")
