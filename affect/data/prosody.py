"""Prosody of utterances: frames, functionals, and a corpus's functionals computed once and kept on disk.

`default` is made of permissively licensed parts; `egemaps` is openSMILE's set, an optional extra.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, List, Value
from numpy.typing import NDArray

from affect.cache import cache_folder, lock
from affect.data import audio, egemaps, store
from affect.data.functionals import FUNCTIONAL_NAMES, functionals
from affect.errors import AffectError, nearest
from affect.progress import progress

Array = NDArray[np.float32]
Kind = Literal["default", "egemaps"]

_LOG = logging.getLogger("affect")
VERSION = 2
"""To be raised whenever a functional changes: the cache then starts anew."""
KINDS = ("default", "egemaps")
_HEARD = ("id", "audio", "path", "digest", "offset", "duration")
"""Columns that say what is heard."""
SHARD = 512
"""Utterances a file of the cache: what an interrupted run loses at most, and few files for a large corpus."""


def names(kind: str = "default") -> tuple[str, ...]:
    """Return the functionals' names; raises AffectError for an unknown kind, or `egemaps` without openSMILE."""
    _check_kind(kind)
    return FUNCTIONAL_NAMES if kind == "default" else egemaps.names()


def compute(waveform: Array, kind: str = "default", rate: int = 16_000) -> Array:
    """Return the functionals [D], named by `names(kind)`, of a waveform [S] at `rate` Hz; raises as that does."""
    _check_kind(kind)
    return functionals(waveform, rate) if kind == "default" else egemaps.functionals(waveform, rate)


def add(dataset: Dataset, kind: Kind = "default") -> Dataset:
    """Return `dataset` with the column `prosody`: each row's functionals [D] as float32, named by `names(kind)`.

    Computed in threads and kept in the cache folder, where a row is known by the content of its audio; of several
    processes one computes and the others wait. Raises AffectError for audio that can't be read.
    """
    width = len(names(kind))
    held = dataset.select_columns([c for c in _HEARD if c in dataset.column_names])
    keys = [_key(row) for row in held]
    folder = cache_folder() / "prosody" / f"{kind}-{VERSION}"
    kept = _read(folder, width)
    if not kept.keys() >= set(keys):
        with lock(folder, "prosody"):
            kept = _read(folder, width)  # another process may have been here first
            missing = {key: i for i, key in enumerate(keys) if key not in kept}
            for block in _computed(held, missing, kind) if missing else ():
                name = hashlib.sha256("".join(sorted(block)).encode()).hexdigest()[:24]
                rows = ((key, {"values": values}) for key, values in block.items())
                store.write(folder / f"{name}.arrow", {"values": store.Feature("float32", 1)}, rows)
                kept |= block
    column = [kept[key] for key in keys]
    if "prosody" in dataset.column_names:
        dataset = dataset.remove_columns("prosody")
    return dataset.add_column("prosody", column, feature=List(Value("float32")))


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise AffectError(f"unknown kind of prosody {kind!r}; {nearest(kind, KINDS)}")


def _key(row: dict[str, Any]) -> str:
    """Return what a row's audio is known by: its content's hash, else one of the file's path, size and time."""
    held = row.get("audio")
    held = held if isinstance(held, dict) else {"path": held}
    if row.get("digest"):
        # Of a part of a recording it is another one than of the whole.
        text = str(row["digest"])
    elif held.get("bytes") is not None:
        text = hashlib.sha256(held["bytes"]).hexdigest()
    else:
        path = os.path.abspath(held.get("path") or row.get("path") or "")
        try:
            stamp = os.stat(path)
        except OSError as error:
            raise AffectError(f"{path}: no such audio file") from error
        text = hashlib.sha256(f"{path}:{stamp.st_size}:{stamp.st_mtime_ns}".encode()).hexdigest()
    return text[:32]


def _computed(held: Dataset, missing: dict[str, int], kind: Kind) -> Iterator[dict[str, Array]]:
    """Yield the functionals of the missing rows by key, at most `SHARD` at a time."""
    keys = list(missing)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = min(8, cores)  # beyond eight, the parts that hold Python's lock decide
    _LOG.info("prosody: %d utterances to compute with %d threads", len(missing), jobs)
    with (
        ThreadPoolExecutor(max_workers=jobs) as pool,
        progress(len(missing), "prosody") as done,
    ):
        for start in range(0, len(keys), SHARD):
            block = keys[start : start + SHARD]
            values = pool.map(lambda key: compute(audio.of_row(held[missing[key]]), kind), block)
            block_values: dict[str, Array] = {}
            for key, row in zip(block, values, strict=True):
                block_values[key] = row
                done(1)
            yield block_values


def _read(folder: Path, width: int) -> dict[str, Array]:
    """Return all values [D] by key; a file that can't be read is logged, removed and made again."""
    kept: dict[str, Array] = {}
    for path in sorted(folder.glob("*.arrow")):
        try:
            shard = store.Store(path)
            # Copied: a map would keep a file open, of which there may be many.
            values = np.array(shard.array("values"))
            if values.shape[1:] != (width,):
                raise AffectError(f"{path} is not of this version")
        except AffectError as error:
            _LOG.warning("%s; it will be made again", error)
            path.unlink(missing_ok=True)
            continue
        kept.update(zip(shard.ids, values, strict=True))
    return kept
