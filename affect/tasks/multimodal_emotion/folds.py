"""The random folds of the training part, as the public toolkit cuts them, from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affect.errors import AffectError

Places = NDArray[np.intp]
_DRAW = 2023
"""Keeps the folds' random numbers apart from those of the plan."""


def split(places: Places, folds: int, seed: int) -> list[Places]:
    """Return the places [N] in as many folds, each in the corpus's order; what is left over goes to the last.

    Raises AffectError for fewer places than folds.
    """
    size = len(places) // folds
    if size < 1:
        raise AffectError(f"data.folds is {folds}, and the training part has {len(places)} utterances: give fewer")
    order = np.random.default_rng((seed, _DRAW)).permutation(places)
    bounds = [size * k for k in range(1, folds)]
    return [np.sort(part) for part in np.split(order, bounds)]


def check(
    labels: NDArray[np.int64], valence: NDArray[np.float32], classes: Sequence[str], fold: int, seed: int
) -> None:
    """Raise AffectError where a fold can't be judged: by `labels` [N] (-100: none) that lack a class, or no `valence`.

    Of `valence` [N] what is missing is NaN.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        raise AffectError(
            f"fold {fold} of seed {seed} has no utterance of the class {absent[0]}: "
            "give fewer data.folds, or more utterances (of a generated corpus, data.train)"
        )
    if np.isnan(valence).all():
        raise AffectError(f"fold {fold} of seed {seed} has no utterance with a valence: give fewer data.folds")
