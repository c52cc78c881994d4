"""The mean of several members' predictions: rows by utterance, and arrays of what they say under test conditions.

Legend: N utterances, C classes.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError, first_line
from affect.metrics.emotion import softmax
from affect.task import Row

CONDITIONS = "conditions.npz"
"""What a run's best weights make of inputs under other conditions, in its folder."""
Arrays = dict[str, NDArray[Any]]

_ATTENTION = "attention"
_AVERAGED = ("logits", "valence", _ATTENTION)
"""Of a part's arrays those that a model says; the others say what it was asked."""


def combine(members: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Return the members' mean rows, by id, in the order of the first.

    Numbers are averaged. A class is the one of the highest mean logit where rows have `logits`, and its probability
    the softmax of their mean (the public protocol of MER2023); else probabilities are averaged. Attention is averaged
    where all members have it. Raises AffectError naming the first id or label in which members differ.
    """
    aligned = _aligned(members)
    first, *_ = aligned
    for member, rows in aligned.items():
        for ours, theirs in zip(aligned[first], rows, strict=True):
            _agree(first, ours, member, theirs)
    logits = _logits(aligned)
    mixed = []
    for place, row in enumerate(aligned[first]):
        same = {member: rows[place] for member, rows in aligned.items()}
        kept = {name: value for name, value in row.items() if name != _ATTENTION}
        mixed.append({**kept, **_mean(same, None if logits is None else logits[place]), **_attention(same)})
    return mixed


def _aligned(members: Mapping[str, Sequence[Row]]) -> dict[str, Sequence[Row]]:
    """Return each member's rows in the order of the first's."""
    (first, rows), *others = members.items()
    aligned = {first: rows}
    for member, theirs in others:
        found, ids = {row["id"]: row for row in theirs}, {row["id"] for row in rows}
        alone = [(first, i) for i in ids - found.keys()] + [(member, i) for i in found.keys() - ids]
        if alone:
            owner, name = min(alone, key=lambda pair: pair[1])
            raise AffectError(f"{first} and {member} predict different utterances: {name} is in {owner} alone")
        aligned[member] = [found[row["id"]] for row in rows]
    return aligned


def _agree(first: str, row: Row, member: str, other: Row) -> None:
    names = [*dict.fromkeys((*row["target"], *other["target"], *row["prediction"], *other["prediction"]))]
    for name in names:
        if (name in row["prediction"]) != (name in other["prediction"]):
            owner = first if name in row["prediction"] else member
            raise AffectError(f"{first} and {member} predict different targets: {name} is in {owner} alone")
        ours, theirs = row["target"].get(name), other["target"].get(name)
        if ours != theirs and not (_missing(ours) and _missing(theirs)):
            raise AffectError(f"{row['id']}: its {name} is {ours} in {first} and {theirs} in {member}")
    if row.get("present") != other.get("present"):
        raise AffectError(
            f"{row['id']}: {first} was given the modalities {row.get('present')} and {member} {other.get('present')}: "
            "take members that read the same modalities"
        )


def _logits(aligned: Mapping[str, Sequence[Row]]) -> NDArray[np.float64] | None:
    """Return the mean logits [N, C], None where no member has any."""
    lacking = [member for member, rows in aligned.items() if any("logits" not in row for row in rows)]
    if len(lacking) == len(aligned):
        return None
    if lacking:
        raise AffectError(f"{lacking[0]} gives no logits, of which the mean is taken: run it again")
    found: NDArray[np.float64] = np.mean(
        [np.array([row["logits"] for row in rows], np.float64) for rows in aligned.values()], axis=0
    )
    return found


def _mean(same: Mapping[str, Row], logits: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return `prediction` (of classes `probability` and `logits`) averaged over rows of one utterance."""
    rows = list(same.values())
    prediction: dict[str, Any] = {}
    probability: dict[str, dict[str, float]] = {}
    for name, value in rows[0]["prediction"].items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            prediction[name] = float(np.mean([row["prediction"][name] for row in rows]))
            continue
        classes = _classes(same, name, ordered=logits is not None)
        if logits is None:
            shares = [float(np.mean([row["probability"][name][c] for row in rows])) for c in classes]
        else:
            shares = softmax(logits).tolist()
        probability[name] = dict(zip(classes, shares, strict=True))
        prediction[name] = classes[int(np.argmax(shares if logits is None else logits))]
    found: dict[str, Any] = {"prediction": prediction, **({"probability": probability} if probability else {})}
    return found if logits is None else {**found, "logits": logits.tolist()}


def _classes(same: Mapping[str, Row], name: str, *, ordered: bool) -> list[str]:
    """Return the classes that all members choose from, where `ordered` in the same order: that of their logits."""
    first, *_ = same
    for member, row in same.items():
        if name not in row.get("probability", {}):
            raise AffectError(f"{member} gives no probability of {name}, of which the mean is taken")
        ours, theirs = list(same[first]["probability"][name]), list(row["probability"][name])
        if set(ours) != set(theirs):
            raise AffectError(f"{first} and {member} have different classes of {name}")
        if ordered and ours != theirs:
            raise AffectError(f"{first} and {member} have the classes of {name} in different orders")
    return list(same[first]["probability"][name])


def _attention(same: Mapping[str, Row]) -> dict[str, dict[str, float]]:
    """Return the mean attention; none where a member has none, or of other modalities."""
    found = [row.get(_ATTENTION) for row in same.values()]
    names = found[0].keys() if found[0] else ()
    if not names or any(one is None or one.keys() != names for one in found):
        return {}
    return {_ATTENTION: {name: float(np.mean([one[name] for one in found if one])) for name in names}}


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def conditions(folders: Mapping[str, Path]) -> Arrays:
    """Return the mean of the arrays that members' run folders hold of test conditions; none where no member has any.

    Raises AffectError for a file that is missing or can't be read, and where members differ in what was asked of them.
    """
    paths = {member: folder / CONDITIONS for member, folder in folders.items()}
    lacking = [path for path in paths.values() if not path.is_file()]
    if len(lacking) == len(paths):
        return {}
    if lacking:
        raise AffectError(f"{lacking[0]} is missing, and other members have theirs: run it again")
    return combine_arrays({member: _read(path) for member, path in paths.items()})


def _read(path: Path) -> Arrays:
    try:
        # Without pickles: reading a file never runs what is in it.
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise AffectError(f"{path} can't be read ({first_line(error)}): run it again") from error


def combine_arrays(members: Mapping[str, Arrays]) -> Arrays:
    """Return the mean `logits`, `valence` and `attention` of each part, and the other arrays as they all have them.

    Attention is left out where a member has none, or of other modalities. Raises AffectError naming the first array
    and place in which members differ.
    """
    (first, ours), *others = members.items()
    attention = {name for name in ours if _kind(name) == _ATTENTION}
    attention = {name for name in attention if len({a[name].shape if name in a else () for a in members.values()}) == 1}
    for member, theirs in others:
        names = [name for name in dict.fromkeys((*ours, *theirs)) if _kind(name) != _ATTENTION]
        for name in names:
            if name not in ours or name not in theirs:
                owner = first if name in ours else member
                raise AffectError(f"{CONDITIONS} of {first} and {member} differ: {name} is in {owner}'s alone")
            _same(name, first, ours[name], member, theirs[name])
    mixed: Arrays = {}
    for name, array in ours.items():
        if _kind(name) not in _AVERAGED:
            mixed[name] = array
        elif _kind(name) != _ATTENTION or name in attention:
            mean = np.mean([arrays[name].astype(np.float64) for arrays in members.values()], axis=0)
            mixed[name] = mean.astype(array.dtype)
    return mixed


def _kind(name: str) -> str:
    """Return what an array of a part is, of `test1/logits` the logits."""
    return name.partition("/")[2]


def _same(name: str, first: str, ours: NDArray[Any], member: str, theirs: NDArray[Any]) -> None:
    """Raise AffectError where arrays differ in shape, or those that say what was asked in a value."""
    if ours.shape != theirs.shape:
        shapes = f"has the shape {list(ours.shape)} in {first} and {list(theirs.shape)} in {member}"
        raise AffectError(f"{CONDITIONS}: {name} {shapes}")
    differs = np.argwhere(ours != theirs) if _kind(name) not in _AVERAGED else np.empty(0)
    if len(differs):
        place = tuple(differs[0].tolist())
        raise AffectError(
            f"{CONDITIONS}: {name}{list(place)} is {ours[place]} in {first} and {theirs[place]} in {member}"
        )
