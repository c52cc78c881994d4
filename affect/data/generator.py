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

from affect.errors import AffectError, writing

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
    return {"generator": generator, "version": version, "settings": json.loads(json.dumps(asdict(settings)))}


def write_once(
    root: Path, mark: str, facts: dict[str, Any], right: Callable[[dict[str, Any]], bool],
    write: Callable[[Path], object],
) -> None:  # fmt: skip
    """Let `write` fill a folder beside `root`, which then takes its place, unless what is there is `right`.

    Its file `mark` holds `facts`, as `description` gives them; `right` is asked about those of the corpus at `root`.
    Several processes may call this at once: one writes, the others wait. What a killed one left is removed. Raises
    AffectError where anything but a corpus of this generator is at `root`, or the disk refuses.
    """

    def there() -> bool:
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            return False
        try:
            made = json.loads((root / mark).read_bytes())
        except (OSError, ValueError):
            made = None
        if not isinstance(made, dict) or made.get("generator") != facts["generator"]:
            raise AffectError(f"generated corpus: {root} is there and is not a generated corpus; name another folder")
        return right(made)

    if there():
        return
    building, former = (root.parent / f".{root.name}.{state}" for state in ("partial", "former"))
    with writing(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / f".{root.name}.lock"):
            if there():
                return
            for left_by_a_kill in (building, former):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)
            try:
                write(building)
                (building / mark).write_text(json.dumps(facts, indent=1) + "\n")
                if root.exists():
                    root.rename(former)
                building.rename(root)
            finally:
                for folder in (building, former):
                    shutil.rmtree(folder, ignore_errors=True)
