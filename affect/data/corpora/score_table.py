"""Clips of your own with scores in CSV files: a line a clip, its name first.

Columns called score, MOS or ..._score are scores, `split` or `part` says the part, other texts are groups, and other
numbers together the feature `clip`. Files called train.csv, val.csv and test.csv (or so) are parts, several tests
(test1.csv, Test2.csv) each by its name. Groups may be told by the names (`pattern`), and frames lie beside: a CSV with
several lines a clip, or a folder with a CSV of py-feat or OpenFace a clip, or with what
`recipes/extract_features.py --store` made of the clips. What is called otherwise is read with `columns`:
`{"name": "Clip ID", "part": "Set", "score": "Rating"}`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.columns import ColumnsError, proposed
from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout, Scales
from affect.data.parts import PARTS, named_part
from affect.data.table_file import columns_of
from affect.errors import AffectError, first_few

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus

_LOG = logging.getLogger("affect")


def read(
    root: str | Path, *, table: str | None = None, clip: str | None = None, groups: Sequence[str] = (),
    pattern: str | None = None, frames_of: str | None = None, features: Sequence[str] = (), scores: Sequence[str] = (),
    scale: Scales | None = None, widths: Mapping[str, int] | None = None,
    videos: str | None = None, boxes: str | None = None, unlabelled: bool = False, decimal: str = ".",
    columns: Mapping[str, str] | None = None,
) -> ScoreCorpus:  # fmt: skip
    """Return the clips of the tables in folder `root`, or of the file `table` there.

    `clip` is the column of names (the first one), `groups` are columns of numbers that are groups, `pattern` is a
    regular expression whose named groups are those of a clip's name, `frames_of` the CSV or folder of frames, below
    `root`, `videos` the folder of the clips themselves and `boxes` that of a CSV a clip with its faces: a clip without
    a video that can be read is then left out. Clips that may be `unlabelled` need no column of scores, `decimal` stands
    before fractions, and `columns` maps name, part and score to the tables' columns. Raises AffectError for tables,
    columns and patterns that can't be used.
    """
    from affect.data import score_tables
    from affect.data.score_samples import Made, Sample

    folder = Path(root)
    own = dict(columns or {})
    CORPUS.check_columns(own)
    tables = _tables(folder, table, unlabelled, own.get("score"))
    named = None if pattern is None else score_tables.named_groups(pattern)
    asked: dict[str, Any] = {
        "clip": clip, "scores": scores, "groups": groups, "named": named, "unlabelled": unlabelled,
        "decimal": decimal, "mapped": own,
    }  # fmt: skip

    def make() -> Made:
        samples: list[Sample] = []
        left_out: dict[str, str] = {}
        for path, part in tables.items():
            # Of several tables the first one says the order of the feature's columns.
            first = next((sample.columns[score_tables.CLIP] for sample in samples if sample.columns), ())
            made_of, less = score_tables.samples_of(path, **asked, part=part, columns=first)
            samples += made_of
            left_out |= less
        return samples, left_out

    return score_tables.corpus_beside(
        CORPUS.name, folder, [*tables], make, (clip, groups, pattern, scores, decimal, own), frames_of=frames_of,
        videos=videos, boxes=boxes, features=features, scores=scores, scale=scale, widths=widths, unlabelled=unlabelled,
    )  # fmt: skip


def _tables(folder: Path, table: str | None, unlabelled: bool, score: str | None) -> dict[Path, str]:
    """Return the tables and the part that each of them is of ("": its lines say it, or nothing does).

    They have a column of scores, or one called `score`.
    """
    from affect.data import score_tables

    if table is not None:
        if not (folder / table).is_file():
            raise AffectError(f"{folder} has no file {table}")
        return {folder / table: ""}
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    files = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".csv", ".tsv")}
    parts = {files[own]: named_part(name) for name in PARTS for own in (f"{name}.csv", f"{name}.tsv") if own in files}
    if parts:
        # Test1.csv, test2.csv: each is a part by its name.
        parts |= {path: part for path in files.values() if (part := named_part(path.stem)) and _scored(path)}
        for path in files.values():
            if path not in parts and _scored(path):
                _LOG.warning("%s: is of no part (train, valid or test), and is not read", path)
        return parts
    tables = [path for path in files.values() if unlabelled or _scored(path) or score in columns_of(path)]
    if len(tables) != 1:
        if tables:
            names = first_few([path.name for path in tables], 5)
            raise AffectError(f"{folder} has {len(tables)} tables of scores ({names}): name one")
        likely = (pairs for path in files.values() if (pairs := score_tables.proposed_columns(columns_of(path))))
        raise ColumnsError(f"{folder} has no table of scores", next(likely, {}))
    return {tables[0]: ""}


def _scored(path: Path, *, unless: str = "") -> bool:
    """Whether a table has a column of scores, and none called `unless`."""
    from affect.data.score_tables import score_columns

    columns = columns_of(path)
    return bool(score_columns(columns)) and unless not in columns


def _holds(folder: Path) -> bool:
    tables = [path for ending in ("csv", "tsv") for path in folder.glob(f"*.{ending}")]
    # With a path to each recording it is a table of another layout.
    return any(_scored(path, unless="path") or _may_be_scored(columns_of(path)) for path in tables)


def _may_be_scored(columns: Sequence[str]) -> bool:
    """Whether a column may be of scores, and none of the path or labels of a recording."""
    return {*proposed(columns, ("audio", "emotion", "valence", "arousal", "score"))} == {"score"}


CORPUS = Layout(
    name="score_table",
    read=read,
    kind=SCORES,
    columns=("name", "part", "score"),
    options=(
        "table",
        "clip",
        "groups",
        "pattern",
        "frames_of",
        "features",
        "scores",
        "scale",
        "widths",
        "videos",
        "boxes",
        "unlabelled",
        "decimal",
        "columns",
    ),  # fmt: skip
    holds=_holds,
    sign="CSV with a column of scores (score, MOS, ..._score)",
    about="These are clips of talking faces with their scores, a collection of your own.",
)
