"""Clips from tables: features by the names of their columns, read as a corpus of tables reads them.

Legend: T frames, W numbers of a frame.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from affect.config import from_dict
from affect.data.frame_csv import FACES, check_columns
from affect.data.score_clips import stem
from affect.data.score_samples import Sample, Seen, frames_of
from affect.data.score_tables import CLIP, FRAMES, clips_in
from affect.data.table_file import columns_of
from affect.errors import AffectError
from affect.inference.given import TABLES, names_files
from affect.inference.opening import Opened
from affect.models import saving
from affect.tasks.talking_face.config import Signature
from affect.tasks.talking_face.corruptions import Clip, Frames

_LOG = logging.getLogger("affect")


def signature(opened: Opened) -> Signature:
    """Return what models know of the data, without reading their weights."""
    facts = saving.read_config(opened.folders[0]) if opened.exported is None else opened.exported.facts
    return from_dict(Signature, facts["data"], "data")


def takes(data: Signature, table: Path) -> bool:
    """Tell whether a table holds a feature of a model, and is no list of files.

    It lists files where it has such a column, unless all columns of a feature are there.
    """
    if not _own(data):
        return False
    there = {*columns_of(table)}
    whole = any(there.issuperset(columns) for columns in _own(data).values() if columns)
    return whole or not names_files(table)


def _own(data: Signature) -> dict[str, tuple[str, ...]]:
    """Return the columns of the features that tables have, none where the model does not know them."""
    named = dict(data.columns)
    return {name: named.get(name, ()) for name, _ in data.features if name in (CLIP, FRAMES, *FACES)}


@dataclass
class Order:
    """Brings the numbers of frames into the order in which a model was trained on them, and tells where it can't."""

    data: Signature
    told: set[str] = field(default_factory=set)

    def arranged(self, name: str, frames: Frames, columns: Sequence[str], where: Path) -> Frames:
        """Return frames [T, W] of a feature by the names of their `columns`; as they are where one side has none.

        Raises AffectError where a column of the model's is not there.
        """
        wanted = dict(self.data.columns).get(name, ())
        if len(columns) != frames.shape[1]:
            columns = ()
        if wanted and columns:
            check_columns(columns, wanted, where, f"the feature {name}")
            places = {column: k for k, column in enumerate(columns)}
            return frames[:, [places[column] for column in wanted]]
        if (wanted or columns) and name not in self.told:
            self.told.add(name)
            whose = "the model was saved without" if columns else f"{where.name} comes without"
            order = ", ".join(wanted or columns)
            _LOG.warning(
                "%s: %s the names of its columns, so that their order can't be checked: they are taken as %s",
                name, whose, order if len(order) < 200 else f"{order[:200]} ...",
            )  # fmt: skip
        return frames


def clips_of(
    tables: Sequence[Path], data: Signature, order: Order, *, clip: str | None, decimal: str
) -> Iterator[tuple[str, Clip | str]]:
    """Yield the name of each clip of tables and the frames [T, W] of its features, or why it can't be read.

    What several tables have of one clip is put together; the CSV of its faces is called as the clip.
    """
    features = _own(data)
    if not features:
        yield from ((table.name, f"{table}: the features of this model come from no table") for table in tables)
        return
    if len(features) == 1 and len(tables) > 1:
        # Nothing to put together: a table is read when its turn comes.
        for table in tables:
            yield from clips_of([table], data, order, clip=clip, decimal=decimal)
        return
    listed: dict[str, list[tuple[Path, Sample]]] = {}
    names: dict[str, str] = {}
    for table in tables:
        try:
            samples, left_out = clips_in(table, features, clip=clip, decimal=decimal)
        except AffectError as error:
            yield table.name, str(error)
            continue
        yield from ((name, f"{table}: {reason}") for name, reason in left_out.items())
        for sample in samples:
            key = stem(sample.id)
            listed.setdefault(key, []).append((table, sample))
            of_faces = not {CLIP, FRAMES} & {*sample.features}
            names[key] = names.get(key, table.name) if of_faces else sample.id
    for key, given in listed.items():
        try:
            yield names[key], _clip(given, dict(data.features), order)
        except AffectError as error:
            yield names[key], str(error)


def _clip(given: Sequence[tuple[Path, Sample]], widths: Mapping[str, int], order: Order) -> Clip:
    """Return what tables have of a clip; raises AffectError for another width, and where it has no frame."""
    clip: dict[str, Frames] = {}
    for table, sample in given:
        for name, array in sample.features.items():
            if name not in widths:
                continue
            frames = order.arranged(name, array, sample.columns[name], table)
            if frames.shape[1] != widths[name]:
                raise AffectError(f"{table}: {name} has {frames.shape[1]} columns, the model takes {widths[name]}")
            if made := frames_of(frames, Seen(widths[name], "float32", False)):
                clip[name] = np.asarray(made[0], np.float32)
    if not clip:
        missing = ", ".join(name for _, sample in given for name in sample.features)
        raise AffectError(f"{given[0][0]}: no frame of {missing} is whole: a number is missing in each")
    return clip


def apart(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the tables among files, and the others."""
    tables = [file for file in files if file.suffix.lower() in TABLES and not file.is_dir()]
    return tables, [file for file in files if file not in tables]
