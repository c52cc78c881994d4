"""MER2023: film and television clips in Chinese with an emotion and a valence, as features of audio, text and video.

The layout that the challenge's public toolkit writes: `label-6way.npz` or `{train,test1,test2,test3}-label.csv` (name,
discrete, valence), `features/<feature>/<name>.npy`, `transcription-engchi-polish.csv` (name, chinese, english). test1
is MER-MULTI, test2 MER-NOISE (speech noise and blur), test3 MER-SEMI, which has no valence: -10 stands in its
place. Lian et al. 2023, "MER 2023: Multi-label Learning, Modality Robustness, and Semi-Supervised Learning".
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from datasets import Dataset, Features, Value

from affect.data.cache import cache_folder
from affect.data.corpora.labels import number, within
from affect.data.corpus import Exclusion
from affect.data.feature_corpus import ABSENT, MODALITIES, PRESENT, FeatureCorpus, Stream, Table, read_table
from affect.data.label_file import read_header, read_labels
from affect.errors import AffectError, first_line, nearest

_LOG = logging.getLogger("affect")

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
PARTS = ("train", "test1", "test2", "test3")
SCALE = (-5.0, 5.0)
LABELS = "label-6way.npz"
TRANSCRIPTS = "transcription-engchi-polish.csv"
USUAL = {
    "audio": "chinese-hubert-large-UTT",
    "text": "Baichuan-13B-Base-UTT",
    "video": "clip-vit-large-patch14-UTT",
}
"""The features of each modality that the toolkit's own results are of."""

_NO_VALENCE = -10.0
_COLUMNS = Features({name: Value("string") for name in ("id", "part", "emotion")} | {"valence": Value("float64")})
_SHOWN = 3

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A folder of features: its name, and the width and type of its first file, or what is wrong with that."""

    name: str
    width: int = 0
    dtype: str = ""
    fault: str = ""


def read(
    root: str | Path,
    *,
    audio: Sequence[str] = (),
    text: Sequence[str] = (),
    video: Sequence[str] = (),
    labels: str = "auto",
    widths: Sequence[int] | None = None,
    cache: Path | None = None,
) -> FeatureCorpus:
    """Return all utterances, parts in the order of `PARTS`, with the named features of each modality.

    A feature is a folder below `root`/features. `labels` is npz or csv; auto takes the npz file where there is one.
    `widths` are those that the streams must have, audio first. A missing valence or emotion stays missing, and so does
    a vector that is all zero or has no file. Raises AffectError for labels or features that can't be used.
    """
    folder = Path(root)
    rows = read_rows(folder, labels)
    asked = [(m, name) for m, names in zip(MODALITIES, (audio, text, video), strict=True) for name in names]
    folders = [_feature_folder(folder, modality, name) for modality, name in asked]
    repeated = next((pair for k, pair in enumerate(asked) if pair in asked[:k]), None)
    if repeated:
        raise AffectError(f"{repeated[0]} feature {repeated[1]!r} is named more than once")
    if widths is not None and len(widths) != len(asked):
        raise AffectError(f"widths names {len(widths)} numbers for {len(asked)} features")
    names = [row["id"] for row in rows]
    streams: list[Stream] = []
    tables: list[Table] = []
    for index, (modality, name) in enumerate(asked):
        table = read_table(folders[index], names, cache or cache_folder())
        width = table.values.shape[1]
        if widths is not None and width != widths[index]:
            raise AffectError(f"{modality} feature {name!r} has {width} numbers, not the {widths[index]} asked for")
        streams.append(Stream(modality, name, width))
        tables.append(table)
    states = np.stack([table.states for table in tables], 1) if tables else np.zeros((len(rows), 0), np.uint8)
    return FeatureCorpus(
        name="mer2023",
        fingerprint=_fingerprint(rows, streams, tables),
        classes=CLASSES,
        utterances=Dataset.from_dict({key: [row[key] for row in rows] for key in _COLUMNS}, features=_COLUMNS),
        streams=tuple(streams),
        exclusions=tuple(_absences(names, streams, tables)),
        present=states == PRESENT,
        absent=states == ABSENT,
        arrays=tuple(table.values for table in tables),
        maps=tuple(table.map for table in tables if table.map is not None),
    )


def find_root(root: str | Path) -> Path:
    """Return the folder, which has MER2023's labels; raises AffectError where it has none."""
    folder = Path(root)
    if not folder.is_dir():
        raise AffectError(f"MER2023: {folder} is not a folder")
    if (folder / LABELS).is_file() or ((folder / _table(PARTS[0])).is_file() and (folder / "features").is_dir()):
        return folder
    raise AffectError(f"MER2023: {folder} has neither {LABELS} nor {_table(PARTS[0])} beside a folder features")


def read_rows(root: Path, labels: str = "auto") -> list[Row]:
    """Return id, part, emotion and valence of every utterance; raises AffectError for labels that can't be used."""
    kinds = ("auto", "npz", "csv")
    if labels not in kinds:
        raise AffectError(f"labels must be one of {', '.join(kinds)}, not {labels!r}")
    if not root.is_dir():
        raise AffectError(f"MER2023: {root} is not a folder")
    if labels == "auto":
        find_root(root)
        labels = "npz" if (root / LABELS).is_file() else "csv"
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for row, where in _from_npz(root / LABELS) if labels == "npz" else _from_csv(root):
        name, part = row["id"], row["part"]
        if not name.isprintable() or any(sign in name for sign in "/\\") or name.strip() in ("", ".", ".."):
            raise AffectError(f"{where}: {name!r} is no name of an utterance: it must do as the name of a file")
        if name in seen:
            twice = f"twice in {part}" if seen[name] == part else f"in {seen[name]} and in {part}"
            raise AffectError(f"{where}: utterance {name} is {twice}: remove one of them")
        if row["emotion"] not in (*CLASSES, ""):
            hint = nearest(row["emotion"], CLASSES)
            raise AffectError(f"{where}: utterance {name} has the unknown emotion {row['emotion'][:40]!r}: {hint}")
        if row["valence"] == _NO_VALENCE:
            row["valence"] = float("nan")
        if not within(row["valence"], SCALE):
            raise AffectError(f"{where}: utterance {name} has valence {row['valence']:g}, beyond -5 to 5 (-10: none)")
        seen[name] = part
        rows.append(row)
    for part in PARTS:
        if part not in seen.values():
            raise AffectError(f"{root} has no utterance in {part}")
    return rows


def read_transcripts(root: str | Path, *, language: Literal["chinese", "english"] = "chinese") -> dict[str, str]:
    """Return what is said in each utterance, "" where nothing; raises AffectError where the table is missing or bad."""
    table = Path(root) / TRANSCRIPTS
    found: dict[str, str] = {}
    for line, cells in _records(table, ("name", language)):
        name = cells["name"].strip()
        if name in found:
            raise AffectError(f"{table}:{line}: utterance {name} is there twice: remove one of the lines")
        found[name] = cells[language].strip()
    return found


def features(root: str | Path) -> tuple[Feature, ...]:
    """Return the folders below `root`/features, by name, with what the first file of each says."""
    return tuple(_look(Path(root) / "features" / name, name) for name in _feature_names(Path(root)))


def _from_npz(file: Path) -> Iterator[tuple[Row, str]]:
    corpora = read_labels(file, [f"{part}_corpus" for part in PARTS])
    for part in PARTS:
        where = f"{file}, {part}_corpus"
        for name, label in corpora[f"{part}_corpus"].items():
            for key in ("emo", "val"):
                if key not in label:
                    raise AffectError(f"{where}: utterance {name!r} has no {key!r}")
            emotion, valence = label["emo"], label["val"]
            if not isinstance(emotion, str) or not isinstance(valence, (int, float)):
                raise AffectError(f"{where}: utterance {name!r} must have a word as 'emo' and a number as 'val'")
            yield {"id": name, "part": part, "emotion": emotion, "valence": float(valence)}, where


def _from_csv(root: Path) -> Iterator[tuple[Row, str]]:
    for part in PARTS:
        # test3 has no valence, and need not have its column.
        for line, cells in _records(
            root / _table(part), ("name", "discrete", "valence")[: 2 if part == "test3" else 3]
        ):
            where = f"{root / _table(part)}:{line}"
            try:
                valence = number(cells.get("valence", ""))
            except ValueError as error:
                raise AffectError(f"{where}: valence {cells['valence'][:40]!r} is no number") from error
            name, emotion = cells["name"].strip(), cells["discrete"].strip()
            yield {"id": name, "part": part, "emotion": emotion, "valence": valence}, where


def _table(part: str) -> str:
    return f"{part}-label.csv"


def _records(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the line on which each record ends, and its cells."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AffectError(f"{table} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise AffectError(f"{table} cannot be read ({error.strerror})") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="surplus", restval="")
    try:
        present = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = present
        for column in columns:
            if column not in present:
                raise AffectError(f"{table} has no column {column!r}; it has: {', '.join(present) or 'none'}")
        for cells in reader:
            if "surplus" in cells:
                raise AffectError(f"{table}:{reader.line_num}: more cells than columns")
            yield reader.line_num, cells
    except csv.Error as error:
        raise AffectError(f"{table}:{reader.line_num}: {error}") from error


def _feature_names(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in (root / "features").iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError as error:
        raise AffectError(f"{root / 'features'} cannot be read ({error.strerror}): features lie there") from error


def _feature_folder(root: Path, modality: str, name: str) -> Path:
    """Return a feature's folder, which may lie deeper than others; raises AffectError where it isn't there."""
    there = _feature_names(root)
    place = PurePosixPath(name)
    if place.parts and not place.is_absolute() and ".." not in place.parts and (root / "features" / place).is_dir():
        return root / "features" / place
    close = nearest(name, there)
    hint = f"{close} " if there and close.startswith("did") else ""
    raise AffectError(f"{root} has no {modality} feature {name!r}: {hint}there are: {', '.join(there) or 'none'}")


def _look(folder: Path, name: str) -> Feature:
    """Return what a feature's first file says; its frames are those of the first folder where it has no files."""
    places = (folder, *sorted(path for path in folder.iterdir() if path.is_dir()))
    files = (min((p for p in place.glob("*.npy") if p.name[0] != "."), default=None) for place in places)
    first = next((file for file in files if file is not None), None)
    if first is None:
        return Feature(name=name, fault="no .npy file")
    try:
        with first.open("rb") as file:
            shape, _, dtype = read_header(file)
    except (OSError, ValueError) as error:
        return Feature(name=name, fault=f"{first.name} cannot be read ({first_line(error)})")
    return Feature(name=name, width=shape[-1] if shape else 0, dtype=str(dtype))


def _absences(names: Sequence[str], streams: Sequence[Stream], tables: Sequence[Table]) -> list[Exclusion]:
    """Return an exclusion for each file that isn't there, and log how many there are of each feature."""
    found: list[Exclusion] = []
    for stream, table in zip(streams, tables, strict=True):
        missing = [name for name, state in zip(names, table.states, strict=True) if state == ABSENT]
        if missing:
            shown = ", ".join(missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
            _LOG.warning(
                "mer2023: %s feature %s has no file of %d of %d utterances, which count as missing: %s",
                *(stream.modality, stream.name, len(missing), len(names), shown),
            )
        found += [Exclusion(what=name, reason=f"absent feature file: {stream.name}") for name in missing]
    return found


def _fingerprint(rows: Iterable[Row], streams: Sequence[Stream], tables: Sequence[Table]) -> str:
    digest = hashlib.sha256(b"mer2023")
    for row in rows:
        digest.update(json.dumps([row["id"], row["part"], row["emotion"], str(row["valence"])]).encode())
    for stream, table in zip(streams, tables, strict=True):
        digest.update(json.dumps([stream.modality, stream.name, table.digest]).encode())
    return digest.hexdigest()[:16]
