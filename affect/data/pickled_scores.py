"""Samples of what a pickle of talking faces holds: splits of samples, or of columns, or a flat list.

    {"train": [sample, ...], "val" or "valid": [...], "test": [...]}      rows
    {"train": {"features": {name: arrays}, "labels": {name: values}, "valid_masks": {name: flags}}, ...}    columns
    [sample with "split", ...]                                            flat, also without splits

A sample has dictionaries `features` and `labels`, an id, and texts, which become groups (source, identity, generator).
A label is missing where it is -1, NaN, None, absent, or its mask is false: all of them become NaN. Columns of padded
features [N, T, D] may have a column of their lengths, <feature>_lengths, or one for all, lengths.

Legend: N samples, K scores, T frames, D numbers of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.data.parts import PARTS, named_part
from affect.data.safe_pickle import Array
from affect.data.score_samples import TAKEN, Sample, given
from affect.errors import AffectError, nearest, with_article
from affect.tables import counted

IDS = ("id", "video_id", "video", "clip_id", "clip", "name", "filename", "file", "video_name")
"""What samples may call their id, and columns theirs; in columns also as plurals (ids, video_ids)."""
_MASKS = ("valid_masks", "valid_mask", "masks", "mask")
_NAMES = ("label_names", "task_names")
_LENGTHS = "lengths"


class _Reader:
    """Reads the samples of one file: `where` is what errors call it, `labels` the scores to take (all: none named).

    `unlabelled` samples need none; a table of labels `nameless` columns may be of label0, label1, ...
    """

    def __init__(self, where: str, labels: Sequence[str], unlabelled: bool, nameless: bool) -> None:
        self.where, self.labels, self.unlabelled, self.nameless = where, tuple(labels), unlabelled, nameless
        self.left_out: dict[str, str] = {}
        self.rated: set[str] = set()

    def fault(self, place: str, words: str) -> AffectError:
        # Names in it may hold anything: it stays one line.
        return AffectError(" ".join(f"{self.where}: {place} {words}".split()))

    def samples(self, data: Any) -> list[Sample]:
        """Return all samples of what the pickle holds."""
        if isinstance(data, list):
            return self._rows(data, None, "sample ")
        if not isinstance(data, dict):
            raise self.fault("it", f"holds {_kind(data)}, not splits of samples (train, val, test) or a list of them")
        if "features" in data or "labels" in data:
            return self._rows(self._from_columns(data, "the file"), None, "sample ")
        samples: list[Sample] = []
        seen: dict[str, str] = {}
        for key, value in data.items():
            part = named_part(str(key))
            # What is called test_info need not be a test.
            if not part or (str(key).strip().lower() not in PARTS and not _samples(value)):
                self.left_out[str(key)[:60]] = "no split: train, val (valid) and tests (test, test2) are read"
                continue
            if part in seen:
                raise self.fault(f"the splits {seen[part]!r} and {key!r}", "are the same part")
            seen[part] = str(key)
            rows = self._from_columns(value, f"split {key!r}") if isinstance(value, dict) else value
            if not isinstance(rows, (list, tuple)):
                raise self.fault(f"split {key!r}", f"holds {_kind(rows)}, not a list of samples")
            if not rows:
                raise self.fault(f"split {key!r}", "is empty")
            samples += self._rows(rows, part, f"{key} ")
        if "train" not in seen:
            there = ", ".join(map(repr, data)) or "none"
            raise self.fault("it", f"has no split 'train'; it has: {there[:100]}")
        return samples

    def _from_columns(self, data: Mapping[str, Any], place: str) -> list[dict[str, Any]]:
        """Return the samples [N] of columns."""
        for key in ("features", "labels"):
            if key not in data and not (self.unlabelled and key == "labels"):
                raise self.fault(place, f"has no {key!r}; it has: {', '.join(map(str, data))[:100] or 'nothing'}")
        labels = data.get("labels")
        columns: dict[str, list[Any]] = {}
        called = next((_items(data[key]) for key in _NAMES if key in data), None) or self.labels
        if self.nameless and not called and isinstance(labels, Array) and len(labels.shape) == 2:
            called = [f"label{k}" for k in range(labels.shape[1])]
            names = counted(len(called), "name")
            self.left_out["names of labels"] = f"the file has none: affect convert --labels takes {names}"
        scores = list(map(str, called or (labels if isinstance(labels, dict) else ())))
        lengths = self._lengths(data, place)
        for key, value in data.items():
            name = _singular(str(key))
            if key in _NAMES or key in lengths.values():
                continue
            if key == "features" or key == "labels" or key in _MASKS:
                wanted = scores if key != "features" else []
                columns["mask" if key in _MASKS else key] = self._split_up(value, f"{place}, {key}", wanted)
            elif isinstance(value, (list, tuple, Array)) and _items(value) is not None:
                columns[name] = _items(value)
            else:
                self.left_out[f"{key} of {place}"[:60]] = f"no column: it is {_kind(value)}"
        first = "labels" if "labels" in columns else "features"
        count = len(columns[first])
        for key, values in columns.items():
            if len(values) != count:
                raise self.fault(place, f"has {len(values)} {key} and {count} {first}: a column has a value a sample")
        for feature, key in lengths.items():
            self._cut(columns["features"], feature, data[key], f"{place}, {key}")
        return [{key: values[k] for key, values in columns.items()} for k in range(count)]

    def _lengths(self, data: Mapping[str, Any], place: str) -> dict[str, str]:
        """Return the column of lengths of each padded feature that has one."""
        features = data["features"] if isinstance(data["features"], dict) else {}
        # What has one frame only is not padded.
        frames = {f: a.shape[1] for f, a in features.items() if isinstance(a, Array) and len(a.shape) > 2}
        frames = {feature: count for feature, count in frames.items() if count > 1}
        own = {feature: f"{feature}_{_LENGTHS}" for feature in frames if data.get(f"{feature}_{_LENGTHS}") is not None}
        if data.get(_LENGTHS) is None:
            return own
        others = {feature: count for feature, count in frames.items() if feature not in own}
        if len({*others.values()}) > 1:
            (one, m), (other, n) = min(others.items(), key=lambda f: f[1]), max(others.items(), key=lambda f: f[1])
            words = f"are of features of {m} frames ({one}) and of {n} ({other}): give each its own, {one}_{_LENGTHS}"
            raise self.fault(f"{place}, {_LENGTHS}", words)
        return own | dict.fromkeys(others, _LENGTHS)

    def _cut(self, rows: Sequence[dict[str, Any]], feature: str, lengths: Any, place: str) -> None:
        """Leave of a feature [N, T, D] of rows their `lengths` [N]; raises AffectError where these can't be it."""
        values = _items(lengths)
        if values is None:
            raise self.fault(place, f"are {_kind(lengths)}, not a column of whole numbers")
        if len(values) != len(rows):
            raise self.fault(place, f"are {len(values)} of {len(rows)} samples: a column has a value a sample")
        for k, (row, length) in enumerate(zip(rows, values, strict=True)):
            most = len(row[feature])
            if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= most:
                words = f"has {_shown(length)} for sample {k}: {feature} takes whole numbers up to {most}"
                raise self.fault(place, words)
            row[feature] = row[feature][:length]

    def _split_up(self, value: Any, place: str, scores: Sequence[str]) -> list[Any]:
        """Return columns by name, a table [N, K] or a list of dictionaries as a dictionary a sample."""
        if isinstance(value, (list, tuple)):
            return list(value)
        if isinstance(value, Array):
            table = self.array(value, place)
            if table.ndim != 2 or table.shape[1] != len(scores):
                shape = list(table.shape)
                raise self.fault(place, f"is an array {shape}: name its columns (label_names in it, or --labels A B)")
            return [dict(zip(scores, row, strict=True)) for row in table.tolist()]
        if not isinstance(value, dict):
            raise self.fault(place, f"is {_kind(value)}, not columns by name")
        columns = {}
        for name, column in value.items():
            items = self._values(column, f"{place} {name}") if isinstance(column, Array) else column
            if not isinstance(items, (list, tuple)):
                raise self.fault(f"{place} {name}", f"is {_kind(column)}, not a column")
            columns[name] = items
        counts = {name: len(items) for name, items in columns.items()}
        if len(set(counts.values())) > 1:
            (a, m), (b, n) = min(counts.items(), key=lambda c: c[1]), max(counts.items(), key=lambda c: c[1])
            raise self.fault(place, f"has {counted(m, 'value')} of {a} and {n} of {b}: a column has a value a sample")
        return [{name: items[k] for name, items in columns.items()} for k in range(next(iter(counts.values()), 0))]

    def _values(self, column: Array, place: str) -> list[Any]:
        array = self.array(column, place)
        return array.tolist() if array.ndim < 2 else list(array)

    def _rows(self, rows: Sequence[Any], part: str | None, place: str) -> list[Sample]:
        return [self._sample(row, part, f"{place}{k}") for k, row in enumerate(rows)]

    def _sample(self, row: Any, part: str | None, place: str) -> Sample:
        if not isinstance(row, dict):
            raise self.fault(place, f"is {_kind(row)}, not a dictionary of features and labels")
        if self.unlabelled and row.get("labels") is None:
            row = {**row, "labels": {}}
        for key in ("features", "labels"):
            if not isinstance(row.get(key), dict):
                held = f"as 'labels' {_kind(row[key])}" if key in row else f"no {key!r}"
                there = ", ".join(map(str, row))[:100]
                raise self.fault(place, f"has {held.replace('labels', key)}, not a dictionary; it has: {there}")
        id = next((name for name in (_text(row.get(key)) for key in IDS) if name), None)
        if part is None:
            split = row.get("split", "")
            part = named_part(str(split))
            if split and not part:
                raise self.fault(
                    place, f"is of the split {split!r}: train, val (valid) and tests (test, test2) are read"
                )
        named = id or f"{part or 'sample'}{place.rpartition(' ')[2]}"
        mask: Any = next((row[key] for key in _MASKS if row.get(key) is not None), {})
        if not isinstance(mask, dict):
            raise self.fault(place, f"has as mask {_kind(mask)}, not a dictionary by label")
        place = f"{place} ({named})"
        return Sample(
            id=named, part=part, groups=self._groups(row), **given(self._scores(row["labels"], mask, place)),
            features=dict(self._features(row["features"], place)),
        )  # fmt: skip

    def _groups(self, row: Mapping[str, Any]) -> dict[str, str]:
        groups = {}
        for key, value in row.items():
            if value is None or key in (*IDS, *_MASKS, *TAKEN, "features", "labels", "split"):
                continue
            text = _text(value)
            if text is None:
                self.left_out[str(key)[:60]] = f"no group: it is {_kind(value)}"
            else:
                groups[str(key)] = text
        return groups

    def _scores(self, labels: Mapping[str, Any], mask: Mapping[str, Any], place: str) -> dict[str, float]:
        scores = {}
        self.rated.update(map(str, labels))
        for name in (self.labels if labels else ()) or labels:
            value = labels.get(name)
            if isinstance(value, (Array, np.ndarray)):
                numbers = self.array(value, f"{place}: {name}")
                value = numbers.item() if numbers.size == 1 else list(numbers.shape)
            if value is None or not _flag(mask.get(name, True)):
                value = math.nan
            if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isinf(value):
                raise self.fault(place, f"has the label {name} {_shown(value)}, which is no number")
            scores[str(name)] = float(value)
        return scores

    def _features(self, features: Mapping[str, Any], place: str) -> Iterator[tuple[str, NDArray[Any]]]:
        for name, value in features.items():
            if value is None:
                continue
            if isinstance(value, (list, tuple)):
                frames = [self.array(v, f"{name} of {place}") if isinstance(v, Array) else v for v in value]
                try:
                    yield str(name), np.array(frames, np.float32)
                except (ValueError, TypeError):
                    words = "is a ragged list: its frames must be numbers, equally many in each"
                    raise self.fault(f"{name} of {place}", words) from None
            elif isinstance(value, (Array, np.ndarray)):
                yield str(name), self.array(value, f"{name} of {place}")
            else:
                raise self.fault(f"{name} of {place}", f"is {_kind(value)}, not an array of numbers")

    def array(self, value: Array | NDArray[Any], place: str) -> NDArray[Any]:
        """Return an array's numbers; raises AffectError for one of objects, records or dates."""
        if isinstance(value, np.ndarray):
            return value
        if value.fault:
            raise self.fault(place, f"holds {value.fault}: save arrays of numbers, one a sample (a list of them)")
        return value.numbers()


def samples_of(
    data: Any, where: str, labels: Sequence[str] = (), *, unlabelled: bool = False, nameless: bool = False
) -> tuple[list[Sample], dict[str, str]]:
    """Return the samples of what `safe_pickle` read, and what is not taken over and why.

    `labels` are the scores to take (all where none are named), and the columns of a table of labels without names;
    `unlabelled` samples need none; with `nameless` such columns may also be called label0, label1, ...
    Raises AffectError, in one line, for anything that is no such data.
    """
    reader = _Reader(where, labels, unlabelled, nameless)
    samples = reader.samples(data)
    for name in labels:
        if reader.rated and name not in reader.rated:
            raise AffectError(f"{where}: no sample has a label {name!r}; {nearest(name, reader.rated)}")
    return samples, reader.left_out


def _items(value: Any) -> Any:
    """Return a list, or an array of texts or numbers as one; None for what is neither."""
    if isinstance(value, Array):
        return None if value.fault or len(value.shape) != 1 else value.numbers().tolist()
    return list(value) if isinstance(value, (list, tuple)) else None


def _samples(value: Any) -> bool:
    """Whether a value looks like samples: a list of dictionaries, or columns."""
    if isinstance(value, dict):
        return "features" in value
    return isinstance(value, (list, tuple)) and all(isinstance(each, dict) for each in value[:1])


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and name[:-1] in (*IDS, "split", "source", "generator") else name


def _text(value: Any) -> str | None:
    """Return a text or whole number as a name, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).strip()


def _flag(value: Any) -> bool:
    return bool(value.numbers().all()) if isinstance(value, Array) and not value.fault else bool(value)


def _kind(value: Any) -> str:
    if isinstance(value, Array):
        return f"an array {list(value.shape)}"
    name = type(value).__name__
    return "nothing" if value is None else with_article(name)


def _shown(value: Any) -> str:
    return repr(value)[:40]
