"""Speaker embeddings [E] that somebody else computed: from a table with a column of them, or a folder of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, List, Value
from numpy.typing import NDArray

from affect.data.array_file import read_array
from affect.data.files import absence
from affect.data.table_file import json_object, read_text
from affect.errors import AffectError, first_few, first_line
from affect.tables import counted

COLUMN = "speaker_embedding"


def add(dataset: Dataset, source: str | Path) -> Dataset:
    """Return `dataset` with the column `speaker_embedding` [E] (float32), looked up by id.

    `source` is a parquet or jsonl file with the columns `id` and `embedding`, or a folder of `<id>.npy`. Raises
    AffectError where it can't be read, an utterance has none, or they differ in length or aren't finite.
    """
    path = Path(source)
    names: list[str] = list(dataset["id"])
    vectors = _folder(path, names) if path.is_dir() else _table(path)
    missing = [name for name in names if name not in vectors]
    if missing:
        raise AffectError(f"{path} has no embedding of {len(missing)} of {len(names)} utterances: {first_few(missing)}")
    rows = [vectors[name] for name in names]
    for name, row in zip(names, rows, strict=True):
        fault = ""
        if row.ndim != 1 or not len(row):
            fault = f"is no vector, its shape is {list(row.shape)}"
        elif row.shape != rows[0].shape:
            fault = f"has {counted(len(row), 'number')}, that of {names[0]} {len(rows[0])}"
        elif not np.isfinite(row).all():
            fault = "holds NaN or infinite values"
        if fault:
            raise AffectError(f"{path}: the embedding of {name} {fault}")
    return dataset.add_column(COLUMN, rows, feature=List(Value("float32")))


def _folder(path: Path, names: list[str]) -> dict[str, NDArray[np.float32]]:
    files = {name: path / f"{name}.npy" for name in names}
    arrays = {name: read_array(file) for name, file in files.items() if not absence(file)}
    with np.errstate(over="ignore"):
        # What overflows is infinite, and named as such.
        return {name: array.astype(np.float32) for name, array in arrays.items()}


def _table(path: Path) -> dict[str, NDArray[np.float32]]:
    if reason := absence(path):
        raise AffectError(f"data.embeddings: there is no {path} ({reason})")
    rows: list[Mapping[str, Any]]
    try:
        if path.suffix == ".parquet":
            # Read here, not by `datasets`, whose cache would keep a copy of a file that may change.
            import pyarrow.parquet

            rows = pyarrow.parquet.read_table(path).to_pylist()
        else:
            lines = enumerate(read_text(path).split("\n"), 1)
            rows = [json_object(line, f"{path}:{number}") for number, line in lines if line.strip()]
        names = [str(row["id"]) for row in rows]
        if len(set(names)) < len(names):
            raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} more than once")
        with np.errstate(over="ignore"):
            return {name: _vector(row["embedding"]) for name, row in zip(names, rows, strict=True)}
    except (OSError, ValueError, TypeError) as error:
        raise AffectError(f"{path} is no table of embeddings: {first_line(error)}") from error
    except KeyError as error:
        raise AffectError(f"{path} has no column {error.args[0]!r}; it needs id and embedding") from error


def _vector(values: Any) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"an embedding holds {array.dtype}, and no numbers")
    return array.astype(np.float32)
