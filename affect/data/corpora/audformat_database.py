"""A database in audEERING's format: `db.yaml`, a table each in `db.<table>.csv` or `.parquet`, and the files.

All tables with a column `file` are put together, those with `start` and `end` cut it. A table's split is the part of
its rows, and what a table without files says of speakers (gender) is theirs. Columns go by our names, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from affect.data.corpora.labels import rows_of
from affect.data.corpora.layout import Layout
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.own_rows import OPTIONAL, REQUIRED, OwnRows, names_of
from affect.data.corpora.raters import names_rater
from affect.data.corpora.utterances import corpus_of_files, own_columns
from affect.data.corpus import Corpus
from affect.data.files import unnamed
from affect.data.table_file import Cells, read_csv, read_text
from affect.errors import AffectError, first_line

HEADER = "db.yaml"
_WORDS = "transcription"

Key = tuple[str, str, str]


def read(
    root: str | Path, *, labels: str | None = None, columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] | None = None, raters: str | None = None, decimal: str = ".",
) -> Corpus:  # fmt: skip
    """Return a row a file, or a segment of one where tables have segments, that has a label.

    `labels` is the table (`db.<table>.csv`, or its name) of labels where several differ; `columns` maps our names to
    the database's. Raises AffectError for a header or table that can't be read, and tables that contradict each other.
    """
    folder = CORPUS.find(root)
    CORPUS.check_columns(columns or ())
    header = _header(folder / HEADER)
    wanted = labels and labels.removeprefix("db.").removesuffix(".csv").removesuffix(".parquet")
    records = _records(folder, header, wanted)
    # How long a file is, is measured.
    present = list(dict.fromkeys(column for cells in records for column in cells if column != "duration"))
    given = {**({"transcript": _WORDS} if _WORDS in present else {}), **(columns or {})}
    names = names_of(folder / HEADER, present, given)
    records = [dict.fromkeys(present, "") | cells for cells in records]
    further = [name for name in own_columns(present, names.values()) if raters is None or not names_rater(name)]
    makes = OwnRows(names=names, further=further, files=NamedFiles(folder), scale=scale, decimal=decimal)
    rows, exclusions = rows_of(enumerate(records, 1), makes.row, names["path"], folder / HEADER)
    exclusions += unnamed(folder, [folder / cells["file"] for cells in records], "recording that no table names")
    return corpus_of_files(CORPUS, rows, exclusions, root=folder, scale=scale, further=further, raters=raters)


def _header(file: Path) -> dict[str, Any]:
    # Imported here: help has no use for it.
    from yaml import YAMLError, safe_load  # type: ignore[import-untyped]

    try:
        header = safe_load(read_text(file))
    except (YAMLError, RecursionError, ValueError) as error:
        raise AffectError(f"{file} is no YAML ({first_line(error)})") from error
    if not isinstance(header, dict) or not isinstance(header.get("tables"), dict) or not header["tables"]:
        raise AffectError(f"{file} is no header of a database: it names no tables")
    return header


def _records(folder: Path, header: Mapping[str, Any], wanted: str | None) -> list[Cells]:
    """Return what all tables say of each file, or of each segment where there are any, that the table `wanted` has."""
    if wanted is not None and wanted not in header["tables"]:
        raise AffectError(f"{folder / HEADER} has no table {wanted!r}; it has: {', '.join(header['tables'])}")
    by_file: dict[Key, Cells] = {}
    by_segment: dict[Key, Cells] = {}
    speakers = _speakers(folder, header)
    chosen: set[Key] = set()
    for name, about in header["tables"].items():
        split = _split(header, about)
        labelled = wanted is None or name == wanted
        for cells in _table(folder, name):
            if "file" not in cells:
                raise AffectError(f"{folder}: the table {name} has no column 'file'")
            key = (cells["file"], cells.get("start", ""), cells.get("end", ""))
            whole = "end" not in cells
            # Of other tables what is no label counts: who speaks, in which part.
            own = cells if labelled else {column: cells[column] for column in cells if column not in _labels(about)}
            own = {column: text for column, text in {**own, **split}.items() if text}
            _join((by_file if whole else by_segment).setdefault(key, {}), own, name)
            if labelled:
                chosen.add(key)
    of_file = {key[0]: cells for key, cells in by_file.items()}
    rows = [{**of_file.get(key[0], {}), **cells} for key, cells in (by_segment or by_file).items() if key in chosen]
    return [{**speakers.get(cells.get("speaker", ""), {}), **cells} for cells in rows]


def _labels(about: Mapping[str, Any]) -> set[str]:
    """Return the columns of a table of labels: those that raters gave."""
    columns = about.get("columns") or {}
    return {name for name, each in columns.items() if isinstance(each, dict) and each.get("rater_id")}


def _join(cells: Cells, own: Mapping[str, str], table: str) -> None:
    """Add what a table says to what others say; raises AffectError where they differ."""
    for column, text in own.items():
        if cells.setdefault(column, text) != text:
            raise AffectError(
                f"{own['file']} has the {column} {cells[column]!r} and, in the table {table}, {text!r}: "
                "name the table of labels (--data.labels)"
            )


def _split(header: Mapping[str, Any], about: Mapping[str, Any]) -> Cells:
    """Return the part of a table's rows as a cell, nothing where it names none."""
    name = about.get("split_id")
    split = (header.get("splits") or {}).get(name) or {}
    return {"split": str(split.get("type") or name)} if name else {}


def _speakers(folder: Path, header: Mapping[str, Any]) -> dict[str, Cells]:
    """Return what tables without files say of the values of the scheme `speaker`."""
    scheme = (header.get("schemes") or {}).get("speaker") or {}
    labels = scheme.get("labels")
    if isinstance(labels, dict):
        return {str(name): _plain(each) for name, each in labels.items() if isinstance(each, dict)}
    if not isinstance(labels, str) or labels not in (header.get("misc_tables") or {}):
        return {}
    rows = list(_table(folder, labels))
    index = next(iter(rows[0]), "") if rows else ""
    return {cells[index]: {name: text for name, text in cells.items() if name != index} for cells in rows}


def _plain(values: Mapping[str, Any]) -> Cells:
    return {str(name): "" if value is None else str(value) for name, value in values.items()}


def _table(folder: Path, name: str) -> Iterator[Cells]:
    """Yield the records of a table as texts; raises AffectError where it can't be read."""
    file = folder / f"db.{name}.csv"
    if file.is_file():
        yield from (cells for _, cells in read_csv(file, ())[1])
        return
    file = file.with_suffix(".parquet")
    if not file.is_file():
        raise AffectError(f"{folder} has no db.{name}.csv and no db.{name}.parquet")
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
        yield from map(_plain, table.to_pylist())
    except (OSError, pyarrow.ArrowException, ValueError) as error:
        raise AffectError(f"{file} cannot be read ({first_line(error)})") from error


CORPUS = Layout(
    name="audformat_database",
    read=read,
    columns=(*REQUIRED, *OPTIONAL),
    options=("columns", "scale", "labels", "raters", "decimal"),
    holds=lambda folder: (folder / HEADER).is_file(),
    sign=HEADER,
    about="Look at how it was recorded, by whom, and whether it was acted.",
)
