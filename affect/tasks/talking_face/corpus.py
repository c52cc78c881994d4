"""A recipe's corpus, and which of its clips train, validate and are tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from affect.errors import AffectError, nearest
from affect.tasks.talking_face.config import Data

if TYPE_CHECKING:
    from affect.data.score_corpus import ScoreCorpus

PARTS = ("train", "valid", "test")
FILE = "file"
GENERATOR = "generator"


def kind_of(corpus: ScoreCorpus, data: Data) -> str:
    """Return what is held out: `file` (the parts that the file says) or the column whose groups are.

    Raises AffectError for a split that the corpus does not have.
    """
    known = [*([FILE] if any(corpus.rows["part"]) else []), *corpus.groups]
    if data.split == "auto":
        usual = [name for name in (FILE, "identity", "source") if name in known]
        if not usual:
            raise AffectError(f"{data.root} has neither parts nor identity or source to hold out: name a data.split")
        return usual[0]
    if data.split not in known:
        raise AffectError(f"data.split {data.split!r} is not in {data.root}; {nearest(data.split, known)}")
    return data.split


def folds_of(corpus: ScoreCorpus, data: Data) -> int:
    """Return how many folds the recipe's split has. Raises AffectError where there are too few groups."""
    kind = kind_of(corpus, data)
    if kind == FILE:
        return 1
    groups = len(set(corpus.rows[kind]))
    count = groups if kind == GENERATOR else data.folds
    if groups < count or count < 3:
        raise AffectError(f"{data.root}: column {kind} has {groups} groups, too few for {max(3, count)} folds")
    return count


def parts_of(corpus: ScoreCorpus, data: Data) -> DatasetDict:
    """Return the clips of train, valid and test; a file's test part may be absent.

    Of groups a fold is tested, the next one (cyclically) validates and the others train. Raises AffectError where there
    is no such fold, a part has no clip, or train and valid lack a label of a score.
    """
    count, fold = folds_of(corpus, data), data.fold or 1
    if fold > count:
        raise AffectError(f"data.fold is {fold}, and there are folds 1 to {count}")
    kind = kind_of(corpus, data)
    if kind == FILE:
        names = np.asarray(corpus.rows["part"])
    else:
        folds = balanced(np.asarray(corpus.rows[kind]), count)
        names = np.select([folds == fold - 1, folds == fold % count], ["test", "valid"], "train")
    parts = {name: corpus.rows.select(np.flatnonzero(names == name)) for name in PARTS if (names == name).any()}
    for name in ("train", "valid"):
        _require_labels(parts.get(name), name, data)
    return DatasetDict(parts)


def balanced(groups: NDArray[np.str_], count: int) -> NDArray[np.intp]:
    """Return the fold [N] of each row: the largest group goes to the emptiest fold first, as GroupKFold has it."""
    names, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fold, filled = np.zeros(len(names), np.intp), np.zeros(count, np.intp)
    for group in np.argsort(sizes, kind="stable")[::-1]:
        fold[group] = filled.argmin()
        filled[fold[group]] += sizes[group]
    chosen: NDArray[np.intp] = fold[place]
    return chosen


def _require_labels(part: Dataset | None, name: str, data: Data) -> None:
    if part is None:
        raise AffectError(f"{data.root} has no clip in the part {name}")
    for score in data.scores:
        if np.isnan(np.asarray(part[score], np.float64)).all():
            raise AffectError(f"{data.root}: no clip of the part {name} has a {score}: leave it out of data.scores")
