"""Clips with scores from CSV files: a line a clip, its name, scores, texts (groups) and numbers (the feature `clip`).

Frames come from another CSV (several lines a clip, the feature `frames`), or from a folder with a CSV of py-feat or
OpenFace a clip (`visual`, `au`). Names may tell groups, by a pattern. What was read is kept in the cache as a folder,
which is then read as any other; it is made anew when a file has changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.cache import cache_folder, lock, stamp
from affect.data import score_clips, score_samples
from affect.data.corpora.columns import ColumnsError, proposed
from affect.data.corpora.labels import UnusableError, label, pointed, rows_of
from affect.data.frame_csv import FACES, check_columns, frame_numbers, numbers, read_faces
from affect.data.parts import named_part
from affect.data.score_corpus import ScoreCorpus, read_folder
from affect.data.score_samples import SCHEMA, Made, Sample, given
from affect.data.store import Store
from affect.data.table_file import SEPARATORS, Cells, no_number, number, read_csv
from affect.errors import AffectError, with_article

_VERSION = b"3"
"""To be raised when the same files give other clips."""
_SCORE = re.compile(r"(.+_)?(score|mos)", re.IGNORECASE)
_PART_COLUMNS = ("split", "part")
CLIP, FRAMES = "clip", "frames"
"""The features of tables with a line a clip, and with several."""

GroupsOf = Callable[[str], Mapping[str, str]]
_Records = Sequence[tuple[int, Cells]]


def score_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns that are scores by their names: score, MOS, anything_score."""
    return [column for column in columns if _SCORE.fullmatch(column)]


def named_groups(pattern: str) -> GroupsOf:
    """Return what finds the groups of a clip's name by the named groups of a regular expression.

    Raises AffectError for one that is none, or names none.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise AffectError(f"the pattern {pattern!r} is no regular expression ({error})") from error
    if not compiled.groupindex:
        raise AffectError(f"the pattern {pattern!r} names no group: write (?P<source>...)")

    def groups(name: str) -> Mapping[str, str]:
        match = compiled.search(name)
        if match is None:
            raise UnusableError(f"the pattern does not fit the name: {name[:60]}")
        return {group: value or "" for group, value in match.groupdict().items()}

    return groups


def samples_of(
    table: Path, *, clip: str | None = None, scores: Sequence[str] = (), groups: Sequence[str] = (),
    named: GroupsOf | None = None, part: str = "", unlabelled: bool = False, decimal: str = ".",
    mapped: Mapping[str, str] | None = None, columns: Sequence[str] = (),
) -> Made:  # fmt: skip
    """Return the clips of a table, and what of it is left out, and why.

    `clip` is the column of their names (the first one), `scores` those of scores (by their names), `groups` further
    columns that are groups although they hold numbers; `named` finds groups in names, `decimal` stands before
    fractions, and `mapped` are the table's columns by ours (name, part, score). The feature is of `columns` where they
    are named, else of all that hold numbers. Raises AffectError for columns that are not there, of scores unless the
    clips may be `unlabelled`.
    """
    needed = () if unlabelled else scores
    there, name, records = _records(table, clip, decimal, (*needed, *groups), mapped or {})
    taken = [score for score in scores if score in there] or score_columns(there)
    if not taken and not unlabelled:
        words = f"{table} has no column of scores (score, MOS, ..._score); it has: {', '.join(there)}"
        raise ColumnsError(words, proposed_columns(there))
    told = [column for column in there if column.lower() in _PART_COLUMNS]
    numeric = _numeric_columns(there, records, (name, *taken, *groups))
    plain = _named(columns, there, table) or numeric
    # Scores that are not asked for are no groups.
    used = {name, "", *taken, *score_columns(there), *told, *groups, *numeric, *plain}
    own = [*groups, *(column for column in there if column not in used)]

    def make(cells: Cells) -> dict[str, Any]:
        values = {score: label(score, cells[score], None) for score in taken}
        split = next((cells[column] for column in told if cells[column]), "")
        if split and not named_part(split):
            raise UnusableError(f"unknown split: {split[:40]!r}")
        group_values = {column: cells[column] for column in own} | dict(named(cells[name]) if named else {})
        return {"id": cells[name], "part": named_part(split) or part, "groups": group_values, **given(values),
                **_vector(cells, plain)}  # fmt: skip

    return _made(records, make, name, table)


def _made(records: _Records, make: Callable[[Cells], dict[str, Any]], name: str, table: Path) -> Made:
    """Return the clips that `make` makes of the lines of a table, and what is left out."""
    rows, exclusions = rows_of(records, make, name, table)
    left_out: dict[str, str] = {}
    times = Counter[str]()
    for each in exclusions:
        # A name may be left out more than once.
        times[each.what] += 1
        again = times[each.what]
        left_out[each.what if again == 1 else f"{each.what} ({again})"] = each.reason
    return [Sample(**row) for row in rows], left_out


def _read(
    table: Path, required: Sequence[str], mapped: Mapping[str, str]
) -> tuple[list[str], list[tuple[int, Cells]]]:  # fmt: skip
    """Return `read_csv` of a table with the columns that are `mapped` called as ours."""
    wanted = [mapped.get(name, name) for name in (*required, *mapped)]
    columns, records = read_csv(table, wanted, separators=SEPARATORS)
    ours = {theirs: name for name, theirs in mapped.items()}
    if twice := next((name for theirs, name in ours.items() if name != theirs and name in columns), None):
        raise AffectError(f"{table} has a column {twice!r} beside {mapped[twice]!r}, which is to be it: rename one")
    renamed = [(line, {ours.get(name, name): text for name, text in cells.items()}) for line, cells in records]
    return [ours.get(column, column) for column in columns], renamed


def proposed_columns(columns: Sequence[str]) -> dict[str, str]:
    """Return what may be the scores of a table without a column called so, its parts and names; nothing without any."""
    others = [column for column in columns[1:] if column.lower() not in _PART_COLUMNS]
    lacking = ["score", *(["part"] if len(others) == len(columns[1:]) else [])]
    likely = proposed(others, lacking)
    # The first column is that of names, unless it can't be.
    first = proposed(columns[:1], ("name",))
    return likely | ({} if first else proposed(others, ("name",))) if "score" in likely else {}


def with_frames(made: Made, table: Path) -> Made:
    """Return the samples with the feature `frames` [T, D] of a table whose first column is their name.

    Frames of no sample are left out. Lines are in the order of the column `frame`, else in that of the table. Raises
    AffectError where no sample has one.
    """
    there, records = read_csv(table, ())
    name = next(iter(there), "")
    plain, lines = _frames(table, there, name, records)
    frames = {id: {FRAMES: _by_time(own, plain, table)} for id, own in lines.items()}
    return _added(made, frames, table, frames, {FRAMES: plain})


def clips_in(
    table: Path, features: Mapping[str, Sequence[str]], *, clip: str | None = None, decimal: str = "."
) -> Made:
    """Return the clips of a table that is predicted from, with one of these `features`, and why lines are left out.

    What a corpus of tables is made of is read alike: a line a clip, several lines a clip (`frames`), or the CSV of
    py-feat or OpenFace, which is one clip, called as the file. `features` say their columns, others are left alone;
    none: those that hold numbers. Scores and parts are not read. Raises AffectError where columns are not there, and
    for names that come twice in a table of clips.
    """
    there, name, records = _records(table, clip, decimal, (), {})
    faces = [feature for feature in FACES if feature in features]
    if faces and (not {CLIP, FRAMES} & {*features} or any(FACES[feature][0] in there for feature in faces)):
        own = next((feature for feature in faces if FACES[feature][0] in there), faces[0])
        check_columns(there, FACES[own], table, f"the feature {own}")
        return [Sample(id=table.stem, scores={}, features=read_faces(table), columns=FACES)], {}
    several = len({cells[name] for _, cells in records}) < len(records)
    if FRAMES in features and (CLIP not in features or several or "frame" in there):
        columns, lines = _frames(table, there, name, records, features[FRAMES])
        samples: list[Sample] = []
        left_out: dict[str, str] = {}
        for id, of_clip in lines.items():
            try:
                given = {FRAMES: _by_time(of_clip, columns, table)}
                samples.append(Sample(id=id, scores={}, features=given, columns={FRAMES: columns}))
            except AffectError as error:
                left_out[id] = str(error)
        return samples, left_out
    plain = _named(features[CLIP], there, table) or _numeric_columns(there, records, (name,))
    if several:
        raise AffectError(f"{table} has several lines of {with_article(name)}, and the model takes one of each")
    return _made(records, lambda cells: {"id": cells[name], "scores": {}, **_vector(cells, plain)}, name, table)


def _records(
    table: Path, clip: str | None, decimal: str, needed: Sequence[str], mapped: Mapping[str, str]
) -> tuple[list[str], str, _Records]:
    """Return a table's columns, that of the clips' names, and its lines, with points before fractions."""
    columns, records = _read(table, (*filter(None, [clip]), *needed), mapped)
    name = clip or ("name" if "name" in mapped else next(iter(columns), ""))
    if decimal != ".":
        records = [(line, {key: text if key == name else pointed(text, decimal) for key, text in cells.items()})
                   for line, cells in records]  # fmt: skip
    return columns, name, records


def _numeric_columns(columns: Sequence[str], records: _Records, but: Sequence[str]) -> list[str]:
    """Return the columns that hold numbers and are no scores and say no part."""
    told = {column for column in columns if column.lower() in _PART_COLUMNS}
    others = [column for column in columns if column and column not in {*but, *score_columns(columns), *told}]
    return [column for column in others if _numeric([cells[column] for _, cells in records])]


def _named(columns: Sequence[str], there: Sequence[str], table: Path, feature: str = CLIP) -> list[str]:
    """Return the columns that a feature is to have; raises AffectError where they are not there."""
    check_columns(there, columns, table, f"the feature {feature}")
    return list(columns)


def _vector(cells: Cells, columns: Sequence[str]) -> dict[str, Any]:
    """Return a line's feature, of these columns; raises UnusableError for a cell that is no number."""
    values = []
    for column in columns:
        try:
            values.append(number(cells[column]))
        except ValueError:
            raise UnusableError(f"feature is no number: {column} {no_number(cells[column])}") from None
    own = {CLIP: np.array([values], np.float32)} if columns else {}
    return {"features": own, "columns": {name: tuple(columns) for name in own}}


def _frames(
    table: Path, there: Sequence[str], name: str, records: _Records, columns: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, list[Cells]]]:
    """Return the columns of frames, those that hold numbers where none are named, and the lines of each clip."""
    of_clip: dict[str, list[Cells]] = {}
    for _, cells in records:
        of_clip.setdefault(cells[name], []).append(cells)
    others = [column for column in there if column not in (name, "frame")]
    plain = _named(columns, there, table, FRAMES)
    plain = plain or [column for column in others if _numeric([cells[column] for _, cells in records])]
    return tuple(plain), of_clip


def _by_time(lines: Sequence[Cells], columns: Sequence[str], table: Path) -> NDArray[np.float32]:
    """Return the lines of a clip as frames [T, D]."""
    order = np.argsort(frame_numbers(lines, table), kind="stable")
    return numbers([lines[k] for k in order], columns, table)


def with_faces(made: Made, folder: Path) -> Made:
    """Return the samples with what `<name>.csv` in a folder says of their faces; tables of no sample are left out.

    Raises AffectError where no sample has a file, and as `read_faces` does.
    """
    paths = {sample.id: folder / f"{Path(sample.id).stem}.csv" for sample in made[0]}
    there = [path.stem for path in sorted(folder.glob("*.csv"))]
    return _added(made, {id: read_faces(path) for id, path in paths.items() if path.is_file()}, folder, there, FACES)


def stores_in(folder: Path) -> list[Path]:
    """Return the files of features that `recipes/extract_features.py` made, of a folder or of those right below it."""
    return sorted([*folder.glob("features.arrow"), *folder.glob("*/features.arrow")])


def with_stores(made: Made, stores: Sequence[Store]) -> Made:
    """Return the samples with the features of stores whose rows have their names; rows of no sample are left out.

    Raises AffectError for one feature in two stores, and where a store has none of the samples.
    """
    seen: set[str] = set()
    for store in stores:
        if twice := seen & {*store.features}:
            raise AffectError(f"{store.path}: the feature {min(twice)} is in another file, too")
        seen |= {*store.features}
        features: dict[str, dict[str, NDArray[Any]]] = {}
        for row, id in enumerate(store.ids):
            arrays = {name: store.read(name, row) for name in store.features}
            features[id] = {name: array for name, array in arrays.items() if array is not None}
        stems = {each.id: score_clips.stem(each.id) for each in made[0]}
        own = {id: features[stem] for id, stem in stems.items() if stem in features}
        made = _added(made, own, store.path, store.ids)
    return made


def manifests_of(stores: Sequence[Store]) -> dict[str, Any]:
    """Return what made each feature of stores, where they say it."""
    return {name: json.loads(store.facts[name]) for store in stores for name in store.features if name in store.facts}


def _added(
    made: Made, further: Mapping[str, Mapping[str, Any]], where: Path, there: Iterable[str],
    columns: Mapping[str, tuple[str, ...]] | None = None,
) -> Made:  # fmt: skip
    """Return samples with `further` features, of these `columns` by the features' names.

    What is `there` of none of them, nor of one left out, is left out.
    """
    samples, left_out = made
    if not any(sample.id in further for sample in samples):
        raise AffectError(f"{where} has none of the {len(samples)} clips, {samples[0].id!r} for one")
    named = {name for id in (*(sample.id for sample in samples), *left_out) for name in (id, score_clips.stem(id))}
    less = {f"{where.name}: {name}": score_clips.NO_ROW for name in there if name not in named}
    more = [
        replace(each, features={**each.features, **(own := further.get(each.id, {}))},
                columns={**each.columns, **{name: columns[name] for name in own if columns}})
        for each in samples
    ]  # fmt: skip
    return more, {**left_out, **less}


def corpus_of(
    name: str, root: Path, files: Sequence[Path], make: Callable[[], Made], settings: object = (), *,
    unlabelled: bool = False, **options: Any,
) -> ScoreCorpus:  # fmt: skip
    """Return the corpus of what `make` reads from `files` by these `settings`, from the cache where it is there.

    The `options` are `read_folder`'s. Several processes may ask at once: one reads, the others wait. Raises AffectError
    as `make` and `read_folder` do.
    """
    digest = hashlib.sha256(_VERSION + repr((name, settings, unlabelled)).encode())
    for path in files:
        digest.update(repr(stamp(path)).encode())
    folder = cache_folder() / "scores" / digest.hexdigest()[:24]
    if not (folder / "made" / SCHEMA).is_file():
        with lock(folder, f"the scores of {root}"):
            if not (folder / "made" / SCHEMA).is_file():
                for left_by_a_kill in (folder / "partial", folder / "made"):
                    shutil.rmtree(left_by_a_kill, ignore_errors=True)
                samples, left_out = make()
                facts: dict[str, Any] = {"where": str(root), "left_out": left_out, "unlabelled": unlabelled}
                score_samples.write(folder / "partial", samples, **facts)
                (folder / "partial").rename(folder / "made")
    return read_folder(folder / "made", name, where=str(root), unlabelled=unlabelled, **options)


def corpus_beside(
    name: str, root: Path, tables: Sequence[Path], make: Callable[[], Made], settings: object = (), *,
    frames_of: str | None, videos: str | None, boxes: str | None, **options: Any,
) -> ScoreCorpus:  # fmt: skip
    """Return `corpus_of` the clips that `make` reads from `tables`, with what lies beside them, all below `root`.

    `frames_of` is the CSV or folder of their frames, `videos` the folder of the clips themselves and `boxes` that of a
    CSV a clip with its faces: a clip without a video that can be read is then left out. Raises AffectError for those
    that are not there, or are of other clips.
    """
    films, faulty = ({}, {}) if videos is None else score_clips.videos_in(root / videos)
    place = None if frames_of is None else root / frames_of
    if place is not None and not place.exists():
        raise AffectError(f"{root} has no {frames_of}")
    stores = [] if place is None else [Store(path) for path in stores_in(place)]

    def whole() -> Made:
        made = make()
        if stores:
            made = with_stores(made, stores)
        elif place is not None:
            made = (with_faces if place.is_dir() else with_frames)(made, place)
        return score_clips.looked_at(made, films, faulty) if films else made

    beside = [] if place is None else sorted(place.glob("*.csv")) if place.is_dir() else [place]
    beside = [store.path for store in stores] or beside
    corpus = corpus_of(name, root, [*tables, *beside, *films.values()], whole, (settings, faulty), **options)
    made_by = manifests_of(stores)
    corpus = replace(corpus, schema={**corpus.schema, "made_by": made_by}) if made_by else corpus
    faces = None if boxes is None else root / boxes
    return score_clips.with_videos(corpus, films, faces) if films else corpus


def _numeric(cells: Sequence[str]) -> bool:
    try:
        values = [number(cell) for cell in cells]
    except ValueError:
        return False
    return any(value == value for value in values)
