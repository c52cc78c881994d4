"""Features by row in one memory-mapped Arrow file: arrays of any rank, ragged ones too, several features a row.

A file is Arrow IPC: a column `id`, and for each feature a large_list of its numbers, null where a row lacks it, and a
column `<feature>.shape`. Type and rank of each feature are in the schema, a hash of all rows in the metadata of a last,
empty batch. Reading is free of copies.

Legend: N rows, R dimensions of an array.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from affect.cache import replace_file
from affect.data.files import open_file
from affect.errors import AffectError, first_line, nearest

Array = NDArray[Any]
Arrays = Mapping[str, Array | None]

_FORMAT = "affect.store.1"
_BATCH = 16 * 2**20
"""Bytes of features that a record batch holds: what writing keeps in memory."""
_MOST = 2.0**48
"""Numbers of the largest array, sides without any counted as one."""
_TYPES = ("float16", "float32", "float64", "uint8", "int16", "int32")


@dataclass(frozen=True)
class Feature:
    """What all arrays of a feature have in common: their type and their number of dimensions."""

    dtype: str
    rank: int

    def __post_init__(self) -> None:
        if self.dtype not in _TYPES:
            raise AffectError(f"a feature is not stored as {self.dtype}: {nearest(self.dtype, _TYPES)}")


def write(
    path: Path, features: Mapping[str, Feature], rows: Iterable[tuple[str, Arrays]], *,
    facts: Mapping[str, str] | None = None, batch_bytes: int = _BATCH,
) -> None:  # fmt: skip
    """Write rows of (id, {feature: array, None where missing}), whole or not at all, in bounded memory.

    `facts` are short texts to be kept with them. Raises AffectError for an id that comes twice, arrays of another type
    or rank than their feature's, for NaN and infinite values, and where the disk refuses.
    """
    kinds = json.dumps({name: asdict(feature) for name, feature in features.items()})
    metadata = {"format": _FORMAT, "features": kinds, "facts": json.dumps(dict(facts or {}))}
    schema = _schema(features).with_metadata(metadata)

    def fill(file: BinaryIO) -> None:
        digest = _digest(features)
        with pa.ipc.new_file(file, schema) as writer:
            for batch in _batches(_checked(features, rows), batch_bytes):
                for id, arrays in batch:
                    _add(digest, id, arrays)
                writer.write_batch(pa.record_batch(_columns(features, batch), schema=schema))
            last = pa.RecordBatch.from_pylist([], schema=schema)
            writer.write_batch(last, custom_metadata={"digest": digest.hexdigest()})

    replace_file(path, fill)


def _schema(features: Mapping[str, Feature]) -> pa.Schema:
    fields = [pa.field("id", pa.large_string())]
    for name, feature in features.items():
        shape = pa.list_(pa.int64(), max(1, feature.rank))
        numbers = pa.large_list(pa.from_numpy_dtype(np.dtype(feature.dtype)))
        fields += [pa.field(name, numbers), pa.field(f"{name}.shape", shape)]
    return pa.schema(fields)


def _digest(features: Mapping[str, Feature]) -> hashlib._Hash:
    """Return the beginning of a hash of rows in their order, to which each is added."""
    return hashlib.sha256(repr(sorted(features.items())).encode())


def _add(digest: hashlib._Hash, id: str, arrays: Arrays) -> None:
    """Add a row to the hash: its id, and shape and numbers of every feature, as they are stored."""
    for name, array in sorted(arrays.items()):
        digest.update(repr((id, name, None if array is None else array.shape)).encode())
        if array is not None:
            digest.update(array.reshape(-1).view(np.uint8).data)


def _checked(features: Mapping[str, Feature], rows: Iterable[tuple[str, Arrays]]) -> Iterator[tuple[str, Arrays]]:
    """Yield the rows with every feature, as it is stored."""
    seen: set[str] = set()
    for id, arrays in rows:
        if id in seen:
            raise AffectError(f"a store has one row an id: {id!r} comes twice")
        seen.add(id)
        unknown = next((name for name in arrays if name not in features), None)
        if unknown is not None:
            raise AffectError(f"row {id!r} has the unknown feature {unknown!r}: {nearest(unknown, features)}")
        given = ((name, arrays.get(name)) for name in features)
        yield id, {name: a if a is None else _numbers(a, features[name], f"{name} of row {id!r}") for name, a in given}


def _batches(rows: Iterable[tuple[str, Arrays]], most: int) -> Iterator[list[tuple[str, Arrays]]]:
    held: list[tuple[str, Arrays]] = []
    size = 0
    for id, arrays in rows:
        held.append((id, arrays))
        size += sum(array.nbytes for array in arrays.values() if array is not None)
        if size >= most:
            yield held
            held, size = [], 0
    if held:
        yield held


def _numbers(array: Array, feature: Feature, where: str) -> Array:
    """Return an array as it is stored; raises AffectError where it is not what the feature says."""
    if array.dtype.newbyteorder("=") != feature.dtype or array.ndim != feature.rank:
        held, due = f"{array.dtype} of {array.ndim} dimensions", f"{feature.dtype} of {feature.rank}"
        raise AffectError(f"{where} is {held}, not {due} as its feature")
    if not np.isfinite(array).all():
        raise AffectError(f"{where} holds NaN or infinite values")
    # A copy: who yields rows may fill one array again and again.
    return np.array(array, feature.dtype, order="C")


def _columns(features: Mapping[str, Feature], batch: Sequence[tuple[str, Arrays]]) -> list[pa.Array]:
    columns: list[pa.Array] = [pa.array([id for id, _ in batch], pa.large_string())]
    for name, feature in features.items():
        arrays = [row[name] for _, row in batch]
        # One of none, so that there is something to join where no row has the feature.
        flat = [np.zeros(0, feature.dtype), *(array.reshape(-1) for array in arrays if array is not None)]
        offsets = np.cumsum([0, *(0 if array is None else array.size for array in arrays)], dtype=np.int64)
        missing = pa.array([array is None for array in arrays], pa.bool_())
        columns.append(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(flat)), mask=missing))
        shapes = np.zeros((len(arrays), max(1, feature.rank)), np.int64)
        for shape, array in zip(shapes, arrays, strict=True):
            if array is not None:
                shape[:] = array.shape or 1
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(shapes.reshape(-1)), shapes.shape[1]))
    return columns


@dataclass(frozen=True, eq=False)
class _Column:
    """A feature's numbers by record batch, and where in its batch each row's begin [N] (-1: none), and their shape."""

    feature: Feature
    values: list[Array]
    start: NDArray[np.int64]
    shapes: NDArray[np.int64]


class Store:
    """A file that `write` wrote, mapped into memory: `ids` of its rows, `features`, and the `facts` kept with them.

    `digest` is another where any row is. Raises AffectError, in one line, for a file that is missing, cut off,
    contradicts itself, or is no store; a flipped bit among the numbers is what `check` finds.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with open_file(self.path) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.py_buffer(self._map))
            facts = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
            if facts.get("format") != _FORMAT:
                raise ValueError("it is of another program, or of another version")
            batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
            end = reader.get_batch_with_custom_metadata(len(batches) - 1)
            self.digest: str = end.custom_metadata["digest"].decode()
            for batch in batches:
                batch.validate(full=True)
            self.features = {name: Feature(**each) for name, each in json.loads(facts["features"]).items()}
            if not reader.schema.equals(_schema(self.features)):
                raise ValueError("its columns are not those of its features")
            self.facts: dict[str, str] = json.loads(facts["facts"])
            self.ids: list[str] = [id for batch in batches for id in batch.column("id").to_pylist()]
            self._batch = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
            self._columns = {name: _column(name, feature, batches) for name, feature in self.features.items()}
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise AffectError(f"{path} is no readable store of features ({reason})") from error

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        """Let another process open a map of its own."""
        return Store, (self.path,)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, name: str, row: int) -> Array | None:
        """Return a row's array, read-only, None where it is missing; raises AffectError for an unknown feature."""
        column = self._column(name)
        start, shape = int(column.start[row]), column.shapes[row].tolist()
        if start < 0:
            return None
        array: Array = column.values[self._batch[row]][start : start + math.prod(shape)]
        return array.reshape(shape[: column.feature.rank])

    def check(self) -> None:
        """Read all of it against its hash; raises AffectError where a number is not what was written."""
        digest = _digest(self.features)
        for row, id in enumerate(self.ids):
            _add(digest, id, {name: self.read(name, row) for name in self.features})
        if digest.hexdigest() != self.digest:
            raise AffectError(f"{self.path} is damaged: its numbers are not those that were written")

    def array(self, name: str) -> Array:
        """Return a feature of all rows [N, ...], mapped if it is one batch; raises AffectError where rows differ."""
        column = self._column(name)
        if not len(self) or (column.start < 0).any() or (column.shapes != column.shapes[0]).any():
            raise AffectError(f"{self.path}: {name} is no single array: its rows differ in shape, or are missing")
        # The last batch has no rows.
        first, *others = column.values[:-1]
        whole = np.concatenate([first, *others]) if others else first
        return whole.reshape(len(self), *column.shapes[0, : column.feature.rank])

    def release(self) -> None:
        """Let the system take back the memory of features read so far; they are read again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _column(self, name: str) -> _Column:
        if name not in self._columns:
            raise AffectError(f"{self.path} has no feature {name!r}: {nearest(name, self._columns)}")
        return self._columns[name]


def _column(name: str, feature: Feature, batches: Sequence[pa.RecordBatch]) -> _Column:
    """Return where a feature's numbers lie; raises ValueError where shapes and numbers contradict each other."""
    values, starts, shapes = [], [], []
    for batch in batches:
        lists, sides = batch.column(name), batch.column(f"{name}.shape")
        if sides.null_count:
            raise ValueError(f"a shape of {name} is missing")
        shape = sides.flatten().to_numpy(zero_copy_only=True).reshape(len(batch), max(1, feature.rank))
        offsets = lists.offsets.to_numpy(zero_copy_only=True)
        there = lists.is_valid().to_numpy(zero_copy_only=False)
        # Sides of an array without numbers are damaged, too, where NumPy could not have such an array.
        beyond = np.maximum(shape, 1).prod(axis=1, dtype=np.float64) > _MOST
        if (shape < 0).any() or beyond.any() or (np.where(there, shape.prod(axis=1), 0) != np.diff(offsets)).any():
            raise ValueError(f"a shape of {name} is not that of its numbers")
        values.append(lists.values.to_numpy(zero_copy_only=True))
        starts.append(np.where(there, offsets[:-1], -1))
        shapes.append(shape)
    return _Column(feature, values, np.concatenate(starts), np.concatenate(shapes))
