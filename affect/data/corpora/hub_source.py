"""A `datasets` source as tables whose audio is left encoded, on machines without torchcodec too."""

from __future__ import annotations

import contextlib
import glob
import itertools
import logging
import os
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from datasets import (
    Audio,
    Dataset,
    DatasetDict,
    DownloadConfig,
    Features,
    IterableDataset,
    IterableDatasetDict,
    Value,
    packaged_modules,
)
from datasets.data_files import DataFilesPatternsDict
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.json.json import Json

from affect.data.corpora import folder_source
from affect.data.corpora.folder_source import FILE as FILE
from affect.data.corpus import Exclusion, summary
from affect.data.files import absence, files_below
from affect.data.table_file import read_text
from affect.errors import AffectError, first_line

_LOG = logging.getLogger("affect")

UNNAMED = "file that the rules of the source name for no part"
"""Why a file is left out of a source that is read by rules."""

SOUND = {"bytes": Value("binary"), "path": Value("string")}
"""What audio is here: the storage of datasets' Audio feature without the feature, which would want torchcodec."""

_STORED = {"bytes": ("binary", "large_binary", "null"), "path": ("string", "large_string", "null")}
"""The types of each field where audio is a plain struct: a file written without the feature types what it finds."""


def tables(
    root: str, *, subset: str | None = None, revision: str | None = None, limit: int | None = None,
    streaming: bool = False,
) -> tuple[dict[str, Dataset], list[Exclusion]]:  # fmt: skip
    """Return the parts of a source by name ("" where it has none), together at most `limit` rows, and what is left out.

    `root` is a folder (recordings with metadata, parquet, csv, json, save_to_disk), a file, or a name on the Hub: what
    exists is never taken for a name. CSV is read as texts, and a text of JSON stays one. Of a stream, the rows fetched
    are held in memory. Raises AffectError where it cannot be read, or `subset`, `revision` or `streaming` does nothing
    for what `root` is.
    """
    parts: dict[str, Dataset] = {}
    left_out: list[Exclusion] = []
    left = limit
    try:
        with _encoded_audio_kept():
            for part, source in _open(root, subset, revision, streaming, left_out).items():
                parts[part] = _table(source, left)
                # A column of texts may hold bytes that are none, on which the first reader of a cell would fail.
                parts[part].data.table.validate(full=True)
                left = None if left is None else left - len(parts[part])
                if left == 0:
                    break
    except (datasets.exceptions.DatasetsError, OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise AffectError(f"datasets cannot read {root!r}: {reason}") from error
    if not parts:
        raise AffectError(f"{root} holds no row ({summary(left_out) or 'neither sound nor a table'})")
    return parts, left_out


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


def _open(
    root: str, subset: str | None, revision: str | None, streaming: bool, left_out: list[Exclusion]
) -> dict[str, Dataset | IterableDataset]:
    """Return the parts of a source; what of it is not read is added to `left_out`."""
    path = Path(os.path.abspath(root))
    if os.path.isfile(path / "dataset_dict.json") or os.path.isfile(path / "state.json"):
        _refuse(f"{root} was written by save_to_disk", subset=subset, revision=revision, streaming=streaming)
        return _named(datasets.load_from_disk(str(path)))
    if os.path.isfile(path):
        builder = folder_source.BUILDERS.get(path.suffix.lower())
        if builder is None:
            raise AffectError(f"{root} is no folder and none of {', '.join(folder_source.BUILDERS)}")
        _refuse(f"{root} is one file", subset=subset, revision=revision)
        return {"train": _built(builder, [path], streaming, left_out)}
    if os.path.isdir(path):
        _refuse(f"{root} is a folder", revision=revision)
        if subset is None and not _is_configured(path):
            if folder_source.is_recordings(path):
                _refuse(f"{root} is a folder of recordings", streaming=streaming)
                made, others = folder_source.recordings(path)
                left_out += others
                return {**made}
            builder, files, others = folder_source.table_files(path)
            left_out += others
            if files:
                return {part: _built(builder, own, streaming, left_out) for part, own in files.items()}
        # The whole path: a relative one may have the name of a builder, which reads the working folder.
        return _by_rules(str(path), subset, None, streaming, left_out)
    builders = {module.name for module in pkgutil.iter_modules(packaged_modules.__path__)}
    if os.path.lexists(path) or root.count("/") > 1 or root.startswith((".", "/", "~")) or root in builders:
        raise AffectError(f"{root}: {absence(path, 'folder or file').replace('missing', 'no such', 1)}")
    return _by_rules(root, subset, revision, streaming, left_out)


def _by_rules(
    root: str, subset: str | None, revision: str | None, streaming: bool, left_out: list[Exclusion]
) -> dict[str, Dataset | IterableDataset]:
    """Return the parts that the rules of a source name, its own or those of datasets; others are left out."""
    builder = datasets.load_dataset_builder(root, subset, revision=revision)
    by_part = {str(part): [*map(str, files)] for part, files in (builder.config.data_files or {}).items()}
    files = [file for own in by_part.values() for file in own]
    # Of several configurations each has its own files, which are not lost: who wants them names it.
    read = {
        file.removeprefix("hf://datasets/").partition("@")[2] if file.startswith("hf:") else os.path.realpath(file)
        for file in [*files, *(_files_of_others(builder) if files else ())]
    }
    there = _files_of(root, revision) if read else []
    left_out += [Exclusion(what=name, reason=UNNAMED) for name, full in there if full not in read]
    if kind := _kind(builder, files):
        return {part: _built(kind, [*map(_fetched, own)], False, left_out) for part, own in by_part.items()}
    if streaming:
        return _named(builder.as_streaming_dataset())
    builder.download_and_prepare()
    return _named(builder.as_dataset())


def _files_of_others(builder: Any) -> Iterator[str]:
    """Yield the files that the configurations of a source name which are not read."""
    for name, config in builder.builder_configs.items():
        if name != builder.config.name and isinstance(config.data_files, DataFilesPatternsDict):
            base = "/".join(filter(None, (builder.base_path, config.data_dir)))
            # One whose files are not there is no fault of the one that is read.
            with contextlib.suppress(OSError):
                named = config.data_files.resolve(base, DownloadConfig(token=builder.token))
                yield from (str(file) for own in named.values() for file in own)


def _kind(builder: Any, files: Sequence[str]) -> str:
    """Return what affect itself reads a source's tables as, "" where datasets does: types it declares, compressed."""
    if isinstance(builder, Csv):
        return "csv"
    declared = isinstance(builder, Json) and (builder.info.features or builder.config.field)
    plain = all(folder_source.BUILDERS.get(os.path.splitext(file)[1].lower()) == "json" for file in files)
    return "json" if isinstance(builder, Json) and plain and not declared else ""


def _fetched(file: str) -> Path:
    """Return a file of a source on this disk: hf://datasets/OWNER/NAME@REVISION/PATH is brought here."""
    if not file.startswith("hf://"):
        return Path(file)
    repo, _, rest = file.removeprefix("hf://datasets/").partition("@")
    revision, _, name = rest.partition("/")
    return Path(huggingface_hub.hf_hub_download(repo, name, repo_type="dataset", revision=revision))


def _files_of(root: str, revision: str | None) -> list[tuple[str, str]]:
    """Return the tables, recordings and archives of a folder or a source on the Hub, and how datasets calls each."""
    if os.path.isdir(root):
        paths, _ = files_below(Path(root), folder_source.is_held)
        return [(path.relative_to(root).as_posix(), os.path.realpath(path)) for path in paths]
    try:
        about = huggingface_hub.HfApi().dataset_info(root, revision=revision)
    except OSError as error:
        _LOG.warning("%s: what it holds beside its parts cannot be told (%s)", root, first_line(error))
        return []
    names = [each.rfilename for each in about.siblings or ()]
    return [(name, f"{about.sha}/{name}") for name in names if folder_source.is_held(name.rpartition("/")[2])]


def _named(opened: Any) -> dict[str, Dataset | IterableDataset]:
    parts = opened if isinstance(opened, (DatasetDict, IterableDatasetDict)) else {"": opened}
    return {str(name): part for name, part in parts.items()}


def _built(
    builder: str, paths: Sequence[Path], streaming: bool, left_out: list[Exclusion]
) -> Dataset | IterableDataset:
    """Return some tables of one kind as one; CSV and JSON, whose texts datasets would make into others, by affect."""
    if builder == "csv":
        table, others = folder_source.read_tables(paths)
        left_out += others
        return table
    if builder == "json":
        return folder_source.read_objects(paths)
    files = [glob.escape(str(path)) for path in paths]
    opened: Dataset | IterableDataset = datasets.load_dataset(
        builder, data_files={"train": files}, split="train", streaming=streaming
    )
    return opened


def _is_configured(folder: Path) -> bool:
    """Say whether a folder's README.md says which files its parts and configurations have."""
    card = folder / "README.md"
    head = read_text(card).partition("\n---")[0] if os.path.isfile(card) else ""
    return head.startswith("---") and "\nconfigs:" in head


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
