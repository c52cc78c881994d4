"""What generated corpora have in common: checked settings, and a folder written whole by one process."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from affect.errors import AffectError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def random(seed: int, name: str) -> np.random.Generator:
    """Return the generator of whatever has this name, whatever else is generated."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def check(settings: DataclassInstance, rules: Mapping[str, tuple[bool, str]]) -> None:
    """Raise AffectError for the first setting that is not as its rule says."""
    for name, (right, rule) in rules.items():
        if not right:
            raise AffectError(f"generated corpus: {name}={getattr(settings, name)} must be {rule}")


def description(generator: str, version: int, settings: DataclassInstance) -> dict[str, Any]:
    """Return what a generated corpus says of itself, as JSON gives it back."""
    facts: dict[str, Any] = {"generator": generator, "version": version, "settings": asdict(settings)}
    return {**facts, "settings": json.loads(json.dumps(facts["settings"]))}


def described(root: Path, mark: str, generator: str) -> dict[str, Any]:
    """Return what the corpus at `root` says of itself in its file `mark`, nothing where there is none.

    Raises AffectError where anything but a corpus of this generator is there.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return {}
    try:
        facts = json.loads((root / mark).read_bytes())
    except (OSError, ValueError):
        facts = None
    if not isinstance(facts, dict) or facts.get("generator") != generator:
        raise AffectError(f"generated corpus: {root} is there and is not a generated corpus; name another folder")
    return facts


def write_once(root: Path, there: Callable[[], bool], write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder beside `root`, which then takes its place, unless `there` says that it is there.

    Several processes may call this at once: one writes, the others wait. What a killed one left is removed. Raises
    AffectError where the disk refuses.
    """
    if there():
        return
    building, former = (root.parent / f".{root.name}.{state}" for state in ("partial", "former"))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / f".{root.name}.lock"):
            if there():
                return
            for left_by_a_kill in (building, former):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)
            try:
                write(building)
                if root.exists():
                    root.rename(former)
                building.rename(root)
            finally:
                for folder in (building, former):
                    shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise AffectError(f"generated corpus: cannot write {root} ({error.strerror or error})") from error
