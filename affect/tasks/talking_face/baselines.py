"""What trivial models say of a fold's test clips: the mean, the generator's mean, a ridge and a forest.

Legend: N training clips, M test clips, D features, K scores.
"""

from __future__ import annotations

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from affect.baselines import scores as baselines
from affect.task import Row
from affect.tasks.talking_face.clips import Clips
from affect.tasks.talking_face.measures import GENERATOR, SOURCES

Floats = NDArray[np.float64]
_KINDS, _FITTED = "kind_mean", ("ridge", "forest")


def predicted(clips: Clips, train: Dataset, test: Dataset) -> dict[str, list[Row]]:
    """Return the rows of `test` by the name of the model.

    The generator's mean is only there where clips name theirs, the ridge and the forest where there are features or the
    clips themselves.
    """
    named = GENERATOR in clips.groups
    kinds = [list(part[GENERATOR]) if named else None for part in (train, test)]
    own = next((list(train[name]) for name in SOURCES if name in clips.groups), None)
    x, new = pooled(clips, train), pooled(clips, test)
    labels = np.array([train[score] for score in clips.scores], np.float64).T
    targets = np.array([test[score] for score in clips.scores], np.float64).T.tolist()
    by_model = {}
    for name in baselines.NAMES:
        if (name == _KINDS and not named) or (name in _FITTED and not x.shape[1]):
            continue
        facts = {"groups": own, "kinds_train": kinds[0], "kinds_test": kinds[1]}
        values = baselines.predict(name, x, labels, new, **facts).tolist()
        by_model[f"{GENERATOR}_mean" if name == _KINDS else name] = [
            {"id": row["id"], "prediction": dict(zip(clips.scores, value, strict=True)),
             "target": dict(zip(clips.scores, target, strict=True)), **{group: row[group] for group in clips.groups}}
            for row, value, target in zip(test, values, targets, strict=True)
        ]  # fmt: skip
    return by_model


def pooled(clips: Clips, part: Dataset) -> Floats:
    """Return the mean frames of all features, and clips' own functionals, side by side [N, D]; NaN: it lacks that."""
    columns = [
        baselines.pooled([clips.frames(row, name) for row in part["row"]], width) for name, width in clips.features
    ]
    return np.concatenate([*columns, clips.functionals(list(part))], axis=1)
