"""Any source that `datasets` reads: a name on the Hub, or a folder (audiofolder, parquet, csv, save_to_disk).

Audio is never decoded by `datasets`: a row of files has its `path`, a row of bytes has `audio` {"bytes", "path"},
and `affect.data.audio.of_row` reads both. Columns of numbers and texts that are none of ours stay as they are called.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from affect.data.corpora.labels import UnusableError, gender_of, label
from affect.data.corpora.layout import Layout
from affect.data.corpora.utterances import (
    Row,
    corpus_of_files,
    corpus_of_rows,
    dataset_of,
    labelled,
    own_columns,
    with_verdicts,
)
from affect.data.corpus import LABELS, Corpus, Exclusion
from affect.errors import AffectError

if TYPE_CHECKING:
    from datasets import Dataset

_LOG = logging.getLogger("affect")

TEXTS = ("id", "session", "dialogue", "script", "speaker", "gender", "emotion", "transcript", "split")
KNOWN = ("audio", *TEXTS, *LABELS)
"""The names that `columns` may map to the source's own."""

_AUDIO_COLUMNS = ("audio", "path", "file", "file_name", "wav")


def read(
    root: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] | None = None,
    subset: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    streaming: bool = False,
) -> Corpus:
    """Return the rows of a `datasets` source whose audio is sound and whose labels lie on `scale`.

    `columns` maps our names to the source's (`{"valence": "EmoVal"}`); columns already called by our names need no
    mapping. All parts are read and the column `split`, where the source has none, tells which. `subset` is one of the
    source's configurations and `revision` one of its versions on the Hub. With `streaming` only the rows up to
    `limit` are fetched. A scale that is not given is inferred. Raises AffectError where the source or a column cannot
    be had, or an option does nothing.
    """
    # Imported here: help and recipes ask this file, too.
    import datasets

    from affect.data.corpora.hub_source import sounds, tables

    if limit is not None and limit < 1:
        raise AffectError(f"limit is {limit}; it must be at least 1")
    rows: list[Row] = []
    parts: list[Dataset] = []
    own: dict[str, None] = {}
    opened = tables(str(root), subset=subset, revision=revision, limit=limit, streaming=streaming)
    for part, table in opened.items():
        names = _names(table, dict(columns or {}), str(root))
        further = _further(table, names)
        own |= dict.fromkeys(further)
        parts.append(sounds(table, names["audio"]))
        rows.extend(_rows(table, names, further, part))
    found = _Found(rows, _faults(rows, scale), datasets.concatenate_datasets(parts), root, scale, tuple(own))
    return _corpus_of_bytes(found) if found.in_memory else _corpus_of_paths(found)


def find(folder: Path) -> None:
    """Raise AffectError where a folder is nothing that the `datasets` library wrote, or an audiofolder with labels."""
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    patterns = ("**/*.parquet", "metadata.csv", "*/metadata.csv")
    if not saved and not any(next(folder.glob(pattern), None) for pattern in patterns):
        raise AffectError(f"{folder} has no {SIGN}")


def _names(table: Dataset, columns: dict[str, str], root: str) -> dict[str, str]:
    """Return the source's column of each of our names that it has; `audio` is always among them."""
    from affect.data.corpora.hub_source import is_sound

    present = list(table.column_names)
    CORPUS.check_columns(columns)
    for name, column in columns.items():
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


def _further(table: Dataset, names: Mapping[str, str]) -> list[str]:
    """Return the columns of numbers and texts that are none of ours; logs the others, which are not taken over."""
    from datasets import ClassLabel, Value

    left = own_columns(table.column_names, names.values())
    plain = [
        name
        for name in left
        if isinstance(kind := table.features[name], ClassLabel)
        or isinstance(kind, Value)
        and "binary" not in kind.dtype
    ]
    if len(plain) < len(left):
        other = ", ".join(name for name in left if name not in plain)
        _LOG.warning("not taken over, being neither numbers nor texts: %s", other)
    return plain


def _rows(table: Dataset, names: Mapping[str, str], further: Sequence[str], part: str) -> Iterator[Row]:
    """Yield everything but the audio, by our names; labels as the source has them."""
    from datasets import ClassLabel

    plain = {**{name: name for name in further}, **{name: own for name, own in names.items() if name != "audio"}}
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
        # As text until it is known whether the whole column holds numbers; none of a boolean column does.
        for name in (*TEXTS, *further):
            row[name] = "" if row.get(name) is None else str(row[name]).strip()
        row["id"] = row["id"] or f"{part or 'row'}-{index:06d}"
        row["split"] = row["split"] or part
        row["gender"] = gender_of(row["gender"])
        row["session"] = row["session"] or row["speaker"]
        row["dialogue"] = row["dialogue"] or row["speaker"]
        yield row


def _faults(rows: Sequence[Row], scale: tuple[float, float] | None) -> list[str]:
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
                row[name] = label(name, text, scale)
            except UnusableError as error:
                fault = fault or str(error)
        if given and not fault:
            try:
                labelled(row)
            except UnusableError as error:
                fault = str(error)
        faults.append(fault)
    return faults


@dataclass(frozen=True)
class _Found:
    """A source's rows without their audio, why some can't be used, the audio, and what is known of them all."""

    rows: list[Row]
    faults: list[str]
    sound: Dataset
    root: str | Path
    scale: tuple[float, float] | None
    further: tuple[str, ...]

    @property
    def in_memory(self) -> bool:
        """Whether some audio is in the rows, and not in files of its own."""
        return any((row["audio"] or {}).get("bytes") is not None for row in self.sound)


def _corpus_of_paths(found: _Found) -> Corpus:
    """Return the corpus of rows whose audio is in files of their own."""
    base = Path(found.root).parent if Path(found.root).is_file() else Path(found.root)
    kept: list[Row] = []
    left_out: list[Exclusion] = []
    for row, fault, held in zip(found.rows, found.faults, found.sound, strict=True):
        path = str((held["audio"] or {}).get("path") or "")
        if not fault and not (path and os.path.isfile(base / path)):
            fault = f"missing audio file: {path}" if path else "no audio"
        if fault:
            left_out.append(Exclusion(what=row["id"], reason=fault))
        else:
            kept.append({**row, "path": str(base / path)})
    return corpus_of_files(CORPUS.name, kept, left_out, root=base, scale=found.scale, further=found.further)


def _corpus_of_bytes(found: _Found) -> Corpus:
    """Return the corpus of rows that hold their audio: the Arrow table stays where it is, rows are chosen of it."""
    import datasets

    from affect.data.corpora.verification import Verdict, in_threads, verify_bytes

    rows, faults, sound = found.rows, found.faults, found.sound

    def verdict(index: int) -> Verdict:
        data = (sound[index]["audio"] or {}).get("bytes")
        return verify_bytes(data, rows[index]["id"]) if data is not None else Verdict(fault="no audio")

    usable = [index for index, fault in enumerate(faults) if not fault]
    verdicts = in_threads(verdict, usable, f"checking {CORPUS.name} audio")
    kept, faulty = with_verdicts([rows[index] for index in usable], verdicts)
    left_out = [Exclusion(what=row["id"], reason=fault) for row, fault in zip(rows, faults, strict=True) if fault]
    corpus = corpus_of_rows(
        CORPUS.name, kept, [*left_out, *faulty], root=found.root, scale=found.scale, further=found.further
    )
    chosen = [index for index, each in zip(usable, verdicts, strict=True) if not each.fault]
    complete: list[Row] = [{}] * len(rows)
    for index, row in zip(chosen, corpus.utterances, strict=True):
        complete[index] = row
    beside = dataset_of(complete, corpus.labels, corpus.groups)
    return replace(corpus, utterances=datasets.concatenate_datasets([beside, sound], axis=1).select(chosen))


SIGN = "datasets folder"
CORPUS = Layout(
    name="hub",
    read=read,
    columns=KNOWN,
    options=("columns", "scale", "subset", "revision", "limit", "streaming"),
    find=find,
    sign=SIGN,
    on_hub=True,
    about="Look at how it was recorded, by whom, and whether it was acted.",
)
