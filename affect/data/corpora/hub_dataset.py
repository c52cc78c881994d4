"""Any source that `datasets` reads: a name on the Hub, or a folder (audiofolder, parquet, csv, save_to_disk).

Audio is never decoded by `datasets`: a row of files has its `path`, a row of bytes has `audio` {"bytes", "path"},
and `affect.data.audio.of_row` reads both.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset

from affect.data.corpora.hub_source import is_sound, sounds, tables
from affect.data.corpora.labels import gender_of, number, within
from affect.data.corpora.utterances import (
    LABELS,
    Row,
    corpus_of_files,
    dataset_of,
    fingerprint,
    log_exclusions,
    with_verdicts,
)
from affect.data.corpora.verification import Verdict, in_threads, verify_bytes
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError

TEXTS = ("id", "session", "dialogue", "script", "speaker", "gender", "emotion", "transcript", "split")
KNOWN = ("audio", *TEXTS, *LABELS)
"""The names that `columns` may map to the source's own."""

_AUDIO_COLUMNS = ("audio", "path", "file", "file_name", "wav")


def read(
    root: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] = (1.0, 5.0),
    subset: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    streaming: bool = False,
) -> Corpus:
    """Return the rows of a `datasets` source whose audio is sound and whose labels lie on `scale`.

    `columns` maps our names to the source's (`{"valence": "EmoVal"}`); columns already called by our names need no
    mapping. All parts are read and the column `split`, where the source has none, tells which. `subset` is one of the
    source's configurations and `revision` one of its versions on the Hub. With `streaming` only the rows up to
    `limit` are fetched. Raises AffectError where the source or a column cannot be had, or an option does nothing.
    """
    if limit is not None and limit < 1:
        raise AffectError(f"limit is {limit}; it must be at least 1")
    rows: list[Row] = []
    parts: list[Dataset] = []
    opened = tables(str(root), subset=subset, revision=revision, limit=limit, streaming=streaming)
    for part, table in opened.items():
        names = _names(table, dict(columns or {}), str(root))
        parts.append(sounds(table, names["audio"]))
        rows.extend(_rows(table, names, part))
    faults = _faults(rows, scale)
    exclusions = [
        Exclusion(what=str(row["id"]), reason=fault) for row, fault in zip(rows, faults, strict=True) if fault
    ]
    sound = datasets.concatenate_datasets(parts)
    if any(value and value.get("bytes") is not None for value in _values(sound)):
        return _corpus_of_bytes(rows, faults, exclusions, sound, root, scale)
    return _corpus_of_paths(rows, faults, exclusions, sound, root, scale)


def load(root: str | Path, **options: Any) -> Dataset:
    """Return `read(root, **options).utterances`."""
    return read(root, **options).utterances


def _names(table: Dataset, columns: dict[str, str], root: str) -> dict[str, str]:
    """Return the source's column of each of our names that it has; `audio` is always among them."""
    present = list(table.column_names)
    for name, column in columns.items():
        if name not in KNOWN:
            raise AffectError(f"columns names {name!r}, which is none of: {', '.join(KNOWN)}")
        if column not in present:
            raise AffectError(f"{root} has no column {column!r} (for {name}); it has: {', '.join(present)}")
    names = {name: columns.get(name, name) for name in KNOWN if columns.get(name, name) in present}
    if "audio" not in columns:
        typed = [name for name in present if is_sound(table.features[name])]
        guessed = [name for name in _AUDIO_COLUMNS if name in present]
        if not typed and not guessed:
            raise AffectError(f"{root} has no audio column; name it in columns; it has: {', '.join(present)}")
        names["audio"] = (typed or guessed)[0]
    return names


def _rows(table: Dataset, names: Mapping[str, str], part: str) -> Iterator[Row]:
    """Yield everything but the audio, by our names; labels as the source has them."""
    plain = {name: column for name, column in names.items() if name != "audio"}
    classes = {
        name: table.features[column] for name, column in plain.items() if isinstance(table.features[column], ClassLabel)
    }
    # Without a plain column, select_columns would forget the number of rows.
    cells = table.select_columns(sorted(set(plain.values()))) if plain else itertools.repeat({}, len(table))
    for index, theirs in enumerate(cells):
        row: Row = {name: theirs[column] for name, column in plain.items()}
        for name, feature in classes.items():
            value = row[name]
            row[name] = "" if value is None or value < 0 else feature.int2str(value)
        for name in TEXTS:
            row[name] = "" if row.get(name) is None else str(row[name]).strip()
        row["id"] = row["id"] or f"{part or 'row'}-{index:06d}"
        row["split"] = row["split"] or part
        row["gender"] = gender_of(row["gender"])
        row["session"] = row["session"] or row["speaker"]
        row["dialogue"] = row["dialogue"] or row["speaker"]
        yield row


def _faults(rows: Sequence[Row], scale: tuple[float, float]) -> list[str]:
    """Make the rows' labels numbers; return why a row cannot be used, "" where it can."""
    faults: list[str] = []
    seen: set[str] = set()
    for row in rows:
        fault = "listed more than once" if row["id"] in seen else ""
        seen.add(row["id"])
        given = [name for name in LABELS if name in row]
        for name in given:
            text, row[name] = row[name], float("nan")
            try:
                row[name] = number(text)
            except ValueError:
                fault = fault or f"label is no number: {name} {str(text)[:40]!r}"
            if not within(row[name], scale):
                fault = fault or f"label out of range: {name} {text} on {scale[0]:g}..{scale[1]:g}"
        if given and all(row[name] != row[name] for name in given) and not row["emotion"]:
            fault = fault or "no label"
        faults.append(fault)
    return faults


def _values(sound: Dataset) -> Iterator[dict[str, Any] | None]:
    for row in sound:
        yield row["audio"]


def _corpus_of_paths(
    rows: Sequence[Row],
    faults: Sequence[str],
    exclusions: Sequence[Exclusion],
    sound: Dataset,
    root: str | Path,
    scale: tuple[float, float],
) -> Corpus:
    """Return the corpus of rows whose audio is in files of their own."""
    base = Path(root).parent if Path(root).is_file() else Path(root)
    found: list[Row] = []
    missing: list[Exclusion] = []
    for row, fault, value in zip(rows, faults, _values(sound), strict=True):
        path = (value or {}).get("path")
        if fault:
            continue
        if not path or not os.path.isfile(base / path):
            missing.append(Exclusion(what=row["id"], reason=f"missing audio file: {path}" if path else "no audio"))
        else:
            found.append({**row, "path": str(base / path)})
    return corpus_of_files("hub", found, [*exclusions, *missing], root=base, scale=scale)


def _corpus_of_bytes(
    rows: Sequence[Row],
    faults: Sequence[str],
    exclusions: Sequence[Exclusion],
    sound: Dataset,
    root: str | Path,
    scale: tuple[float, float],
) -> Corpus:
    """Return the corpus of rows that hold their audio: the Arrow table stays where it is, rows are chosen of it."""

    def verdict(index: int) -> Verdict:
        data = (sound[index]["audio"] or {}).get("bytes")
        return verify_bytes(data, rows[index]["id"]) if data is not None else Verdict(fault="no audio")

    usable = [index for index, fault in enumerate(faults) if not fault]
    verdicts = in_threads(verdict, usable, "checking hub audio")
    kept, faulty = with_verdicts([rows[index] for index in usable], verdicts)
    left_out = [*exclusions, *faulty]
    log_exclusions("hub", kept, left_out, root)
    chosen = [index for index, found in zip(usable, verdicts, strict=True) if not found.fault]
    complete = list(rows)
    for index, row in zip(chosen, kept, strict=True):
        complete[index] = row
    both = datasets.concatenate_datasets([dataset_of(complete), sound], axis=1)
    return Corpus(
        name="hub",
        utterances=both.select(chosen),
        exclusions=left_out,
        scale=scale,
        fingerprint=fingerprint("hub", kept),
    )
