"""MSP-Podcast: turns of English podcasts, rated for arousal, valence and dominance on 1..7, with official splits.

Read from `Labels/labels_consensus.csv` and `Audios/<FileName>`. Lotfian and Busso 2019, "Building Naturalistic
Emotionally Balanced Speech Corpus by Retrieving Emotional Speech from Existing Podcast Recordings".
"""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

from affect.data.corpora.labels import gender_of, number, within
from affect.data.corpora.utterances import Row, corpus_of_files
from affect.data.corpus import Corpus, Exclusion
from affect.errors import AffectError

_LOG = logging.getLogger("affect")

SCALE = (1.0, 7.0)
TABLE = "labels_consensus.csv"

COLUMNS = {
    "path": "filename",
    "speaker": "spkrid",
    "split": "split_set",
    "valence": "emoval",
    "arousal": "emoact",
    "dominance": "emodom",
    "emotion": "emoclass",
    "gender": "gender",
}
"""Our name of each column, and the table's in lower case. The table's own order is arousal, valence, dominance."""

REQUIRED = ("path", "speaker", "split", "valence", "arousal")

EMOTIONS = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": "no_agreement",
}
"""The emotion by its letter in the column EmoClass; `no_agreement` has numbers as good as any other's."""

SPLITS = {"train": "Train", "development": "Development", "test1": "Test1", "test2": "Test2", "test3": "Test3"}
"""The official parts by their names in lower case: each test part is a fold of the split by column."""

_MISSING = ("", "n_a", "n/a", "na", "nan", "none", "null")
_PODCAST = re.compile(r"(MSP-PODCAST_\d+)_", re.IGNORECASE)


def read(root: str | Path) -> Corpus:
    """Return every turn that has a sound file, an official part and at least one label; all else is an exclusion.

    `session` is the podcast, `dialogue` one speaker's turns in it. The turns of unknown speakers count as one speaker
    for each podcast and part, or the splits would seem to share a speaker called Unknown; how many there are is logged.
    Raises AffectError where `root` is not the corpus, or its table cannot be read.
    """
    folder = find_root(root)
    sounds = _sounds(folder)
    rows: list[Row] = []
    exclusions: list[Exclusion] = []
    named: set[str] = set()
    for line, cells in _records(_table(folder)):
        name = _file_name(cells["path"], sounds)
        named.add(name)
        row, fault = _row(cells, name, sounds)
        if row is None:
            exclusions.append(Exclusion(what=name or f"{TABLE}:{line}", reason=fault))
        else:
            rows.append(row)
    exclusions += [Exclusion(what=name, reason="audio file without labels") for name in sorted(sounds.keys() - named)]
    _log_unknown(rows)
    return corpus_of_files("msp_podcast", rows, exclusions, root=folder, scale=SCALE)


def load(root: str | Path) -> Dataset:
    """Return `read(root).utterances`."""
    return read(root).utterances


def find_root(root: str | Path) -> Path:
    """Return the folder that holds `Labels`: `root`, its parent or its only such subfolder.

    Raises AffectError where there is none.
    """
    path = Path(root)
    if not path.is_dir():
        raise AffectError(f"MSP-Podcast: {path} is not a folder")
    if _find_table(path):
        return path
    above = path.resolve().parent
    if path.resolve().name.lower() in ("labels", "audios") and _find_table(above):
        return above
    below = [child for child in sorted(path.iterdir()) if child.is_dir() and _find_table(child)]
    if len(below) == 1:
        _LOG.info("msp_podcast: reading %s in place of %s", below[0], path)
        return below[0]
    raise AffectError(f"MSP-Podcast: {path} has no Labels/{TABLE} (nor has a folder just below it)")


def _child(folder: Path, name: str) -> Path | None:
    """Return what `folder` holds under `name`, in capitals or not."""
    try:
        found = [child for child in sorted(folder.iterdir()) if child.name.lower() == name.lower()]
    except OSError:
        return None
    return found[0] if found else None


def _find_table(folder: Path) -> Path | None:
    labels = _child(folder, "Labels")
    table = _child(labels, TABLE) if labels is not None and labels.is_dir() else None
    return table if table is not None and table.is_file() else None


def _table(folder: Path) -> Path:
    table = _find_table(folder)
    if table is None:
        raise AffectError(f"MSP-Podcast: {folder} has no Labels/{TABLE}")
    return table


def _sounds(folder: Path) -> dict[str, Path]:
    """Return the files of `Audios` by name; raises AffectError where there is no such folder."""
    audios = _child(folder, "Audios")
    if audios is None or not audios.is_dir():
        raise AffectError(f"MSP-Podcast: {folder} has no folder Audios")
    files = (path for path in audios.iterdir() if path.suffix.lower() in (".wav", ".flac"))
    return {path.name: path for path in sorted(files) if not path.name.startswith("._")}


def _records(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells by our names, stripped, absent ones empty; other columns are ignored."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            present = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = [name.lower() for name in present]
            for name in REQUIRED:
                if COLUMNS[name] not in reader.fieldnames:
                    raise AffectError(f"{table} has no column for {name}; it has: {', '.join(present) or 'none'}")
            for cells in reader:
                yield reader.line_num, {name: (cells.get(column) or "").strip() for name, column in COLUMNS.items()}
    except UnicodeDecodeError as error:
        raise AffectError(f"{table} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise AffectError(f"{table} cannot be read ({error.strerror})") from error
    except csv.Error as error:
        raise AffectError(f"{table} is no table of comma-separated values: {error}") from error


def _file_name(cell: str, sounds: dict[str, Path]) -> str:
    """Return the name of the audio file that a cell means: some releases leave `.wav` out."""
    return f"{cell}.wav" if cell and cell not in sounds and f"{cell}.wav" in sounds else cell


def _row(cells: dict[str, str], name: str, sounds: dict[str, Path]) -> tuple[Row | None, str]:
    """Return a row, or None and the reason."""
    if not name:
        return None, "no file name"
    part = SPLITS.get(cells["split"].lower())
    if part is None:
        return None, f"in no part: {cells['split'] or '(empty)'}"
    values: dict[str, float] = {}
    for label in ("valence", "arousal", "dominance"):
        text = cells[label]
        try:
            values[label] = float("nan") if text.lower() in _MISSING else number(text)
        except ValueError:
            return None, f"label is no number: {label} {text[:40]!r}"
        if not within(values[label], SCALE):
            return None, f"label out of range: {label} {text} on {SCALE[0]:g}..{SCALE[1]:g}"
    emotion = _emotion(cells["emotion"])
    if emotion is None:
        return None, f"unknown emotion: {cells['emotion'][:40]}"
    if all(value != value for value in values.values()) and emotion in ("", "no_agreement"):
        return None, f"no label: {part}"
    if name not in sounds:
        return None, f"missing audio file: {part}"
    match = _PODCAST.match(name)
    podcast = match[1] if match else Path(name).stem
    known = cells["speaker"].lower() not in (*_MISSING, "unknown")
    speaker = cells["speaker"] if known else f"unknown in {podcast} {part}"
    row: Row = {
        "id": Path(name).stem,
        "session": podcast,
        "dialogue": f"{podcast} {speaker}" if known else speaker,
        "speaker": speaker,
        "gender": gender_of(cells["gender"]),
        "emotion": emotion,
        **values,
        "split": part,
        "path": str(sounds[name]),
    }
    return row, ""


def _emotion(text: str) -> str | None:
    """Return the word for a letter (or for the word itself), "" where it is missing, None where it is neither."""
    if text.lower() in _MISSING:
        return ""
    return EMOTIONS.get(text.upper(), text.lower() if text.lower() in EMOTIONS.values() else None)


def _log_unknown(rows: list[Row]) -> None:
    """Say how many turns have no known speaker, by part: whether parts share those speakers nobody can tell."""
    counts = Counter(str(row["split"]) for row in rows if str(row["speaker"]).startswith("unknown in "))
    if counts:
        told = ", ".join(f"{part} {counts[part]}" for part in SPLITS.values() if counts[part])
        _LOG.warning(
            "msp_podcast: %d utterances have no known speaker (%s): whether parts share those speakers cannot be told",
            counts.total(),
            told,
        )
