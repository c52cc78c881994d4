"""The predicted utterances of a part as arrays.

Legend: N utterances, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.metrics.regression import Floats
from affect.report.runs import Record

Names = NDArray[np.str_]
Places = NDArray[np.int64]
_SAME = 1e-6


@dataclass(frozen=True)
class Rows:
    """Utterances by id, in order, with what one model (or the mean of several) says of them and what they are.

    `ids` [N], `logits` [N, C], `valence` [N], `label` [N] (place of the class, -1: none), `rated` [N] (valence as it
    was rated, NaN: none).
    """

    ids: Names
    logits: Floats
    valence: Floats
    label: Places
    rated: Floats

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def emotion(self) -> Places:
        """The place of the predicted class [N], the first of equal ones; -1 where a logit is no number."""
        if not len(self):
            return np.zeros(0, np.int64)
        known = np.isfinite(self.logits).sum(axis=1) == self.logits.shape[1]
        found: Places = np.where(known, np.where(known[:, None], self.logits, 0.0).argmax(1), -1)
        return found

    def at(self, places: NDArray[Any]) -> Rows:
        """Return some of the utterances, by their places or a mask."""
        return Rows(self.ids[places], self.logits[places], self.valence[places], self.label[places], self.rated[places])

    def of(self, ids: Names) -> Rows:
        """Return the utterances that `ids` [M] name, of those that are there."""
        return self.at(np.isin(self.ids, ids))

    def said(self, ids: Names, logits: Floats, valence: Floats) -> Rows:
        """Return what another model says of those utterances that both have."""
        order = np.argsort(ids, kind="stable")
        _, mine, theirs = np.intersect1d(self.ids, ids[order], assume_unique=True, return_indices=True)
        kept, theirs = self.at(mine), order[theirs]
        return Rows(
            kept.ids, logits[theirs].astype(np.float64), valence[theirs].astype(np.float64), kept.label, kept.rated
        )


def rows_from(records: Mapping[str, Record], classes: Sequence[str], *, votes: bool = False) -> Rows:
    """Return rows of predictions as arrays, by id; `votes` takes a named class for logits where there are none."""
    place = {name: i for i, name in enumerate(classes)}
    ids = sorted(records)
    logits = np.full((len(ids), len(classes)), math.nan)
    valence, rated = np.full(len(ids), math.nan), np.full(len(ids), math.nan)
    label = np.full(len(ids), -1, np.int64)
    for i, name in enumerate(ids):
        record = records[name]
        given = record.get("logits")
        if isinstance(given, list) and len(given) == len(classes):
            logits[i] = [value if isinstance(value, int | float) else math.nan for value in given]
        elif votes and (chosen := record["prediction"].get("emotion")) in place:
            logits[i] = np.eye(len(classes))[place[chosen]]
        valence[i] = _number(record["prediction"].get("valence"))
        rated[i] = _number(record["target"].get("valence"))
        label[i] = place.get(record["target"].get("emotion"), -1)
    return Rows(np.array(ids, np.str_), logits, valence, label, rated)


def strangers(records: Mapping[str, Record], classes: Sequence[str]) -> list[str]:
    """Return the emotions in labels that are none of the classes, by name."""
    labels = {record["target"].get("emotion") for record in records.values()}
    return sorted(name for name in labels if isinstance(name, str) and name not in classes)


def mean(models: Sequence[Rows]) -> Rows:
    """Return the mean of raw logits and of valences of several models, for the utterances that all of them have."""
    shared = reduce(np.intersect1d, [rows.ids for rows in models])
    cut = [rows if len(rows) == len(shared) else rows.of(shared) for rows in models]
    logits = np.mean([rows.logits for rows in cut], axis=0)
    valence = np.mean([rows.valence for rows in cut], axis=0)
    return Rows(cut[0].ids, logits, valence, cut[0].label, cut[0].rated)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the utterances of several parts together, in the order of their ids."""
    ids, logits, valence, label, rated = (
        np.concatenate([getattr(rows, name) for rows in parts])
        for name in ("ids", "logits", "valence", "label", "rated")
    )
    return Rows(ids, logits, valence, label, rated).at(np.argsort(ids, kind="stable"))


def same_labels(first: Rows, second: Rows) -> bool:
    """Tell whether two models' utterances bear equal labels where they share them."""
    _, a, b = np.intersect1d(first.ids, second.ids, assume_unique=True, return_indices=True)
    rated = np.isclose(first.rated[a], second.rated[b], atol=_SAME, equal_nan=True)
    return bool((first.label[a] == second.label[b]).all() and rated.all())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
