"""Clips of your own with scores in CSV files: a line a clip, its name first.

Columns called score, MOS or ..._score are scores, `split` or `part` says the part, other texts are groups, and other
numbers together the feature `clip`. Files called train.csv, val.csv and test.csv (or so) are parts. Groups may be
told by the names (`pattern`), and frames lie beside: a CSV with several lines a clip, or a folder with a CSV of py-feat
or OpenFace a clip, or with what `recipes/extract_features.py --store` made of the clips.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.data.corpora.kinds import SCORES
from affect.data.corpora.layout import Layout, Scales
from affect.data.parts import PARTS
from affect.data.table_file import columns_of
from affect.errors import AffectError

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus

_LOG = logging.getLogger("affect")


def read(
    root: str | Path, *, table: str | None = None, clip: str | None = None, groups: Sequence[str] = (),
    pattern: str | None = None, frames_of: str | None = None, features: Sequence[str] = (), scores: Sequence[str] = (),
    scale: Scales | None = None, widths: Mapping[str, int] | None = None,
    videos: str | None = None, boxes: str | None = None, unlabelled: bool = False, decimal: str = ".",
) -> ScoreCorpus:  # fmt: skip
    """Return the clips of the tables in folder `root`, or of the file `table` there.

    `clip` is the column of names (the first one), `groups` are columns of numbers that are groups, `pattern` is a
    regular expression whose named groups are those of a clip's name, `frames_of` the CSV or folder of frames, below
    `root`, `videos` the folder of the clips themselves and `boxes` that of a CSV a clip with its faces: a clip without
    a video that can be read is then left out. Clips that may be `unlabelled` need no column of scores, `decimal` stands
    before fractions. Raises
    AffectError for tables, columns and patterns that can't be used.
    """
    from affect.data import score_tables
    from affect.data.score_samples import Made, Sample

    folder = Path(root)
    tables = _tables(folder, table, unlabelled)
    named = None if pattern is None else score_tables.named_groups(pattern)
    columns: dict[str, Any] = {
        "clip": clip, "scores": scores, "groups": groups, "named": named, "unlabelled": unlabelled,
        "decimal": decimal,
    }  # fmt: skip

    def make() -> Made:
        samples: list[Sample] = []
        left_out: dict[str, str] = {}
        for path, part in tables.items():
            # Of several tables the first one says the order of the feature's columns.
            first = next((sample.columns[score_tables.CLIP] for sample in samples if sample.columns), ())
            own, less = score_tables.samples_of(path, **columns, part=part, columns=first)
            samples += own
            left_out |= less
        return samples, left_out

    return score_tables.corpus_beside(
        CORPUS.name, folder, [*tables], make, (clip, groups, pattern, scores, decimal), frames_of=frames_of,
        videos=videos, boxes=boxes, features=features, scores=scores, scale=scale, widths=widths, unlabelled=unlabelled,
    )  # fmt: skip


def _tables(folder: Path, table: str | None, unlabelled: bool) -> dict[Path, str]:
    """Return the tables and the part that each of them is of ("": its lines say it, or nothing does)."""
    if table is not None:
        if not (folder / table).is_file():
            raise AffectError(f"{folder} has no file {table}")
        return {folder / table: ""}
    if not folder.is_dir():
        raise AffectError(f"{folder} is not a folder")
    files = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".csv", ".tsv")}
    parts = {files[own]: part for name, part in PARTS.items() for own in (f"{name}.csv", f"{name}.tsv") if own in files}
    if parts:
        for path in files.values():
            if path not in parts and _scored(path):
                _LOG.warning("%s: is of no part (train, valid or test), and is not read", path)
        return parts
    tables = [path for path in files.values() if unlabelled or _scored(path)]
    if len(tables) != 1:
        names = ", ".join(path.name for path in tables[:5])
        words = f"has {len(tables)} tables of scores ({names}): name one" if tables else "has no table of scores"
        raise AffectError(f"{folder} {words}")
    return {tables[0]: ""}


def _scored(path: Path, *, unless: str = "") -> bool:
    """Whether a table has a column of scores, and none called `unless`."""
    from affect.data.score_tables import score_columns

    columns = columns_of(path)
    return bool(score_columns(columns)) and unless not in columns


def _holds(folder: Path) -> bool:
    # With a path to each recording it is a table of another layout.
    return any(_scored(path, unless="path") for ending in ("csv", "tsv") for path in folder.glob(f"*.{ending}"))


CORPUS = Layout(
    name="score_table",
    read=read,
    kind=SCORES,
    columns=("part", "length"),
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
    ),  # fmt: skip
    holds=_holds,
    sign="CSV with a column of scores (score, MOS, ..._score)",
    about="These are clips of talking faces with their scores, a collection of your own.",
)
