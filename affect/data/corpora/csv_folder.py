"""Any folder of recordings with a table of labels: `labels.csv`, or the only CSV file there.

Columns `path, speaker, valence, arousal` (or `emotion` in their place) and, where known, `id, dominance, emotion,
split, session, dialogue, start` (seconds into the dialogue), `transcript, gender, script`. A corpus with other names
is read with `columns`, as MSP-Podcast could be (it has a reader of its own):
`read(root, labels="Labels/labels_consensus.csv", audio="Audios", scale=(1, 7), columns={"path": "FileName",
"speaker": "SpkrID", "valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom", "split": "Split_Set"})`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset

from affect.data.corpora.labels import gender_of, number, within
from affect.data.corpora.utterances import LABELS, Row, corpus_of_files
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError

REQUIRED = ("path", "speaker", "valence", "arousal")
OPTIONAL = ("id", "dominance", "emotion", "split", "session", "dialogue", "start", "transcript", "gender", "script")


def read(
    root: str | Path,
    *,
    labels: str | None = None,
    audio: str | None = None,
    columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] = (1.0, 5.0),
) -> Corpus:
    """Return the rows of a CSV whose recording is sound and whose labels lie on `scale`; others are excluded.

    `labels` names the CSV and `audio` the folder of recordings, both below `root`; `columns` maps our names to the
    file's. An empty label is missing (NaN). Without sessions or dialogues, both are the speaker. Raises
    AffectError where the file or a required column is missing.
    """
    folder = Path(root)
    table = find_table(folder, labels)
    exclusions: list[Exclusion] = []
    rows: list[Row] = []
    for line, cells in _records(table, dict(columns or {})):
        row, fault = _row(cells, (folder / audio) if audio else table.parent, scale)
        if row is None:
            exclusions.append(Exclusion(what=cells["path"] or f"{table.name}:{line}", reason=fault))
        else:
            rows.append(row)
    return corpus_of_files("csv_folder", rows, exclusions, root=folder, scale=scale)


def load(root: str | Path, *, scale: tuple[float, float] = (1.0, 5.0)) -> Dataset:
    """Return `read(root, scale=scale).utterances`."""
    return read(root, scale=scale).utterances


def find_table(folder: Path, labels: str | None = None) -> Path:
    """Return the CSV file to read; raises AffectError where there is none, or more than one without `labels.csv`."""
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    if labels is not None:
        if not (folder / labels).is_file():
            raise AffectError(f"{folder} has no file {labels}")
        return folder / labels
    found = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("._"))
    if folder / "labels.csv" in found:
        return folder / "labels.csv"
    if not found:
        raise AffectError(f"{folder} has no labels.csv nor any other CSV file")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise AffectError(f"{folder} has {len(found)} CSV files ({names}): name the one with the labels labels.csv")
    return found[0]


def _records(table: Path, columns: dict[str, str]) -> list[tuple[int, dict[str, str]]]:
    """Return line number and cells by our names, stripped, absent ones empty."""
    unknown = sorted(columns.keys() - {*REQUIRED, *OPTIONAL})
    if unknown:
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise AffectError(f"columns names {unknown[0]!r}, which is none of: {known}")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise AffectError(f"{table} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise AffectError(f"{table} cannot be read ({error.strerror})") from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=separator)
    try:
        present = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = present
        _require(table, present, columns)
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise AffectError(f"{table}:{reader.line_num}: {error}") from error
    theirs = {name: columns.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    return [
        (line, {name: (cells.get(column) or "").strip() for name, column in theirs.items()}) for line, cells in lines
    ]


def _require(table: Path, present: list[str], columns: Mapping[str, str]) -> None:
    # Classes alone are labels too.
    classes = columns.get("emotion", "emotion") in present
    needed = [name for name in REQUIRED if not (classes and name in LABELS)]
    for name in dict.fromkeys((*needed, *columns)):
        column = columns.get(name, name)
        if column not in present:
            raise AffectError(f"{table} has no column {column!r}; it has: {', '.join(present) or 'none'}")


def _row(cells: dict[str, str], folder: Path, scale: tuple[float, float]) -> tuple[Row | None, str]:
    """Return a row, or None and the reason."""
    if not cells["path"]:
        return None, "no path"
    if not cells["speaker"]:
        return None, "no speaker"
    values: dict[str, float] = {}
    for name in LABELS:
        try:
            values[name] = number(cells[name])
        except ValueError:
            return None, f"label is no number: {name} {cells[name][:40]!r}"
        if not within(values[name], scale):
            return None, f"label out of range: {name} {cells[name]} on {scale[0]:g}..{scale[1]:g}"
    if all(value != value for value in values.values()) and not cells["emotion"]:
        return None, "no label"
    try:
        values["start"] = number(cells["start"])
    except ValueError:
        return None, f"start is no number: {cells['start'][:40]!r}"
    path = folder / cells["path"]
    if not os.path.isfile(path):
        return None, "missing audio file"
    row: Row = {**cells, **values}
    row["id"] = cells["id"] or Path(cells["path"]).as_posix()
    row["path"] = str(path)
    row["gender"] = gender_of(cells["gender"])
    row["session"] = cells["session"] or cells["speaker"]
    row["dialogue"] = cells["dialogue"] or cells["speaker"]
    return row, ""
