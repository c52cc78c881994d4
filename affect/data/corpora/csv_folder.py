"""Any folder of recordings with a table of labels: `labels.csv` (or .tsv), or the only table there.

Columns `path, speaker, valence, arousal` (or `emotion` in their place) and, where known, `id, dominance, emotion,
split, session, dialogue, start` (seconds into the dialogue), `transcript, gender, script`, in any case. With `end` or
`duration`, too, a row is the part of its recording from `start` on; with `split`, speakers may be unknown. Files may be
named with backslashes, in another case or without their ending. Beside the files of a Kaldi data folder a table needs
the names of utterances and labels alone. All other columns stay as they are called: labels where they hold numbers
alone, else groups, which may be held out. A corpus with other names is read with `columns`, as MSP-Podcast could be (it
has a reader of its own):
`read(root, labels="Labels/labels_consensus.csv", audio="Audios", scale=(1, 7), columns={"path": "FileName",
"speaker": "SpkrID", "valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom", "split": "Split_Set"})`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from affect.data.corpora import kaldi_files
from affect.data.corpora.labels import rows_of
from affect.data.corpora.layout import Layout
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.own_rows import OPTIONAL, REQUIRED, OwnRows, names_of
from affect.data.corpora.raters import names_rater
from affect.data.corpora.utterances import corpus_of_files, own_columns
from affect.data.corpus import Corpus
from affect.data.files import unnamed
from affect.data.table_file import SEPARATORS, read_csv
from affect.errors import AffectError, first_few


def read(
    root: str | Path, *, labels: str | None = None, audio: str | None = None, columns: Mapping[str, str] | None = None,
    scale: tuple[float, float] | None = None, raters: str | None = None, decimal: str = ".",
) -> Corpus:  # fmt: skip
    """Return the rows of a CSV whose recording is sound and whose labels lie on `scale`; others are excluded.

    `labels` names the CSV and `audio` the folder of recordings, both below `root`; `columns` maps our names to the
    file's. An empty label is missing (NaN). `raters` averages several rows of one recording (`raters.MEAN`), `decimal`
    stands before fractions. Raises AffectError where the file or a required column is missing, and for several rows of
    one recording that differ in labels and are not to be averaged.
    """
    folder = Path(root)
    table = find_table(folder, labels)
    CORPUS.check_columns(columns or ())
    present, records = read_csv(table, (), separators=SEPARATORS)
    present, records, exclusions = kaldi_files.beside(table, present, records, columns or {})
    names = names_of(table, present, columns or {})
    further = [name for name in own_columns(present, names.values()) if raters is None or not names_rater(name)]
    sounds = (folder / audio) if audio else table.parent
    files = NamedFiles(sounds)
    makes = OwnRows(names=names, further=further, files=files, scale=scale, decimal=decimal)
    rows, unusable = rows_of(records, makes.row, names["path"], table)
    named = [files.place(cells[names["path"]]) for _, cells in records]
    exclusions += [*unusable, *unnamed(sounds, named, f"recording that no line of {table.name} names")]
    return corpus_of_files(CORPUS, rows, exclusions, root=folder, scale=scale, further=further, raters=raters)


def find_table(folder: Path, labels: str | None = None) -> Path:
    """Return the table to read; raises AffectError where there is none, or more than one without `labels.csv`."""
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    if labels is not None and not (folder / labels).is_file():
        raise AffectError(f"{folder} has no file {labels}")
    if labels is not None:
        return folder / labels
    tables = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv") and not path.name.startswith("._")
    )
    usual = [path for path in tables if path.stem.lower() == "labels"]
    if not tables:
        raise AffectError(f"{folder} has no labels.csv nor any other CSV file")
    if len(tables) > 1 and len(usual) != 1:
        names = first_few([path.name for path in tables], 5)
        raise AffectError(f"{folder} has {len(tables)} CSV files ({names}): name the one with the labels labels.csv")
    return (usual or tables)[0]


CORPUS = Layout(
    name="csv_folder",
    read=read,
    columns=(*REQUIRED, *OPTIONAL),
    options=("columns", "scale", "labels", "audio", "raters", "decimal"),
    holds=find_table,
    sign="labels.csv",
    about="Look at how it was recorded, by whom, and whether it was acted.",
)
