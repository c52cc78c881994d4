"""A folder as `datasets` lays sources out: recordings with metadata, or tables; every file is read or left out.

The rules by which `datasets` divides a folder drop what they don't name: of forty recordings of which one is called
mic_test.wav they read that one. Here a folder's name, or a table's, may say a part, a recording's never does.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Dataset, Features, Value

from affect.data.corpus import Exclusion
from affect.data.endings import FILM, SOUND
from affect.data.files import files_below, open_file, unnamed
from affect.data.parts import PARTS, words_of
from affect.data.table_file import SEPARATORS, columns_of, read_csv, read_json, surplus
from affect.errors import AffectError, first_line

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files that say more of the recordings beside and below them, by the column file_name."""

BUILDERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json"}
"""Tables by their endings, and what reads them."""

AUDIO_COLUMNS = frozenset(("audio", "path", "file", "file_name", "wav"))
"""Columns that name recordings, or hold them."""

FILE = "affect.file"
"""The column of a recording's name, below its folder."""

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_ABOUT = ("config.json", "dataset_info.json", "dataset_infos.json")
"""Files that `datasets` leaves beside tables, and which are none."""
_MEDIA = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
"""How files are kept: what `datasets` has below its own types, which want decoders."""
_SHARD = re.compile(r"-\d+-of-\d+.*$")

Parts = dict[str, Dataset]


def is_data(name: str) -> bool:
    """Say whether a file is, by its name, a table or a recording."""
    return name not in _ABOUT and _ending(name) in SOUND | FILM | {*BUILDERS}


def is_held(name: str) -> bool:
    """Say whether a file is, by its name, one that may hold rows: a table, a recording or an archive."""
    return is_data(name) or _ending(name) in _ARCHIVES


def is_recordings(folder: Path) -> bool:
    """Say whether a folder is one of recordings: it has metadata, or sound and no table that names files."""
    paths, _ = files_below(folder, is_data)
    if any(path.name in METADATA for path in paths):
        return True
    tables = [path for path in paths if _ending(path.name) in BUILDERS]
    return len(tables) < len(paths) and not any(map(_names_files, tables))


def _names_files(table: Path) -> bool:
    """Say whether a table has a column of recordings by its name, or may have one."""
    if BUILDERS[_ending(table.name)] == "csv":
        columns = columns_of(table)
    elif BUILDERS[_ending(table.name)] == "json":
        with open_file(table) as file:
            text = file.read(1 << 20).decode("utf-8-sig", errors="replace").lstrip()
        # The first object: of an array, or on a line; other JSON is settings.
        columns = re.findall(r'"(\w+)"\s*:', text.partition("}" if text.startswith("[") else "\n")[0])
    else:
        return _ending(table.name) == ".parquet"
    return not AUDIO_COLUMNS.isdisjoint(columns)


def recordings(folder: Path) -> tuple[Parts, list[Exclusion]]:
    """Return the parts of a folder of recordings, and what is left out: what metadata doesn't name, archives, tables.

    A row has `audio` (`video` of films), `FILE` and what metadata says; without metadata its `label` is the innermost
    folder, where these differ. Raises AffectError for metadata that can't be read.
    """
    root = Path(os.path.abspath(folder))
    tables, left_out = files_below(root, lambda name: _ending(name) in (*BUILDERS, *_ARCHIVES) and name not in _ABOUT)
    metadata = [path for path in tables if path.name in METADATA]
    for path in tables:
        if path not in metadata:
            reason = "archive: unpack it" if _ending(path.name) in _ARCHIVES else f"table that is no {METADATA[0]}"
            left_out.append(Exclusion(what=path.relative_to(root).as_posix(), reason=reason))
    if metadata:
        rows = [pair for file in metadata for pair in _described(root, file, left_out)]
        left_out += unnamed(root, [path for path, _ in rows], "recording that no metadata names", SOUND | FILM)
    else:
        sounds, others = files_below(root, lambda name: _ending(name) in SOUND | FILM)
        rows = list(zip(sounds, _labels(root, sounds), strict=True))
        left_out += others
    # Links that lead in a loop are met by both walks.
    return _by_part(rows, root), list(dict.fromkeys(left_out))


def table_files(folder: Path) -> tuple[str, dict[str, list[Path]], list[Exclusion]]:
    """Return what reads the tables of a folder, these by their parts, and the tables of other kinds that are left out.

    The kind is that of most files; "" where there is no table.
    """
    paths, left_out = files_below(folder, lambda name: _ending(name) in BUILDERS and name not in _ABOUT)
    if not paths:
        return "", {}, left_out
    counts = Counter(BUILDERS[_ending(path.name)] for path in paths)
    builder = max(dict.fromkeys(BUILDERS.values()), key=lambda each: counts[each])
    own = [path for path in paths if BUILDERS[_ending(path.name)] == builder]
    left_out += [
        Exclusion(what=path.relative_to(folder).as_posix(), reason=f"table of another kind: {builder} is read")
        for path in paths
        if path not in own
    ]
    names = [(*path.relative_to(folder).parts[:-1], _SHARD.sub("", path.stem)) for path in own]
    parts: defaultdict[str, list[Path]] = defaultdict(list)
    for path, part in zip(own, _parts(names), strict=True):
        parts[part].append(path)
    return builder, dict(parts), left_out


def read_tables(paths: Sequence[Path]) -> tuple[Dataset, list[Exclusion]]:
    """Return the records of CSV and TSV files as texts, and those that have more cells than columns.

    Raises AffectError where one can't be read, or they differ in their columns.
    """
    left_out: list[Exclusion] = []
    columns: list[str] = []
    cells: list[dict[str, str]] = []
    for path in paths:
        own, records = read_csv(path, (), separators=SEPARATORS)
        if cells and {*own} != {*columns}:
            odd = min({*own} ^ {*columns})
            raise AffectError(f"{path} and {paths[0]} are of one part, and differ in the column {odd!r}")
        columns = columns or own
        for line, record in records:
            if odd := surplus(record):
                left_out.append(Exclusion(what=f"{path.name}:{line}", reason=odd))
            else:
                cells.append(record)
    names = [name for name in columns if name]
    texts = Features({name: Value("string") for name in names})
    return Dataset.from_dict({name: [record[name] for record in cells] for name in names}, features=texts), left_out


def read_objects(paths: Sequence[Path]) -> Dataset:
    """Return the objects of JSON files with their texts as they are; a key that one lacks is a missing cell.

    Raises AffectError where one can't be read.
    """
    records = [record for path in paths for _, record in read_json(path)]
    names = dict.fromkeys(name for record in records for name in record if name)
    return Dataset.from_dict({name: _cells([record.get(name) for record in records]) for name in names})


def _cells(values: list[Any]) -> list[Any]:
    """Return a column of JSON as one that Arrow has a type for: of several kinds, numbers apart, it is text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2 or kinds == {int, float}:
        return values
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


def _ending(name: str) -> str:
    return PurePath(name).suffix.lower()


def _parts(named: Sequence[Sequence[str]]) -> list[str]:
    """Return the part of each of some files by the names that may say it, "train" where none says any.

    Where others say one, a file whose names don't is of the part called as its first folder: nobody is trained on it.
    """
    told = [next(filter(None, map(_part, names)), "") for names in named]
    if not any(told):
        return ["train"] * len(told)
    return [part or next(iter(names), "") for part, names in zip(told, named, strict=True)]


def _part(name: str) -> str:
    """Return the part that a name says, as datasets call it; a test part may have a number."""
    for word in words_of(name):
        if part := PARTS.get(word.rstrip("0123456789"), ""):
            return word if word.startswith("test") else {"valid": "validation"}.get(part, part)
    return ""


def _labels(root: Path, sounds: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the innermost folder of each recording as its label, nothing where these don't differ or tell parts."""
    folders = [path.relative_to(root).parts[:-1] for path in sounds]
    labels = [own[-1] if own and not _part(own[-1]) else "" for own in folders]
    if len({*labels}) < 2 or "" in labels or len({*map(len, folders)}) > 1:
        return [{} for _ in sounds]
    return [{"label": label} for label in labels]


def _by_part(rows: Sequence[tuple[Path, dict[str, Any]]], root: Path) -> Parts:
    """Return rows by their parts, which the folders of the recordings say."""
    below = [path.relative_to(root) for path, _ in rows]
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    parts: defaultdict[str, list[int]] = defaultdict(list)
    for k, part in enumerate(_parts([path.parts[:-1] for path in below])):
        parts[part].append(k)
    kinds = ["video" if _ending(path.name) in FILM else "audio" for path, _ in rows]
    return {
        part: Dataset.from_dict({
            **{
                kind: pyarrow.array(
                    [{"bytes": None, "path": str(rows[k][0])} if kinds[k] == kind else None for k in own], _MEDIA
                )
                for kind in sorted({*kinds})
            },
            FILE: [below[k].as_posix() for k in own],
            **{name: _cells([rows[k][1].get(name) for k in own]) for name in columns},
        })
        for part, own in parts.items()
    }  # fmt: skip


def _described(root: Path, file: Path, left_out: list[Exclusion]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the recording of each line of a metadata file, and what it says; others are added to `left_out`."""
    for line, record in _records(file):
        where = f"{file.relative_to(root).as_posix()}:{line}"
        column = next((name for name in record if re.fullmatch("(.+_)?file_name", name)), None)
        if column is None:
            raise AffectError(f"{file} has no column 'file_name'; it has: {', '.join(record) or 'none'}")
        name = record.pop(column)
        path = Path(os.path.normpath(file.parent / str(name or "")))
        if odd := surplus(record):
            left_out.append(Exclusion(what=where, reason=odd))
        elif not name:
            left_out.append(Exclusion(what=where, reason="no audio: file_name is empty"))
        elif not path.is_relative_to(root):
            left_out.append(Exclusion(what=where, reason=f"outside of the folder: {name}"))
        else:
            yield path, {key: value for key, value in record.items() if key not in ("", "audio", "video", FILE)}


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each record of a metadata file with its number; raises AffectError for what is none."""
    if file.suffix == ".csv":
        yield from read_csv(file, (), separators=SEPARATORS)[1]
    elif file.suffix == ".jsonl":
        yield from read_json(file)
    else:
        try:
            with open_file(file) as opened:
                yield from enumerate(pyarrow.parquet.read_table(opened).to_pylist(), 1)
        except (OSError, ValueError) as error:
            raise AffectError(f"{file} cannot be read ({first_line(error)})") from error
