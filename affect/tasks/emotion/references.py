"""The test part as trivial models predict it, beside which the network's scores are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import DatasetDict

from affect.baselines import classes as of_classes
from affect.baselines import features, text
from affect.task import Row
from affect.tasks.emotion.config import EMOTION, Emotion
from affect.tasks.emotion.corpus import Classes
from affect.tasks.emotion.inputs import KEYS


def references(recipe: Emotion, parts: DatasetDict, classes: Classes | None) -> dict[str, list[Row]]:
    """Return the test rows as the mean, a ridge and an SVR on the functionals predict them, by predictor.

    A class is the most frequent one, or a ridge or support vector classifier's. Where the transcripts are used,
    `tfidf` is a ridge on their words; a corpus of texts has no functionals.
    """
    train, test, numbers = parts["train"], parts["test"], recipe.numbers
    heard = recipe.data.layout.has_audio
    x, new = (np.asarray(part["prosody"]) if heard else np.zeros((len(part), 1)) for part in (train, test))
    labels = np.array([np.asarray(train[target], dtype=np.float64) for target in numbers]).T
    predicted: dict[str, dict[str, Any]] = {}
    for name in features.NAMES if heard else ("mean",):
        columns = predicted[name] = {}
        if numbers:
            values = features.predict(name, x, labels, new, groups=train["speaker"])
            columns |= zip(numbers, values.T.tolist(), strict=True)
        if classes is not None:
            known = [classes.name(emotion) for emotion in train["emotion"]]
            columns[EMOTION] = of_classes.predict(name, x, known, new, groups=train["speaker"])
    if recipe.model.text != "none" and numbers:
        values = text.predict("tfidf", train["transcript"], labels, test["transcript"], groups=train["dialogue"])
        predicted["tfidf"] = dict(zip(numbers, values.T.tolist(), strict=True))
    rows = []
    for row in test.select_columns(["id", *KEYS, *numbers, EMOTION]):
        target = {name: row[name] for name in numbers}
        if classes is not None:
            target[EMOTION] = classes.name(row[EMOTION])
        rows.append({"id": row["id"], "prediction": {}, "target": target, **{key: row[key] for key in KEYS}})
    return {
        name: [row | {"prediction": {t: values[k] for t, values in columns.items()}} for k, row in enumerate(rows)]
        for name, columns in predicted.items()
    }
