"""Features of your own with tables of labels: any classes, a number or both, and any parts by name.

A line an utterance, in `labels.csv` with a column `part`, or in a CSV a part (train.csv, valid.csv, noisy.csv;
train-label.csv is read alike): its name, its emotion, its valence, of which either may be missing or have no column,
and its speaker, where you know it.
Parts are training, validation where you have one of your own, and any number of tests, which keep their names. A
feature is a folder below `features`, as `recipes/extract_features.py` writes it, or a column of the table that lists
the .npy file of each utterance, below `root` or anywhere.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from affect.data.corpora.columns import ColumnsError, proposed, told
from affect.data.corpora.kinds import FEATURES
from affect.data.corpora.labels import UnusableError, infer_scale, label, within
from affect.data.corpora.layout import Layout
from affect.data.corpus import Exclusion
from affect.data.feature_files import ENDING, UNNAMED
from affect.data.files import unnamed
from affect.data.parts import PARTS
from affect.data.table_file import MISSING, Cells, columns_of, read_csv, surplus
from affect.errors import AffectError, nearest

if TYPE_CHECKING:
    from affect.data.feature_corpus import FeatureCorpus

_LOG = logging.getLogger("affect")

TABLE = "labels.csv"
COLUMNS = {
    "name": ("name", "id"), "emotion": ("emotion", "discrete"), "valence": ("valence",), "part": ("part", "split"),
    "speaker": ("speaker",),
}  # fmt: skip
"""Our columns, and what they are called in any case where `columns` says nothing else."""
TRAIN, VALID = "train", "valid"
_CLOSE = 0.8
"""How like the name of another part a word is (difflib) that must be a slip of it: trian."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """An utterance of a table; `where` is its line."""

    id: str
    part: str
    emotion: str
    valence: float
    speaker: str
    cells: Cells
    where: str


def read(
    root: str | Path, *, audio: Sequence[str] = (), text: Sequence[str] = (), video: Sequence[str] = (),
    labels: str = "auto", columns: Mapping[str, str] | None = None, scale: tuple[float, float] | None = None,
    classes: Sequence[str] = (), widths: Sequence[int] | None = None, decimal: str = ".",
) -> FeatureCorpus:  # fmt: skip
    """Return the utterances of the tables in `root`, or of the one named by `labels`, training first, then validation.

    `columns` maps our names to the tables'. `classes` are those to learn, in order, several joined as one (happy+glad),
    and other emotions then count as missing; all of the training part, by name, where none are given. `scale` is
    inferred from the valences where it is not; `decimal` stands before their fractions. Raises AffectError for tables,
    labels or features that can't be used.
    """
    # Imported here, as all that help has no use for.
    from affect.data.corpora.feature_folders import corpus_of_features

    folder, asked = Path(root), {"audio": audio, "text": text, "video": video}
    rows, exclusions, further = _rows(folder, labels, columns or {}, decimal)
    exclusions += _unnamed(folder, further)
    trained = Counter(row.emotion for row in rows if row.part == TRAIN and row.emotion)
    names = sorted(trained)
    if classes:
        names, rows = _chosen(classes, trained, rows)
    given = [row.valence for row in rows if row.valence == row.valence]
    if scale is not None and not all(within(value, scale) for value in given):
        seen = f"{min(given):g} to {max(given):g}"
        raise AffectError(f"{folder}: valence goes from {seen}, off the scale of {scale[0]:g} to {scale[1]:g}")
    listed = {
        name: [_file(folder, row.cells.get(name, "")) for row in rows]
        for name in dict.fromkeys(name for several in asked.values() for name in several)
        if name in further
    }
    for name in listed:
        if (folder / "features" / name).is_dir():
            raise AffectError(f"{folder} has a folder features/{name} and a column of files {name!r}: rename one")
    return corpus_of_features(
        CORPUS, folder, [vars(row) for row in rows], asked, scale=scale or infer_scale(given), inferred=scale is None,
        widths=widths, classes=names, listed=listed, exclusions=exclusions,
        groups=("speaker",) if any(row.speaker for row in rows) else (),
    )  # fmt: skip


def features_listed(
    root: Path, *, labels: str = "auto", columns: Mapping[str, str] | None = None, decimal: str = ".", **others: object
) -> dict[str, str]:  # fmt: skip
    """Return the columns of the tables that list features, with what is said of each; raises as `read` does."""
    _, _, further = _rows(root, labels, columns or {}, decimal)
    return {name: f"{len(files)} files, listed by a column" for name, files in further.items()}


def _unnamed(folder: Path, further: Mapping[str, Sequence[str]]) -> list[Exclusion]:
    """Return the features beside those that columns list, which no line names; none where folders hold features."""
    if not further:
        return []
    files = [path for paths in further.values() for path in paths]
    left_out = unnamed(folder, files, UNNAMED, frozenset([ENDING]))
    return [each for each in left_out if not each.what.startswith("features/")]


def _rows(
    folder: Path, labels: str, columns: Mapping[str, str], decimal: str
) -> tuple[list[_Row], list[Exclusion], dict[str, list[str]]]:
    """Return the utterances in the order of parts, those in no part, and the files of columns that list features."""
    CORPUS.check_columns(columns)
    rows: list[_Row] = []
    exclusions: list[Exclusion] = []
    further: dict[str, list[str]] = {}
    seen: dict[str, _Row] = {}
    for table, own in _tables(folder, labels, columns):
        present, records = read_csv(table, (), separators=",;\t")
        names = _named(present, columns, table)
        for line, cells in records:
            row = _row(cells, names, own, decimal, f"{table}:{line}")
            if row.id in seen:
                raise AffectError(f"{row.where}: utterance {row.id} is at {seen[row.id].where}, too: remove one")
            seen[row.id] = row
            if row.part:
                rows.append(row)
            else:
                exclusions.append(Exclusion(what=row.id, reason="in no part"))
        others = [name for name in present if name not in names.values()]
        for name in others:
            files = [_file(folder, cells.get(name, "")) for _, cells in records]
            if any(file.endswith(ENDING) for file in files):
                further.setdefault(name, []).extend(filter(None, files))
    parts = dict.fromkeys([TRAIN, VALID, *(row.part for row in rows)])
    if not any(row.part == TRAIN for row in rows):
        there = ", ".join(sorted({row.part for row in rows})) or "none"
        raise AffectError(f"{folder} has no utterance in train; its parts are: {there}")
    places = {part: place for place, part in enumerate(parts)}
    # Stable: a table's order stays within its parts.
    return sorted(rows, key=lambda row: places[row.part]), exclusions, further


def _tables(folder: Path, labels: str, columns: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Return the tables, and the part of each where it is the file that says it ("": a column does)."""
    if not folder.is_dir():
        raise AffectError(f"{CORPUS.name}: {folder} is not a folder")
    one = folder / (TABLE if labels == "auto" else labels)
    if labels != "auto" and not one.is_file():
        raise AffectError(f"{folder} has no file {labels}")
    tables = [one] if one.is_file() else _tables_in(folder, columns)
    if not tables:
        likely = next((pairs for path in _csv_files(folder) if (pairs := _proposed(path, columns))), {})
        raise ColumnsError(
            f"{folder} has no {TABLE} and no other CSV with the columns name and emotion or valence "
            "(--data.columns name=THEIRS ... says others)",
            likely,
        )
    has_parts = {path: _find(columns_of(path), "part", columns) is not None for path in tables}
    stems = {path: re.sub(r"[-_ ]?labels?$", "", path.stem.lower()) for path in tables}
    alone = len(tables) == 1 and stems[tables[0]] not in PARTS
    if alone and not has_parts[tables[0]]:
        likely = proposed(columns_of(tables[0]), ("part",))
        hint = f"; perhaps {told(likely)}" if likely else ""
        _LOG.warning(
            "%s names no parts: all of it is training, its folds validate, and there is no test%s", tables[0], hint
        )
        return [(tables[0], TRAIN)]
    return [(path, "" if has_parts[path] else _part(stems[path], str(path))) for path in tables]


def _tables_in(folder: Path, columns: Mapping[str, str]) -> list[Path]:
    """Return the tables with a column of names and one of labels; those that start with a dot are no user's."""
    tables = []
    for path in _csv_files(folder):
        present = columns_of(path)
        there = {name for name in COLUMNS if _find(present, name, columns)}
        if "name" in there and there & {"emotion", "valence"}:
            tables.append(path)
    return tables


def _csv_files(folder: Path) -> list[Path]:
    named = (path for ending in ("csv", "tsv") for path in folder.glob(f"[!.]*.{ending}"))
    return sorted(path for path in named if path.is_file())


def _proposed(table: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """Return what may stand for ours in a table that lacks some, nothing where that makes it none of utterances."""
    present = columns_of(table)
    there = {ours: theirs for ours in COLUMNS if (theirs := _find(present, ours, columns))}
    free = [column for column in present if column not in there.values()]
    likely = proposed(free, [ours for ours in COLUMNS if ours not in there])
    whole = {*there, *likely}
    return likely if "name" in whole and whole & {"emotion", "valence"} else {}


def _beginning(path: Path) -> str:
    """Return the first lines of a table, "" of one that can't be read, which its reader says."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.read(1 << 14)
    except OSError:
        return ""


def _find(present: Iterable[str], ours: str, columns: Mapping[str, str]) -> str | None:
    """Return the column that holds one of ours."""
    if ours in columns:
        return columns[ours] if columns[ours] in present else None
    return next((name for name in present if name.strip().lower() in COLUMNS[ours]), None)


def _named(present: Sequence[str], columns: Mapping[str, str], table: Path) -> dict[str, str]:
    """Return the table's columns by ours; raises AffectError where it lacks one that was named, or that is needed."""
    names = {ours: theirs for ours in COLUMNS if (theirs := _find(present, ours, columns))}
    for ours in (*columns, "name"):
        if ours not in names:
            wanted = columns.get(ours, ours)
            there = ", ".join(present) or "none"
            raise ColumnsError(f"{table} has no column {wanted!r}; it has: {there}", _proposed(table, columns))
    if "emotion" not in names and "valence" not in names:
        words = f"{table} has neither a column emotion nor valence; it has: {', '.join(present)}"
        raise ColumnsError(words, _proposed(table, columns))
    return names


def _row(cells: Cells, names: Mapping[str, str], part: str, decimal: str, where: str) -> _Row:
    """Return an utterance of a table whose own part is `part`; raises AffectError for what can't be one."""
    if odd := surplus(cells):
        raise AffectError(f"{where}: {odd}")
    ours = {name: cells[column] for name, column in names.items()}
    name, emotion = ours["name"], ours.get("emotion", "")
    if not name.isprintable() or any(sign in name for sign in "/\\") or name in ("", ".", ".."):
        raise AffectError(f"{where}: {name!r} is no name of an utterance: it must do as the name of a file")
    try:
        valence = label("valence", ours.get("valence", ""), None, decimal)
    except UnusableError as error:
        raise AffectError(f"{where}: utterance {name}: {error}") from error
    if "part" in ours:
        part = _part(ours["part"], where) if ours["part"] else ""
    emotion = "" if emotion.lower() in MISSING else emotion
    facts = {"part": part, "emotion": emotion, "speaker": ours.get("speaker", "")}
    return _Row(id=name, valence=valence, cells=cells, where=where, **facts)


def _part(text: str, where: str) -> str:
    """Return the part that a word names: train, valid, or a test by its name, in lower case.

    Raises AffectError for what is like the name of training or validation, and for what can't be a file's name.
    """
    plain = text.strip().lower()
    if plain in PARTS:
        return plain if PARTS[plain] == "test" else PARTS[plain]
    slip = difflib.get_close_matches(plain, [word for word, part in PARTS.items() if part != "test"], 1, _CLOSE)
    if slip:
        raise AffectError(f"{where}: the part {text!r} is none: did you mean {slip[0]!r}? (tests have any other name)")
    if not re.fullmatch(r"\w[\w.-]*", plain):
        raise AffectError(f"{where}: {text[:40]!r} can't name a part: letters, digits, '-', '_' and '.' can")
    return plain


def _chosen(classes: Sequence[str], trained: Counter[str], rows: Sequence[_Row]) -> tuple[list[str], list[_Row]]:
    """Return the names of the classes asked for, and the rows with these emotions alone; logs what is left."""
    groups = [spelt.split("+") for spelt in classes]
    names = {emotion: group[0] for group in groups for emotion in group}
    unknown = next((emotion for emotion in names if emotion not in trained), None)
    if unknown is not None:
        raise AffectError(f"data.classes: no training utterance is {unknown!r}; {nearest(unknown, trained)}")
    others = Counter(row.emotion for row in rows if row.emotion and row.emotion not in names)
    if others:
        told = ", ".join(f"{name} {count}" for name, count in others.most_common())
        _LOG.warning("%s: emotions that are none of the classes count as missing: %s", CORPUS.name, told)
    return [group[0] for group in groups], [replace(row, emotion=names.get(row.emotion, "")) for row in rows]


def _file(folder: Path, cell: str) -> str:
    """Return the path that a cell names, "" for none."""
    return os.path.join(folder, cell.replace("\\", "/")) if cell and cell.lower() not in MISSING else ""


def _holds(folder: Path) -> bool:
    # With a path to each recording it is a table of another layout.
    named = _tables_in(folder, {}) or [path for path in _csv_files(folder) if _proposed(path, {})]
    tables = [path for path in named if "path" not in map(str.lower, columns_of(path))]
    return bool(tables) and ((folder / "features").is_dir() or any(ENDING in _beginning(path) for path in tables))


CORPUS = Layout(
    name="feature_table",
    read=read,
    kind=FEATURES,
    columns=tuple(COLUMNS),
    options=("labels", "columns", "scale", "classes", "decimal"),
    holds=_holds,
    sign=f"{TABLE} (or a CSV a part) beside a folder features, or with columns of {ENDING} files",
    about="These are features of utterances with their labels, a collection of your own.",
    usual={"audio": "audio", "text": "text", "video": "video"},
    features=features_listed,
)
