"""Any folder of recordings with a table of labels: `labels.csv`, or the only CSV file there.

Columns `path, speaker, valence, arousal` (or `emotion` in their place) and, where known, `id, dominance, emotion,
split, session, dialogue, start` (seconds into the dialogue), `transcript, gender, script`. All other columns stay as
they are called: labels where they hold numbers alone, else groups, which may be held out. A corpus with other names is
read with `columns`, as MSP-Podcast could be (it has a reader of its own):
`read(root, labels="Labels/labels_consensus.csv", audio="Audios", scale=(1, 7), columns={"path": "FileName",
"speaker": "SpkrID", "valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom", "split": "Split_Set"})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from affect.data.corpora.labels import UnusableError, label, labelled, rows_of
from affect.data.corpora.layout import Layout
from affect.data.corpora.utterances import Row, corpus_of_rows, own_columns, verified
from affect.data.corpus import LABELS, Corpus
from affect.data.files import absence, unnamed
from affect.data.table_file import SEPARATORS, no_number, number, read_csv
from affect.errors import AffectError

REQUIRED = ("path", "speaker", "valence", "arousal")
OPTIONAL = ("id", "dominance", "emotion", "split", "session", "dialogue", "start", "transcript", "gender", "script")


def read(
    root: str | Path, *, labels: str | None = None, audio: str | None = None, columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] | None = None,
) -> Corpus:  # fmt: skip
    """Return the rows of a CSV whose recording is sound and whose labels lie on `scale`; others are excluded.

    `labels` names the CSV and `audio` the folder of recordings, both below `root`; `columns` maps our names to the
    file's. An empty label is missing (NaN). Raises AffectError where the file or a required column is missing.
    """
    folder = Path(root)
    table = find_table(folder, labels)
    names = {name: (columns or {}).get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    CORPUS.check_columns(columns or ())
    present, records = read_csv(table, (), separators=SEPARATORS)
    # Classes alone are labels too.
    needed = [name for name in REQUIRED if not (names["emotion"] in present and name in LABELS)]
    for name in (*needed, *(columns or ())):
        if names[name] not in present:
            raise AffectError(f"{table} has no column {names[name]!r}; it has: {', '.join(present) or 'none'}")
    further = own_columns(present, names.values())
    sounds = (folder / audio) if audio else table.parent

    def make(cells: Mapping[str, str]) -> Row:
        ours = {name: cells.get(column, "") for name, column in names.items()}
        return {**{column: cells[column] for column in further}, **_row(ours, sounds, scale)}

    rows, exclusions = rows_of(records, make, names["path"], table)
    named = [sounds / cells[names["path"]] for _, cells in records]
    exclusions += unnamed(sounds, named, f"recording that no line of {table.name} names")
    kept, left_out = verified(CORPUS.name, rows, exclusions)
    return corpus_of_rows(CORPUS, kept, left_out, root=folder, scale=scale, further=further)


def find_table(folder: Path, labels: str | None = None) -> Path:
    """Return the CSV file to read; raises AffectError where there is none, or more than one without `labels.csv`."""
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    if labels is not None and not (folder / labels).is_file():
        raise AffectError(f"{folder} has no file {labels}")
    tables = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("._"))
    if labels is not None or folder / "labels.csv" in tables:
        return folder / (labels or "labels.csv")
    if not tables:
        raise AffectError(f"{folder} has no labels.csv nor any other CSV file")
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables[:5])
        raise AffectError(f"{folder} has {len(tables)} CSV files ({names}): name the one with the labels labels.csv")
    return tables[0]


def _row(cells: Mapping[str, str], folder: Path, scale: tuple[float, float] | None) -> Row:
    """Return a row by our names; raises UnusableError."""
    for name in ("path", "speaker"):
        if not cells[name]:
            raise UnusableError(f"no {name}")
    row: Row = {**cells, **{name: label(name, cells[name], scale) for name in LABELS}}
    labelled(row)
    try:
        row["start"] = number(cells["start"])
    except ValueError:
        raise UnusableError(f"start is no number: {no_number(cells['start'])}") from None
    path = folder / cells["path"]
    if reason := absence(path, "audio file"):
        raise UnusableError(reason)
    row["id"] = cells["id"] or Path(cells["path"]).as_posix()
    row["path"] = str(path)
    return row


CORPUS = Layout(
    name="csv_folder",
    read=read,
    columns=(*REQUIRED, *OPTIONAL),
    options=("columns", "scale", "labels", "audio"),
    holds=find_table,
    sign="labels.csv",
    about="Look at how it was recorded, by whom, and whether it was acted.",
)
