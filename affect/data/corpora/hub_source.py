"""A `datasets` source as tables whose audio is left encoded, on machines without torchcodec too."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import Audio, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, Value

from affect.errors import AffectError

SOUND = {"bytes": Value("binary"), "path": Value("string")}
"""What audio is here: the storage of datasets' Audio feature without the feature, which would want torchcodec."""

_STORED = {"bytes": ("binary", "large_binary", "null"), "path": ("string", "large_string", "null")}
"""The types of each field where audio is a plain struct: a file written without the feature types what it finds."""

_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json"}


def tables(
    root: str, *, subset: str | None = None, revision: str | None = None, limit: int | None = None,
    streaming: bool = False,
) -> dict[str, Dataset]:  # fmt: skip
    """Return the parts of a source by name ("" where it has none), together at most `limit` rows.

    `root` is a folder (audiofolder, parquet, csv, save_to_disk), a file, or a name on the Hub. Of a stream, the rows
    fetched are held in memory. Raises AffectError where it cannot be read, or `subset`, `revision` or `streaming`
    does nothing for what `root` is.
    """
    parts: dict[str, Dataset] = {}
    left = limit
    try:
        with _encoded_audio_kept():
            for part, source in _open(root, subset, revision, streaming).items():
                parts[part] = _table(source, left)
                left = None if left is None else left - len(parts[part])
                if left == 0:
                    break
    except (datasets.exceptions.DatasetsError, OSError, ValueError, TypeError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise AffectError(f"datasets cannot read {root!r}: {reason}") from error
    if not parts:
        raise AffectError(f"{root} has no part")
    return parts


def sounds(table: Dataset, column: str) -> Dataset:
    """Return the audio column alone, called `audio`, as {"bytes", "path"}; raises AffectError where it is no audio."""
    sound = table.select_columns([column])
    sound = sound if column == "audio" else sound.rename_column(column, "audio")
    feature = sound.features["audio"]
    if feature == SOUND:
        return sound
    if _is_stored(feature):
        return sound.cast_column("audio", SOUND)
    # Audio takes no large_string, which is what CSV files are read as.
    if feature in (Value("large_string"), Value("large_binary")):
        sound = sound.cast_column("audio", Value(feature.dtype.removeprefix("large_")))
    feature = sound.features["audio"]
    if not isinstance(feature, Audio) and feature not in (Value("string"), Value("binary")):
        raise AffectError(f"column {column!r} is no audio: neither files, bytes nor names of files")
    return sound.cast_column("audio", Audio(decode=False)).cast_column("audio", SOUND)


def is_sound(feature: object) -> bool:
    """Say whether a feature is audio by its type."""
    return isinstance(feature, Audio) or _is_stored(feature)


def _is_stored(feature: object) -> bool:
    """Say whether a feature is a struct of `bytes`, `path` or both, and nothing else."""
    return (
        isinstance(feature, dict)
        and bool(feature)
        and all(name in _STORED and getattr(kind, "dtype", None) in _STORED[name] for name, kind in feature.items())
    )


def _open(root: str, subset: str | None, revision: str | None, streaming: bool) -> dict[str, Dataset | IterableDataset]:
    path = Path(root)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        _refuse(f"{root} was written by save_to_disk", subset=subset, revision=revision, streaming=streaming)
        opened = datasets.load_from_disk(root)
    elif path.is_file():
        if path.suffix not in _BUILDERS:
            raise AffectError(f"{root} is no folder and none of {', '.join(_BUILDERS)}")
        _refuse(f"{root} is one file", subset=subset, revision=revision)
        more: dict[str, Any] = {"sep": "\t"} if path.suffix == ".tsv" else {}
        opened = datasets.load_dataset(_BUILDERS[path.suffix], data_files=root, streaming=streaming, **more)
    elif path.is_dir():
        _refuse(f"{root} is a folder", revision=revision)
        opened = datasets.load_dataset(root, subset, streaming=streaming)
    elif root.count("/") <= 1 and not root.startswith((".", "/", "~")):
        opened = datasets.load_dataset(root, subset, revision=revision, streaming=streaming)
    else:
        raise AffectError(f"{root}: no such folder or file")
    parts = opened if isinstance(opened, (DatasetDict, IterableDatasetDict)) else {"": opened}
    return {str(name): part for name, part in parts.items()}


def _refuse(reason: str, **options: object) -> None:
    """Raise AffectError for an option that is given and would do nothing."""
    for name, value in options.items():
        if value:
            raise AffectError(f"{name} does nothing here: {reason}")


def _table(source: Dataset | IterableDataset, limit: int | None) -> Dataset:
    features = source.features or {}
    for name, feature in features.items():
        if isinstance(feature, Audio):
            source = source.cast_column(name, Audio(decode=False))
    if isinstance(source, IterableDataset):
        fetched = list(itertools.islice(source, limit))
        plain = {name: SOUND if isinstance(feature, Audio) else feature for name, feature in features.items()}
        return Dataset.from_list(fetched, features=Features(plain) if plain else None)
    return source if limit is None else source.select(range(min(limit, len(source))))


@contextlib.contextmanager
def _encoded_audio_kept() -> Iterator[None]:
    """Let datasets store audio that is encoded already (files, bytes) without importing torchcodec.

    datasets 4 and 5 import torchcodec's encoder even to write down a file's name, as every audiofolder does, and
    torchcodec installs beside few versions of torch. Arrays, which do need an encoder, still go to datasets.
    """
    original = Audio.encode_example

    def encode_example(self: Audio, value: Any) -> Any:
        if isinstance(value, (str, Path)):
            return {"bytes": None, "path": str(value)}
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": bytes(value), "path": None}
        if isinstance(value, dict) and "array" not in value and (value.get("bytes") or value.get("path")):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return original(self, value)

    Audio.encode_example = encode_example
    try:
        yield
    finally:
        Audio.encode_example = original
