"""Any folder of recordings with a table of labels: `labels.csv` (`labels.tsv`), or the only CSV file there.

Columns `path, speaker, valence, arousal` (or `emotion` in their place) and, where known, `id, dominance, emotion,
split, session, dialogue, start` (seconds into the dialogue), `transcript, gender, script`, in any case. With `end` or
`duration`, too, `start` is where the utterance begins in the recording, of which it is cut. With the column `split`
speakers may be unknown. Files may be named without their ending, or with backslashes. All other columns stay as
they are called: labels where they hold numbers alone, else groups, which may be held out. A corpus with other names is
read with `columns`, as MSP-Podcast could be (it has a reader of its own):
`read(root, labels="Labels/labels_consensus.csv", audio="Audios", scale=(1, 7), columns={"path": "FileName",
"speaker": "SpkrID", "valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom", "split": "Split_Set"})`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from affect.data.corpora.columns import ColumnsError, matched, proposed
from affect.data.corpora.labels import UnusableError, label, labelled, pointed, rows_of
from affect.data.corpora.layout import Layout
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.raters import names_rater
from affect.data.corpora.segments import CUT, RECORDING, cut_of, name_of, seconds
from affect.data.corpora.utterances import Row, corpus_of_files, own_columns
from affect.data.corpus import LABELS, Corpus
from affect.data.files import unnamed
from affect.data.table_file import SEPARATORS, read_csv
from affect.errors import AffectError

REQUIRED = ("path", "speaker", "valence", "arousal")
OPTIONAL = (
    "id", "dominance", "emotion", "split", "session", "dialogue", "start", "end", "duration", "transcript", "gender",
    "script",
)  # fmt: skip
_TIMES = ("start", "end", "duration")


def read(
    root: str | Path, *, labels: str | None = None, audio: str | None = None, columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] | None = None, raters: str | None = None, decimal: str = ".",
) -> Corpus:  # fmt: skip
    """Return the rows of a CSV whose recording is sound and whose labels lie on `scale`; others are excluded.

    `labels` names the CSV and `audio` the folder of recordings, both below `root`; `columns` maps our names to the
    file's. An empty label is missing (NaN). `raters` averages several rows of one recording (`raters.MEAN`), `decimal`
    is the sign before decimals. Raises AffectError where the file or a required column is missing, and for several rows
    of one recording that are not to be averaged.
    """
    folder = Path(root)
    table = find_table(folder, labels)
    CORPUS.check_columns(columns or ())
    present, records = read_csv(table, (), separators=SEPARATORS)
    names = _columns(table, present, columns or {})
    further = [name for name in own_columns(present, names.values()) if raters is None or not names_rater(name)]
    sounds = (folder / audio) if audio else table.parent
    files = NamedFiles(sounds)
    timed = "end" in names or "duration" in names

    def make(cells: Mapping[str, str]) -> Row:
        ours = {name: cells[names[name]] if name in names else "" for name in (*REQUIRED, *OPTIONAL)}
        own = {column: pointed(cells[column], decimal) for column in further}
        return {**own, **_row(ours, files, scale, decimal, speaks="speaker" in names, timed=timed)}

    rows, exclusions = rows_of(records, make, names["path"], table)
    named = [files.place(cells[names["path"]]) for _, cells in records]
    exclusions += unnamed(sounds, named, f"recording that no line of {table.name} names")
    return corpus_of_files(CORPUS, rows, exclusions, root=folder, scale=scale, further=further, raters=raters)


def _columns(table: Path, present: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the table's column of each of ours; raises ColumnsError where one is missing."""
    names = matched(present, (*REQUIRED, *OPTIONAL), given)
    if "start" not in names and "end" not in names:
        # Of whole recordings it is measured.
        names.pop("duration", None)
    classes = "emotion" in names
    optional = {*OPTIONAL, *(LABELS if classes else ()), *(("speaker",) if "split" in names else ())}
    lacking = [name for name in (*REQUIRED, *given) if name not in names and (name in given or name not in optional)]
    if lacking:
        free = [column for column in present if column not in names.values()]
        wanted = [name for name in (*REQUIRED, *OPTIONAL) if name not in names]
        pairs = {**names, **proposed(free, wanted)}
        read_by = {name: column for name, column in pairs.items() if name != column} if "path" in pairs else {}
        there = ", ".join(present) or "none"
        column = given.get(lacking[0], lacking[0])
        raise ColumnsError(f"{table} has no column {column!r}; it has: {there}", read_by if present else {})
    return names


def find_table(folder: Path, labels: str | None = None) -> Path:
    """Return the table to read; raises AffectError where there is none, or more than one without `labels.csv`."""
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    if labels is not None and not (folder / labels).is_file():
        raise AffectError(f"{folder} has no file {labels}")
    tables = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and not path.name.startswith("._")
    )
    usual = [path for path in tables if path.stem.lower() == "labels"]
    if labels is not None or len(usual) == 1:
        return folder / labels if labels else usual[0]
    if not tables:
        raise AffectError(f"{folder} has no labels.csv nor any other CSV file")
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables[:5])
        raise AffectError(f"{folder} has {len(tables)} CSV files ({names}): name the one with the labels labels.csv")
    return tables[0]


def _row(
    cells: Mapping[str, str], files: NamedFiles, scale: tuple[float, float] | None, decimal: str, *, speaks: bool,
    timed: bool,
) -> Row:  # fmt: skip
    """Return a row by our names, of all speakers or of those that are known, of recordings or, `timed`, parts of them.

    Raises UnusableError.
    """
    for name in ("path", "speaker"):
        if not cells[name] and (speaks or name == "path"):
            raise UnusableError(f"no {name}")
    row: Row = {**cells, **{name: label(name, cells[name], scale, decimal) for name in LABELS}}
    labelled(row)
    part = cut_of(*(cells[name] for name in _TIMES), decimal=decimal)
    row["start"] = seconds(cells["start"], decimal)
    path = files.find(cells["path"])
    recording = Path(cells["path"].replace("\\", "/")).as_posix()
    row |= {"id": cells["id"] or recording, "path": str(path), RECORDING: recording}
    if part is not None and timed:
        row |= {"id": cells["id"] or name_of(recording, part), CUT: part}
    return row


CORPUS = Layout(
    name="csv_folder",
    read=read,
    columns=(*REQUIRED, *OPTIONAL),
    options=("columns", "scale", "labels", "audio", "raters", "decimal"),
    holds=find_table,
    sign="labels.csv",
    about="Look at how it was recorded, by whom, and whether it was acted.",
)
