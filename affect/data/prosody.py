"""Prosody of utterances: frames, functionals, and a corpus's functionals computed once and kept on disk.

`default` is made of permissively licensed parts; `egemaps` is openSMILE's set, an optional extra.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, List, Value
from numpy.typing import NDArray
from tqdm import tqdm

from affect.data import audio, egemaps
from affect.data.cache import cache_folder, lock, read_array, write_array
from affect.data.descriptors import FRAME_FEATURES, frames
from affect.data.functionals import FUNCTIONAL_NAMES, functionals
from affect.errors import AffectError, nearest

__all__ = ["FRAME_FEATURES", "FUNCTIONAL_NAMES", "VERSION", "add", "compute", "frames", "functionals", "names"]

Array = NDArray[np.float32]
Kind = Literal["default", "egemaps"]

_LOG = logging.getLogger("affect")
VERSION = 1
"""To be raised whenever a functional changes: the cache then starts anew."""
KINDS = ("default", "egemaps")
SHARD = 512
"""Utterances a file of the cache: what an interrupted run loses at most, and few files for a large corpus."""


def names(kind: Kind = "default") -> tuple[str, ...]:
    """Return the functionals' names; raises AffectError for an unknown kind, or `egemaps` without openSMILE."""
    _check_kind(kind)
    return FUNCTIONAL_NAMES if kind == "default" else egemaps.names()


def compute(waveform: Array, kind: str = "default", rate: int = 16_000) -> Array:
    """Return the functionals [D] of a waveform [S] at `rate` Hz; raises AffectError as `names` does."""
    _check_kind(kind)
    return functionals(waveform, rate) if kind == "default" else egemaps.functionals(waveform, rate)


def add(dataset: Dataset, kind: Kind = "default", jobs: int | None = None) -> Dataset:
    """Return `dataset` with the column `prosody`: each row's functionals [D] as float32, named by `names(kind)`.

    Computed by `jobs` threads (default: the machine's cores, 8 at most) and kept in the cache folder, where a row is
    known by the content of its audio; of several processes one computes and the others wait. Raises AffectError for
    audio that can't be read.
    """
    width = len(names(kind))
    held = dataset.select_columns([c for c in ("id", "audio", "path", "digest") if c in dataset.column_names])
    keys = [_key(held[i]) for i in range(len(held))]
    table = _Table(cache_folder() / "prosody" / f"{kind}-{VERSION}", width)
    known = table.read()
    if not known.keys() >= set(keys):
        with lock(table.folder, "prosody"):
            known = table.read()  # another process may have been here first
            missing = {key: i for i, key in enumerate(keys) if key not in known}
            for block in _blocks(held, list(missing.items()), partial(compute, kind=kind), jobs or _cores()):
                table.write(block)
                known |= block
    column = [known[key] for key in keys]
    if "prosody" in dataset.column_names:
        dataset = dataset.remove_columns("prosody")
    return dataset.add_column("prosody", column, feature=List(Value("float32")))


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise AffectError(f"unknown kind of prosody {kind!r}; {nearest(kind, KINDS)}")


def _cores() -> int:
    """Return how many threads are of use: beyond eight, the parts that hold Python's lock decide."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _key(row: dict[str, Any]) -> bytes:
    """Return what a row's audio is known by [32]: its content's hash, else the file's path, size and time of change."""
    held = row.get("audio")
    held = held if isinstance(held, dict) else {"path": held}
    if held.get("bytes") is not None:
        text = hashlib.sha256(held["bytes"]).hexdigest()
    elif row.get("digest"):
        text = str(row["digest"])
    else:
        path = os.path.abspath(held.get("path") or row.get("path") or "")
        try:
            stamp = os.stat(path)
        except OSError as error:
            raise AffectError(f"{path}: no such audio file") from error
        text = hashlib.sha256(f"{path}:{stamp.st_size}:{stamp.st_mtime_ns}".encode()).hexdigest()
    return text[:32].encode()


def _blocks(
    held: Dataset, missing: list[tuple[bytes, int]], compute: Callable[[Array], Array], jobs: int
) -> Iterator[dict[bytes, Array]]:
    """Yield the functionals of the missing rows by key, at most `SHARD` at a time."""
    if not missing:
        return
    _LOG.info("prosody: %d utterances to compute with %d threads", len(missing), jobs)
    with (
        ThreadPoolExecutor(max_workers=jobs) as pool,
        tqdm(total=len(missing), desc="prosody", delay=2, leave=False, disable=None) as bar,
    ):
        for start in range(0, len(missing), SHARD):
            block = missing[start : start + SHARD]
            found: dict[bytes, Array] = {}
            results = pool.map(lambda pair: compute(audio.of_row(held[pair[1]])), block)
            for (key, _), values in zip(block, results, strict=True):
                found[key] = values
                bar.update()
            yield found


class _Table:
    """The functionals of one kind on disk: files of (key, values) rows, each written whole or not at all."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.dtype = np.dtype([("key", "S32"), ("values", np.float32, (width,))])

    def read(self) -> dict[bytes, Array]:
        """Return all values [D] by key; a file that can't be read is logged, removed and made again."""
        known: dict[bytes, Array] = {}
        for path in sorted(self.folder.glob("*.npy")):
            rows = read_array(path)
            if rows is None or rows.dtype != self.dtype or not np.isfinite(rows["values"]).all():
                if rows is not None:
                    _LOG.warning("cached file %s is not of this version and will be made again", path)
                path.unlink(missing_ok=True)
                continue
            known.update(zip(rows["key"].tolist(), rows["values"], strict=True))
        return known

    def write(self, block: dict[bytes, Array]) -> None:
        """Add a file with these values."""
        rows = np.zeros(len(block), dtype=self.dtype)
        rows["key"] = list(block)
        rows["values"] = list(block.values())
        name = hashlib.sha256(b"".join(sorted(block))).hexdigest()[:24]
        write_array(self.folder / f"{name}.npy", rows)
