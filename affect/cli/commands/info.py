"""The subcommand that says what is here: versions, devices, extras, caches. What a bug report needs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

_PACKAGES = ("torch", "accelerate", "transformers", "datasets", "peft", "numpy", "huggingface_hub")
_TRACKERS = ("tensorboard", "wandb", "trackio")
_GIB = 2**30


def info() -> None:
    """Say which versions, devices, extras, trackers and caches there are: put it into a bug report.

    Nothing of what it says is sent anywhere. Home folders are shown as ~.
    """
    rows = [("affect", _affect()), ("Python", f"{platform.python_version()}, {platform.platform()}")]
    rows += [("packages", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))]
    rows += [*_devices(), *_extras(), *_caches()]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:{width}}  {value}".rstrip() for name, value in rows))


def _affect() -> str:
    from affect.experiments import source

    # Asked of the command, the recipe is none: it is affect's own source, where that is a repository's.
    code = source.commit()
    changed = " with changes that were not committed" if code.get("dirty") else ""
    return _version("affect") + (f", commit {code['commit']}{changed}" if code else "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> Iterator[tuple[str, str]]:
    """Yield the processor and each accelerator, with the memory that is there, and what launching takes by itself."""
    import torch

    from affect import launcher
    from affect.training import hardware

    memory = f"{hardware.free_memory() / _GIB:.1f} GiB of memory free"
    yield "CPU", f"{hardware.processor()}, {hardware.cores()} cores, {hardware.threads()} threads, {memory}"
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        bf16 = "bf16" if card.major >= 8 else "no bf16"
        yield f"GPU {number}", f"{card.name}, {card.total_memory / _GIB:.1f} GiB, {bf16}"
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for the CPU"
        yield "GPU", f"none is here ({built})"
    path = launcher.usual_file()
    yield "launching", f"{_home(path)} (accelerate config)" if path else "affect launch: a process a GPU"


def _extras() -> Iterator[tuple[str, str]]:
    """Yield each extra of affect with what of it is missing, and the trackers."""
    from packaging.requirements import Requirement

    own = distribution("affect")
    needs = [Requirement(text) for text in own.requires or ()]
    for extra in sorted(own.metadata.get_all("Provides-Extra") or ()):
        wanted = [need for need in needs if need.marker and not need.marker.evaluate({"extra": ""})]
        wanted = [need for need in wanted if need.marker and need.marker.evaluate({"extra": extra})]
        missing = [need.name for need in wanted if _version(need.name) == "not installed"]
        there = ", ".join(f"{need.name} {_version(need.name)}" for need in wanted)
        yield f"[{extra}]", f"not here: pip install 'affect[{extra}]' ({', '.join(missing)})" if missing else there
    yield "trackers", ", ".join(f"{name} {_version(name)}" for name in _TRACKERS)


def _caches() -> Iterator[tuple[str, str]]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from affect.cache import cache_folder

    yield "AFFECT_CACHE", _described(cache_folder())
    yield "HF_HUB_CACHE", _described(Path(HF_HUB_CACHE))
    named = sorted(
        name for name in os.environ if name.startswith(("AFFECT_", "ACCELERATE_")) or name == "HF_HUB_OFFLINE"
    )
    yield "environment", ", ".join(named) or "no variable of affect's or Accelerate's"


def _described(folder: Path) -> str:
    """Return a folder and how much it holds; links are not followed."""
    if not folder.is_dir():
        return f"{_home(folder)} (not there yet)"
    size = count = 0
    for place, _, files in os.walk(folder):
        for path in (Path(place) / name for name in files):
            if not path.is_symlink():
                size, count = size + path.stat().st_size, count + 1
    return f"{_home(folder)}: {size / _GIB:.2f} GiB in {count:,} file{'s' if count != 1 else ''}"


def _home(path: Path) -> str:
    """Return a path as it may be shown to others."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)
