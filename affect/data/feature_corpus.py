"""A corpus of features that encoders computed: vectors by modality, and which of them are there.

A feature is a folder of `<utterance>.npy`, [D] or [T, D], or of folders `<utterance>/` of one .npy a frame. Its vectors
[N, D] are put into a store in the cache, from which every later run maps them into memory.

Legend: N utterances, S streams, D numbers of a vector, T frames.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from affect.cache import lock
from affect.data import feature_files, store
from affect.data.array_file import read_array
from affect.data.corpora import stream_keys
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError, first_line, nearest
from affect.tables import counted

_LOG = logging.getLogger("affect")

MODALITIES = ("audio", "text", "video")
"""In the order that streams, masks and models have everywhere."""
SAME = "utterances with the very same features"
"""What copies are called."""
PRESENT, ZERO, ABSENT = 0, 1, 2
"""States of a vector: there; all zero (an empty text, a video without a face), which means missing; no file."""


@dataclass(frozen=True)
class Stream:
    """One feature set: its modality, the name of its folder, and the numbers of a vector."""

    modality: str
    name: str
    width: int


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureCorpus(Corpus):
    """Utterances with a vector of each stream, some of them missing.

    `utterances` has the columns id, part, emotion ("" where missing), valence (NaN where missing) and digest, that of
    all vectors, by which copies are known ("": words alone, or too little to be known by). `present` [N, S] says which
    vectors are there, `absent` [N, S] which have no file (the others that aren't there are all zero); `exclusions`
    names each absent file. `arrays` hold the vectors [N, D] of each stream, read-only, zeros if missing; `stores` are
    the files that they are mapped from, `listed` those that a table lists. `fingerprint` changes when any label or
    vector changes, wherever the corpus lies; `labelled` when an utterance or a label does, and not a vector.
    """

    labelled: str
    classes: tuple[str, ...]
    streams: tuple[Stream, ...]
    present: NDArray[np.bool_]
    absent: NDArray[np.bool_]
    arrays: tuple[NDArray[np.floating[Any]], ...]
    stores: tuple[store.Store, ...] = ()
    listed: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What reports and comparisons call it: runs on other features of the same utterances are compared."""
        return f"{self.name}@{self.labelled[:8]}"

    def release(self) -> None:
        """Let the system take back the memory of vectors read so far; they are read again when they are needed."""
        for each in self.stores:
            each.release()

    @property
    def keys(self) -> tuple[str, ...]:
        """A model's name of each stream."""
        return stream_keys([stream.modality for stream in self.streams])

    @property
    def parts(self) -> list[str]:
        """The parts in the corpus's order: train, valid where it has one of its own, and tests by their names."""
        return list(dict.fromkeys(self.utterances["part"][:]))

    def indices(self, part: str) -> NDArray[np.int64]:
        """Return the rows of a part, in order; raises AffectError for a part that the corpus does not have."""
        parts = np.asarray(self.utterances["part"][:])
        rows = np.flatnonzero(parts == part).astype(np.int64)
        if not len(rows):
            raise AffectError(f"{self.name} has no part {part!r}: {nearest(part, set(parts.tolist()))}")
        return rows


@dataclass(frozen=True, eq=False)
class Table:
    """A feature's vectors [N, D] (missing ones zero), their states [N], a hash of both, and the file of it.

    `reasons` and `left_out` are those of its `FeatureFiles`.
    """

    values: NDArray[np.floating[Any]]
    states: NDArray[np.uint8]
    digest: str
    store: store.Store
    reasons: Mapping[str, str] = field(default_factory=dict)
    left_out: Sequence[Exclusion] = ()


def read_table(folder: Path, names: Sequence[str], cache: Path, listed: Sequence[str] | None = None) -> Table:
    """Return the vectors of `names` from a feature's folder, mapped from `cache`, where they are first written.

    `listed` are the files of a feature that a table lists, one an utterance ("": none); `folder` is then what they are
    called together. Files of one frame [D], of several [T, D], and folders of frames give their mean; nothing in one of
    these counts as an all-zero vector. The table is written anew when a name, size or time of a file has changed;
    several processes may ask at once. Float64 is kept as float32, and halves as halves where all files are. Raises
    AffectError for a file that is no such feature, for widths that differ, and where no utterance has a file.
    """
    listing = feature_files.below(folder, names) if listed is None else feature_files.listed(names, listed)
    own = hashlib.sha256("\0".join((os.path.realpath(folder), *names)).encode("utf-8", "surrogatepass"))
    own.update("\0".join(listed or ()).encode("utf-8", "surrogatepass"))
    path = cache / "streams" / own.hexdigest()[:24] / "table.arrow"
    table = _load(path, listing.stamp)
    if table is None:
        with lock(path.parent, f"the feature {folder.name}"):
            table = _load(path, listing.stamp)
            if table is None:
                _write(path, folder, names, listing.files, listing.stamp)
                table = _table(store.Store(path))
    return replace(table, reasons=listing.reasons, left_out=listing.left_out)


def read_frames(path: str | Path) -> NDArray[np.floating[Any]]:
    """Return the frames [T, D] of an npy file of [D] or [T, D], float16 or float32; raises AffectError for others."""
    array: NDArray[Any] = read_array(path)
    if array.dtype.kind != "f":
        raise AffectError(f"{path} holds {array.dtype}, not float16, float32 or float64; write it as float32")
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise AffectError(f"{path} has the shape {list(array.shape)}; a feature is a vector [D] or frames [T, D]")
    with np.errstate(over="ignore"):
        # What overflows is infinite, and named as such.
        frames: NDArray[np.floating[Any]] = array.astype(
            np.float16 if array.dtype.itemsize == 2 else np.float32, copy=False
        )
    if not np.isfinite(frames).all():
        raise AffectError(f"{path} holds NaN or infinite values; extract it again")
    return frames.reshape(-1, array.shape[-1])


def _write(path: Path, folder: Path, names: Sequence[str], files: Sequence[list[str] | None], stamp: str) -> None:
    """Write all vectors as one batch, so that they lie together and are mapped as one array."""
    values, states = _convert(folder, files)
    digest = hashlib.sha256(f"{values.dtype} {values.shape}".encode())
    digest.update(values.data)
    digest.update(states.data)
    store.write(
        path,
        {"values": store.Feature(str(values.dtype), 1), "state": store.Feature("uint8", 0)},
        ((name, {"values": values[row], "state": states[row]}) for row, name in enumerate(names)),
        facts={"stamp": stamp, "digest": digest.hexdigest()},
        batch_bytes=values.nbytes + len(names) + 1,
    )


def _convert(folder: Path, files: Sequence[list[str] | None]) -> tuple[NDArray[np.floating[Any]], NDArray[np.uint8]]:
    """Read every file of a feature, in threads: a network disk answers slowly. Returns vectors [N, D] and states."""
    values: NDArray[np.floating[Any]] | None = None
    states = np.array([ABSENT if own is None else ZERO for own in files], np.uint8)
    halves, first = True, ""
    with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
        vectors = pool.map(_vector, files)
        bar = tqdm(vectors, f"reading {folder.name}", len(files), delay=1, leave=False, disable=None)
        for index, (own, vector) in enumerate(zip(files, bar, strict=True)):
            if vector is None or own is None:
                continue
            if values is None:
                values, first = np.zeros((len(files), len(vector)), np.float32), own[0]
            _check_widths(own[0], len(vector), first, values.shape[1])
            values[index] = vector
            halves &= vector.dtype == np.float16
            if vector.any():
                states[index] = PRESENT
    if values is None:
        raise AffectError(f"{folder} has no file of any of the {len(files)} utterances: are these features of theirs?")
    return (values.astype(np.float16) if halves else values), states


def _vector(files: list[str] | None) -> NDArray[np.floating[Any]] | None:
    """Return the mean [D] of all frames of an utterance's files; None where it has none."""
    if not files:
        return None
    parts = [read_frames(path) for path in files]
    for path, part in zip(files, parts, strict=True):
        _check_widths(path, part.shape[1], files[0], parts[0].shape[1])
    return mean_of(parts)


def mean_of(parts: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.floating[Any]] | None:
    """Return the mean [D] of frames [T, D], rounded to what their files hold; None where there is no frame."""
    frames = np.concatenate(parts)
    return np.asarray(frames.mean(axis=0, dtype=np.float64).astype(frames.dtype)) if len(frames) else None


def _check_widths(one: str, width: int, other: str, its: int) -> None:
    if width != its:
        raise AffectError(
            f"{one} has {counted(width, 'number')}, {other} has {its}: files of one feature must have the same width"
        )


def _load(path: Path, stamp: str) -> Table | None:
    """Return the table of this stamp, its vectors mapped; None where there is none (damage is logged)."""
    if not path.exists():
        return None
    try:
        kept = store.Store(path)
        return _table(kept) if kept.facts.get("stamp") == stamp else None
    except (AffectError, KeyError) as error:
        _LOG.warning("cached file %s is unreadable and will be made again (%s)", path, first_line(error))
        return None


def _table(kept: store.Store) -> Table:
    return Table(kept.array("values"), kept.array("state"), kept.facts["digest"], kept)
