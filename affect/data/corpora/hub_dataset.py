"""Any source that `datasets` reads: a name on the Hub, or a folder (audiofolder, parquet, csv, save_to_disk).

Audio is never decoded by `datasets`: a row of files has its `path`, a row of bytes has `audio` {"bytes", "path"},
and `affect.data.audio.of_row` reads both. Columns of numbers and texts that are none of ours stay as they are called.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from affect.data.corpora.columns import ColumnsError, matched, proposed
from affect.data.corpora.labels import UnusableError, label, labelled, pointed
from affect.data.corpora.layout import Layout
from affect.data.corpora.named_files import NamedFiles
from affect.data.corpora.raters import names_rater
from affect.data.corpora.segments import CUT, RECORDING, TIMES, name_of, seconds, segment_of, without_lengths
from affect.data.corpora.utterances import (
    Row,
    corpus_of_files,
    corpus_of_rows,
    dataset_of,
    one_of_each,
    own_columns,
    with_verdicts,
)
from affect.data.corpus import LABELS, Corpus, Exclusion
from affect.data.files import absence, unnamed
from affect.errors import AffectError

if TYPE_CHECKING:
    from datasets import Dataset

_LOG = logging.getLogger("affect")

TEXTS = ("id", "session", "dialogue", "script", "speaker", "gender", "emotion", "transcript", "split")
KNOWN = ("audio", *TEXTS, *LABELS, *TIMES)
"""The names that `columns` may map to the source's own."""

_AUDIO_COLUMNS = ("audio", "path", "file", "file_name", "wav")
_PLACE = "affect:place"
"""Where a row stands in the source."""
_FILED = "affect:filed"
"""Whether a row is called as its recording is."""


def read(
    root: str | Path, *, columns: Mapping[str, str] | None = None, scale: tuple[float, float] | None = None,
    raters: str | None = None, decimal: str = ".", subset: str | None = None, revision: str | None = None,
    limit: int | None = None, streaming: bool = False,
) -> Corpus:  # fmt: skip
    """Return the rows of a `datasets` source whose audio is sound and whose labels lie on `scale`.

    `columns` maps our names to the source's (`{"valence": "EmoVal"}`); columns already called by our names, in any
    case, need no mapping. With `end` or `duration` beside `start` a row is that part of its recording. `raters`
    averages several rows of one (`raters.MEAN`), `decimal` stands before the fractions of numbers in texts. All parts
    are read and the column `split`, where the source has none, tells which. `subset` is one of the source's
    configurations and `revision` one of its versions on the Hub. With `streaming` only the rows up to `limit` are
    fetched. Raises AffectError where the source or a column cannot be had, or an option does nothing.
    """
    # Imported here: help and recipes ask this file, too.
    import datasets

    from affect.data.corpora.hub_source import FILE, sounds, tables

    if limit is not None and limit < 1:
        raise AffectError(f"limit is {limit}; it must be at least 1")
    rows: list[Row] = []
    parts: list[Dataset] = []
    own: dict[str, None] = {}
    opened, left_out = tables(str(root), subset=subset, revision=revision, limit=limit, streaming=streaming)
    for part, table in ((part, _heard(table)) for part, table in opened.items()):
        names = _names(table, dict(columns or {}), str(root))
        further = [name for name in _further(table, names) if name != FILE]
        own |= dict.fromkeys(further)
        parts.append(sounds(table, names["audio"]))
        rows.extend(_rows(table, names, further, part))
    sound = datasets.concatenate_datasets(parts)
    if limit is None and os.path.isdir(root) and not any(FILE in table.column_names for table in opened.values()):
        left_out = _with_unnamed(Path(root), sound, left_out)
    faults = _faults(rows, scale, decimal, list(own))
    further = [name for name in own if raters is None or not names_rater(name)]
    return _corpus(rows, faults, sound, Path(root), scale, further, left_out, raters)


def is_saved(folder: Path) -> bool:
    """Say whether a folder is one that the `datasets` library wrote, or an audiofolder with labels."""
    patterns = ("dataset_dict.json", "state.json", "**/*.parquet", "metadata.*", "*/metadata.*")
    return any(next(folder.glob(pattern), None) for pattern in patterns)


def _heard(table: Dataset) -> Dataset:
    """Return the rows of a folder with the sound of their videos among the recordings."""
    from affect.data.corpora.hub_source import FILE, SOUND

    if not {FILE, "audio", "video"} <= {*table.column_names}:
        return table
    both = [sound or film for sound, film in zip(table["audio"], table["video"], strict=True)]
    return table.remove_columns(["audio", "video"]).add_column("audio", both, feature=SOUND)


def _names(table: Dataset, columns: dict[str, str], root: str) -> dict[str, str]:
    """Return the source's column of each of our names that it has; `audio` is always among them."""
    from affect.data.corpora.hub_source import FILE, is_sound

    present = list(table.column_names)
    CORPUS.check_columns(columns)
    for name, column in columns.items():
        if column not in present:
            raise AffectError(f"{root} has no column {column!r} (for {name}); it has: {', '.join(present)}")
    names = without_lengths(matched(present, KNOWN, columns))
    if "audio" not in columns:
        typed = [name for name in present if is_sound(table.features[name])]
        guessed = [name for usual in _AUDIO_COLUMNS for name in present if name.lower() == usual]
        if not typed and not guessed:
            words = f"{root} has no audio column; name it in columns; it has: {', '.join(present)}"
            free = [name for name in present if name not in names.values()]
            raise ColumnsError(words, proposed(free, [name for name in KNOWN if name not in names]))
        names["audio"] = (typed or guessed)[0]
    if "id" not in names and FILE in present:
        names["id"] = FILE
    return names


def _further(table: Dataset, names: Mapping[str, str]) -> list[str]:
    """Return the columns of numbers and texts that are none of ours; logs the others, which are not taken over."""
    from datasets import ClassLabel, Value

    kinds = {name: table.features[name] for name in own_columns(table.column_names, names.values())}
    others = [
        name for name, kind in kinds.items() if not isinstance(kind, ClassLabel | Value) or "binary" in kind.dtype
    ]
    if others:
        _LOG.warning("not taken over, being neither numbers nor texts: %s", ", ".join(others))
    return [name for name in kinds if name not in others]


def _rows(table: Dataset, names: Mapping[str, str], further: Sequence[str], part: str) -> Iterator[Row]:
    """Yield everything but the audio, by our names; labels as the source has them."""
    from datasets import ClassLabel

    from affect.data.corpora.hub_source import FILE

    plain = {name: own for name, own in names.items() if name != "audio"} | {name: name for name in further}
    features = {name: table.features[column] for name, column in plain.items()}
    classes = {name: feature for name, feature in features.items() if isinstance(feature, ClassLabel)}
    # Without a plain column, select_columns would forget the number of rows.
    cells = table.select_columns(sorted(set(plain.values()))) if plain else itertools.repeat({}, len(table))
    for index, theirs in enumerate(cells):
        row: Row = {name: theirs[column] for name, column in plain.items()}
        for name, feature in classes.items():
            value = row[name]
            row[name] = "" if value is None or value < 0 else feature.int2str(value)
        # As text until it is known whether the whole column holds numbers; none of a boolean column does.
        for name in (*TEXTS, *(name for name in TIMES if name in names), *further):
            row[name] = "" if row.get(name) is None else str(row[name]).strip()
        row[_FILED] = names.get("id") == FILE and bool(row["id"])
        row["id"] = row["id"] or f"{part or 'row'}-{index:06d}"
        row["split"] = row["split"] or part
        yield row


def _faults(rows: Sequence[Row], scale: tuple[float, float] | None, decimal: str, further: Sequence[str]) -> list[str]:
    """Make the rows' labels numbers and parts; return why a row cannot be used, "" where it can."""
    faults: list[str] = []
    for place, row in enumerate(rows):
        given = [name for name in LABELS if name in row]
        row[_PLACE] = place
        try:
            for name in given:
                # What is a number already has no sign to tell.
                row[name] = label(name, row[name], scale, decimal if isinstance(row[name], str) else ".")
            row.update({name: pointed(row[name], decimal) for name in further if name in row})
            part = segment_of(row, decimal=decimal)
            row["start"] = seconds(row.get("start", ""), decimal)
            if part is not None:
                row[CUT] = part
                row["id"] = name_of(row["id"], part) if row[_FILED] else row["id"]
            if given:
                labelled(row)
            faults.append("")
        except UnusableError as error:
            faults.append(str(error))
    return faults


def _corpus(
    rows: list[Row], faults: list[str], sound: Dataset, root: Path, scale: tuple[float, float] | None,
    further: Sequence[str], left_out: Sequence[Exclusion], raters: str | None,
) -> Corpus:  # fmt: skip
    """Return the corpus of rows without a fault whose audio, in files or in the rows of `sound`, is sound."""
    in_memory = any((row["audio"] or {}).get("bytes") is not None for row in sound)
    base = root.parent if root.is_file() else root
    if not in_memory:
        paths = [str((row["audio"] or {}).get("path") or "") for row in sound]
        files = NamedFiles(base)
        rows = [{**row, "path": str(files.place(path)), RECORDING: path} for row, path in zip(rows, paths, strict=True)]
        faults = [fault or _absence(files, path) for fault, path in zip(faults, paths, strict=True)]
    usable = [index for index, fault in enumerate(faults) if not fault]
    kept = [rows[index] for index in usable]
    unusable = [Exclusion(what=row["id"], reason=fault) for row, fault in zip(rows, faults, strict=True) if fault]
    left_out = [*left_out, *unusable]
    if not in_memory:
        return corpus_of_files(CORPUS, kept, left_out, root=base, scale=scale, further=further, raters=raters)

    import datasets

    from affect.data.corpora.verification import Verdict, in_threads, verdict

    def judged(index: int) -> Verdict:
        data = (sound[index]["audio"] or {}).get("bytes")
        return verdict(data, rows[index]["id"]) if data is not None else Verdict(fault="no audio")

    verdicts = in_threads(judged, usable, f"checking {CORPUS.name} audio")
    kept, faulty = with_verdicts(kept, verdicts)
    kept, again, ratings = one_of_each(kept, raters, further)
    kept.sort(key=itemgetter(_PLACE))
    excluded = [*left_out, *faulty, *again]
    corpus = corpus_of_rows(CORPUS, kept, excluded, root=root, scale=scale, further=further, ratings=ratings)
    chosen = [row[_PLACE] for row in kept]
    complete: list[Row] = [{}] * len(rows)
    for index, row in zip(chosen, corpus.utterances, strict=True):
        complete[index] = row
    # The Arrow table of the audio stays where it is, rows are chosen of it.
    beside = dataset_of(complete, corpus.labels, corpus.groups)
    return replace(corpus, utterances=datasets.concatenate_datasets([beside, sound], axis=1).select(chosen))


def _with_unnamed(root: Path, sound: Dataset, left_out: Sequence[Exclusion]) -> list[Exclusion]:
    """Return what is left out with the recordings of a folder that its tables name in no row, each once.

    What the rules of a source leave out is none of it where a row names it.
    """
    from affect.data.corpora.hub_source import UNNAMED

    # Of the Arrow table: rows would bring the bytes along.
    chunks = sound.with_format("arrow")[:]["audio"].chunks
    paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
    there = {each.what for each in left_out}
    files = NamedFiles(root)
    places = [files.place(path) for path in paths if path]
    named = {os.path.realpath(place) for place in places}
    others = unnamed(root, places, "recording that no table names")
    return [
        *(each for each in left_out if each.reason != UNNAMED or os.path.realpath(root / each.what) not in named),
        *(each for each in others if each.what not in there),
    ]


def _absence(files: NamedFiles, path: str) -> str:
    """Return why a row has no file, "" where it has."""
    if not path:
        return "no audio"
    reason = absence(files.place(path), "audio file")
    return f"{reason}: {path}" if reason == "missing audio file" else reason


CORPUS = Layout(
    name="hub",
    read=read,
    columns=KNOWN,
    options=("columns", "scale", "raters", "decimal", "subset", "revision", "limit", "streaming"),
    holds=is_saved,
    sign="datasets folder",
    on_hub=True,
    about="Look at how it was recorded, by whom, and whether it was acted.",
)
