"""Clips with features and scores, from wherever they come, into one folder: features.arrow, rows.csv, schema.json.

rows.csv has the columns id, part, length (frames of the longest feature), groups and scores (empty where missing), and
may be edited: groups added, a label mended. schema.json says what is in the folder.

Legend: T frames, D numbers of a frame, K points of C coordinates.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data import copies, store
from affect.data.corpus import Exclusion, summary
from affect.data.spread import Spread
from affect.errors import AffectError

FORMAT = "affect.scores.1"
FEATURES, ROWS, SCHEMA = "features.arrow", "rows.csv", "schema.json"
FIXED = ("id", "part", "length")
"""Columns that every row has."""
TAKEN = (*FIXED, "row")
"""No group and no score is called so."""
MISSING = -1.0
"""What stands for a missing label."""
UNLABELLED = (
    "-1, NaN, an empty cell and a mask of False say that a label is missing; clips without any are for pretraining "
    "alone (affect convert --unlabelled, then recipes/talking_face.py pretrain)"
)
"""What to say where nothing is labelled."""

Array = NDArray[Any]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A clip: its part ("" where nothing says it), groups, scores (NaN where missing) and the features that it has.

    An array is a vector [D], frames [T, D] or points [T, K, C]; [1, T, D] is a batch of one.
    """

    id: str
    part: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float]
    lost: frozenset[str] = frozenset()
    """Scores that are missing because they were -1."""
    features: Mapping[str, Array] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the numbers of a feature's frames are called, in their order, where the source says it."""


def given(scores: Mapping[str, float]) -> dict[str, Any]:
    """Return a sample's `scores` and `lost`, of labels some of which are -1."""
    lost = frozenset(name for name, value in scores.items() if value == MISSING)
    return {"scores": {name: np.nan if name in lost else value for name, value in scores.items()}, "lost": lost}


Made = tuple[list[Sample], dict[str, str]]
"""Clips, and what is left out and why."""


@dataclass
class Moments:
    """Sums of the frames of `clips` to train on and of their squares [D], about the `first`: exact where it is all."""

    clips: int = 0
    frames: int = 0
    first: Array = field(default_factory=lambda: np.zeros(0))
    sums: Array = field(default_factory=lambda: np.zeros(0))
    squares: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, frames: Array) -> None:
        """Add a clip's frames [T, D]."""
        if not self.clips:
            self.first = frames[0].astype(np.float64)
            self.sums = self.squares = np.zeros_like(self.first)
        apart = frames - self.first
        self.clips, self.frames = self.clips + 1, self.frames + len(frames)
        self.sums, self.squares = self.sums + apart.sum(0), self.squares + np.square(apart).sum(0)

    @property
    def deviations(self) -> Array:
        """The deviation [D] of each number over all frames, exactly 0 where it never changes."""
        count = max(1, self.frames)
        return np.sqrt(np.maximum(self.squares / count - np.square(self.sums / count), 0))


@dataclass
class Seen:
    """What a feature turned out to be: numbers of a frame, type, clips that have it, and how long it is in these.

    `columns` are what its numbers are called, none where the source does not say it. `filled` are frames that held NaN
    or infinite values, in whose place is the frame before (or else the next), `still` the clips of several frames that
    are all the same.
    """

    width: int
    dtype: str
    batched: bool
    columns: tuple[str, ...] = ()
    clips: int = 0
    shortest: int = 0
    longest: int = 0
    filled: int = 0
    still: list[str] = field(default_factory=list)
    moments: Moments = field(default_factory=Moments)

    def add(self, id: str, frames: Array, filled: int, trained: bool) -> None:
        """Count a clip that has these frames [T, D], and is trained on or not."""
        self.shortest = min(len(frames), self.shortest) if self.clips else len(frames)
        self.longest = max(len(frames), self.longest)
        self.clips += 1
        self.filled += filled
        if len(frames) > 1 and (frames == frames[0]).all():
            self.still.append(id)
        if trained:
            self.moments.add(frames)

    @property
    def spread(self) -> Spread:
        """How its numbers differ over the frames of the clips to train on."""
        return Spread.of(self.moments.deviations, self.moments.clips)


def check(
    samples: Sequence[Sample], where: str, left_out: Sequence[Exclusion] = (), *, unlabelled: bool = False
) -> None:
    """Raise AffectError for ids that come twice, names that can't be, and no score unless they may be `unlabelled`."""
    if not samples:
        raise AffectError(f"{where} has no sample" + (f" ({summary(left_out)})" if left_out else ""))
    first: dict[str, str] = {}
    for sample in samples:
        if sample.id in first:
            twice = [part or "the file" for part in dict.fromkeys((first[sample.id], sample.part))]
            hint = " (of several raters give the mean)" if len(twice) == 1 else ""
            raise AffectError(f"{where}: the id {sample.id!r} comes twice, in {' and in '.join(twice)}{hint}")
        first[sample.id] = sample.part
        bad = next((text for text in (sample.id, *sample.groups.values()) if not text.isprintable()), None)
        if bad is not None or not sample.id:
            raise AffectError(f"{where}: {(bad or sample.id)[:40]!r} is no name of a clip or group")
    scores = names(samples, "scores")
    if not scores and not unlabelled:
        raise AffectError(f"{where} has no score: labels are what is learned (affect convert --unlabelled takes it)")
    for kind in ("groups", "scores", "features"):
        taken = {"groups": (*TAKEN, *scores), "scores": TAKEN, "features": ("id",)}[kind]
        for name in names(samples, kind):
            # The store has a column <feature>.shape.
            if not name or not name.isprintable() or name != name.strip() or name in taken or name.endswith(".shape"):
                raise AffectError(f"{where}: {name[:40]!r} can't be the name of one of the {kind}")


def exclusions(left_out: Mapping[str, str] | None) -> list[Exclusion]:
    """Return what is left out of samples, and why, as of any corpus."""
    return [Exclusion(what=what, reason=reason) for what, reason in (left_out or {}).items()]


def check_labels(samples: Sequence[Sample], where: str) -> None:
    """Raise AffectError for a score that no sample to train on has."""
    scores = names(samples, "scores")
    trained = [sample for sample in samples if sample.part == "train"] or samples
    lacking = [name for name in scores if all(np.isnan(sample.scores.get(name, np.nan)) for sample in trained)]
    if lacking and len(lacking) == len(scores):
        words = f"no sample to train on has a label of any score ({', '.join(scores)})"
        raise AffectError(f"{where}: {words}: {UNLABELLED}")
    if lacking:
        others = " ".join(name for name in scores if name not in lacking)
        hint = f"name the others to leave it out, --labels {others} (of a table: --data.scores {others})"
        raise AffectError(f"{where}: no sample to train on has a label {lacking[0]}: {hint}")


def names(samples: Sequence[Sample], kind: str) -> list[str]:
    """Return the names of the groups, scores or features of samples, each once, in their order."""
    return list(dict.fromkeys(name for sample in samples for name in getattr(sample, kind)))


def survey(samples: Sequence[Sample], where: str) -> dict[str, Seen]:
    """Return what each feature is.

    Raises AffectError, with both numbers, where its frames differ in width, and where clips have its columns in another
    order.
    """
    seen: dict[str, Seen] = {}
    for name in names(samples, "features"):
        arrays = [(sample.id, sample.features[name]) for sample in samples if name in sample.features]
        for id, array in arrays:
            if array.dtype.kind not in "fiub":
                raise AffectError(f"{where}: {name} of {id} is of {array.dtype}, not of numbers")
            if array.ndim not in (1, 2, 3):
                shape = list(array.shape)
                raise AffectError(f"{where}: {name} of {id} has the shape {shape}: [D], [T, D] or [T, K, C] is read")
        arrays = [(id, array) for id, array in arrays if array.size]
        if not arrays:
            continue
        batched = _batched([array.shape for _, array in arrays])
        first, width = arrays[0][0], _width(arrays[0][1].shape, batched)
        for id, array in arrays:
            if _width(array.shape, batched) != width:
                one, other = (_width_told(each.shape, batched) for each in (arrays[0][1], array))
                raise AffectError(
                    f"{where}: the feature {name} has {one} numbers a frame in {first} and {other} in {id}: "
                    "all clips must have the same"
                )
        halves = all(array.dtype == np.float16 for _, array in arrays)
        columns, *others = {sample.columns.get(name, ()) for sample in samples if name in sample.features}
        if others:
            raise AffectError(f"{where}: the columns of {name} are not the same, in the same order, in all clips")
        seen[name] = Seen(width, "float16" if halves else "float32", batched, columns)
    return seen


def _batched(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether arrays are [1, T, D]: points [T, K, C] of which every clip has one frame are no video's."""
    return all(len(shape) == 3 and shape[0] == 1 for shape in shapes)


def _width(shape: tuple[int, ...], batched: bool) -> int:
    return shape[-1] if len(shape) < 3 or batched else shape[1] * shape[2]


def _width_told(shape: tuple[int, ...], batched: bool) -> str:
    """Return a width in words, of points with the shape: nobody finds the product of two sides in his data."""
    width = _width(shape, batched)
    return f"{width} (points [T, K, C] of the shape {list(shape)})" if len(shape) == 3 and not batched else str(width)


def frames_of(array: Array, seen: Seen) -> tuple[Array, int] | None:
    """Return an array as finite frames [T, D] of its feature's type, and how many were filled; None where none is."""
    if not array.size:
        return None
    frames = array.reshape(-1, seen.width)
    with np.errstate(over="ignore"):
        frames = frames.astype(seen.dtype, copy=False)
    if np.isfinite(frames).all():
        return frames, 0
    sound = np.isfinite(frames).all(axis=1)
    if not sound.any():
        return None
    places = np.maximum.accumulate(np.where(sound, np.arange(len(frames)), -1))
    places[places < 0] = sound.argmax()
    return frames[places], int((~sound).sum())


def rows_of(samples: Sequence[Sample], seen: Mapping[str, Seen]) -> Iterator[tuple[Row, dict[str, Array | None]]]:
    """Yield each sample as a row of rows.csv, and its features; counts these in `seen`."""
    groups, scores = names(samples, "groups"), names(samples, "scores")
    parted = any(sample.part == "train" for sample in samples)
    for sample in samples:
        arrays: dict[str, Array | None] = {}
        for name, own in seen.items():
            made = frames_of(sample.features[name], own) if name in sample.features else None
            arrays[name] = None if made is None else made[0]
            if made is not None:
                own.add(sample.id, *made, not parted or sample.part == "train")
        length = max((len(array) for array in arrays.values() if array is not None), default=1)
        row: Row = {"id": sample.id, "part": sample.part, "length": length}
        row |= {name: sample.groups.get(name, "") for name in groups}
        yield row | {name: sample.scores.get(name, np.nan) for name in scores}, arrays


def write(
    folder: Path, samples: Sequence[Sample], *, where: str, left_out: Mapping[str, str] | None = None,
    unlabelled: bool = False,
) -> tuple[list[Row], dict[str, Any]]:  # fmt: skip
    """Write the folder's three files, features as a stream, and return its rows and what schema.json says.

    `where` is what errors call the samples' source, `left_out` what of it is not taken over, and why; `unlabelled`
    samples need no score. Raises AffectError as `check`, `check_labels` and `survey` do; the caller removes what was
    written until then.
    """
    check(samples, where, exclusions(left_out), unlabelled=unlabelled)
    if not unlabelled:
        check_labels(samples, where)
    seen = survey(samples, where)
    rows: list[Row] = []
    digests: list[str] = []

    def each() -> Iterator[tuple[str, dict[str, Array | None]]]:
        for row, arrays in rows_of(samples, seen):
            rows.append(row)
            digests.append(copies.digest(arrays))
            yield row["id"], arrays

    folder.mkdir(parents=True, exist_ok=True)
    features = {name: store.Feature(own.dtype, 2) for name, own in seen.items()}
    store.write(folder / FEATURES, features, each())
    with (folder / ROWS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        # What is missing is an empty cell.
        writer.writerows({name: "" if value != value else value for name, value in row.items()} for row in rows)
    content = schema(samples, seen, digests, where, left_out or {})
    (folder / SCHEMA).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return rows, content


def look(
    samples: Sequence[Sample], *, where: str, left_out: Mapping[str, str] | None = None
) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows that `write` would write, and what schema.json would say, and write nothing."""
    check(samples, where, exclusions(left_out), unlabelled=True)
    seen, rows, digests = survey(samples, where), [], []
    for row, arrays in rows_of(samples, seen):
        digests.append(copies.digest(arrays))
        rows.append(row)
    return rows, schema(samples, seen, digests, where, left_out or {})


def columns_in(schema: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return what the numbers of each feature are called, of those whose source said it."""
    return {name: tuple(own["columns"]) for name, own in schema["features"].items() if own.get("columns")}


def schema(
    samples: Sequence[Sample], seen: Mapping[str, Seen], digests: Sequence[str], where: str,
    left_out: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Return what schema.json says, as JSON types; `digests` are those of each sample's features."""
    of_id = [(sample.id, digest) for sample, digest in zip(samples, copies.telling(digests), strict=True)]
    empty = {f"feature {name}": "no clip has a frame of it" for name in names(samples, "features") if name not in seen}
    return {
        "format": FORMAT,
        "source": where,
        "groups": names(samples, "groups"),
        "scores": names(samples, "scores"),
        "features": {
            name: {
                "width": own.width, "dtype": own.dtype, "clips": own.clips, "frames": [own.shortest, own.longest],
                "filled": own.filled, "still": own.still, "spread": asdict(own.spread),
                **({"columns": list(own.columns)} if own.columns else {}),
            }
            for name, own in seen.items()
        },
        "minus_one": {name: sum(name in sample.lost for sample in samples) for name in names(samples, "scores")},
        "copies": [{"id": id, "as": first} for (_, first), (_, id) in copies.pairs({"": of_id})[1]],
        "left_out": {**left_out, **empty},
    }  # fmt: skip
