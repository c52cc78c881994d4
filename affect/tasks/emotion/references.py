"""The test part as trivial models predict it, beside which the network's scores are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from affect.baselines import classes as of_classes
from affect.baselines import features, text
from affect.task import Row
from affect.tasks.emotion.classes import Classes
from affect.tasks.emotion.config import EMOTION, Emotion
from affect.tasks.emotion.inputs import KEYS


def references(recipe: Emotion, parts: DatasetDict, classes: Classes | None) -> dict[str, list[Row]]:
    """Return the test rows as the mean, a ridge and an SVR on the functionals predict them, by predictor.

    A class is the most frequent one, or a ridge or support vector classifier's. Where the transcripts are used,
    `tfidf` is a ridge on their words; a corpus of texts has no functionals.
    """
    train, test = parts["train"], parts["test"]
    found: dict[str, list[Row]] = {}
    silent = not recipe.data.layout.has_audio
    x, new = (np.zeros((len(part), 1)) if silent else np.asarray(part["prosody"]) for part in (train, test))
    for name in ("mean",) if silent else features.NAMES:
        columns: dict[str, Any] = {}
        if recipe.numbers:
            values = features.predict(name, x, _labels(train, recipe), new, groups=train["speaker"])
            columns = {target: values[:, k].tolist() for k, target in enumerate(recipe.numbers)}
        if classes is not None:
            labels = [classes.name(emotion) for emotion in train["emotion"]]
            columns[EMOTION] = of_classes.predict(name, x, labels, new, groups=train["speaker"])
        found[name] = _rows(test, columns, recipe, classes)
    if recipe.model.text != "none" and recipe.numbers:
        values = text.predict(train["transcript"], _labels(train, recipe), test["transcript"], groups=train["dialogue"])
        columns = {target: values[:, k].tolist() for k, target in enumerate(recipe.numbers)}
        found["tfidf"] = _rows(test, columns, recipe, classes)
    return found


def _labels(part: Dataset, recipe: Emotion) -> Any:
    return np.stack([np.asarray(part[target], dtype=np.float64) for target in recipe.numbers], axis=1)


def _rows(test: Dataset, columns: dict[str, Any], recipe: Emotion, classes: Classes | None) -> list[Row]:
    rows: list[Row] = []
    held = test.select_columns(["id", *KEYS, *recipe.numbers, EMOTION])
    for k, row in enumerate(held):
        target: dict[str, Any] = {name: row[name] for name in recipe.numbers}
        if classes is not None:
            target[EMOTION] = classes.name(row[EMOTION])
        prediction = {name: values[k] for name, values in columns.items()}
        rows.append({"id": row["id"], "prediction": prediction, "target": target, **{key: row[key] for key in KEYS}})
    return rows
