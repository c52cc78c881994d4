"""A trivial predictor on texts, run on a fold beside the network to show what it adds.

Legend: N training rows, M test rows, K targets. Settings are chosen on training rows alone, by leaving documents out
and taking the best pooled CCC, as `features` does with speakers. Everything is deterministic.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from affect.baselines.features import group_numbers, held_out_parts, targets
from affect.metrics.regression import Floats, ccc

logger = logging.getLogger("affect")

_ALPHAS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25)
"""Penalties of the ridge, the most regular first: a text's features have length 1, so a few units shrink a lot."""

_FEWEST = 4
"""Labels of a target under which nothing is fitted."""


def predict(
    texts_train: Sequence[str], y_train: ArrayLike, texts_test: Sequence[str], groups: ArrayLike | None = None
) -> Floats:
    """Return the predictions of a ridge on words for `texts_test` [M]: [M] or [M, K] as `y_train` [N] or [N, K].

    Its features are the tf-idf of words and pairs of words that at least two training texts have, its penalty is chosen
    target by target with `groups` [N] (documents) kept apart; where words tell nothing it predicts the training mean.
    NaN targets are missing. Raises AffectError as `features.targets`.
    """
    texts, new = list(texts_train), list(texts_test)  # a column of a dataset reads the disk for each row
    given = targets("tfidf", y_train, len(texts), len(new))
    kinds = group_numbers("tfidf", groups, len(texts))
    y = given.reshape(len(given), -1)
    predicted = np.tile(np.nanmean(y, axis=0), (len(new), 1))
    features = _features(texts, new)
    if features is None:
        logger.warning("baseline tfidf predicts the mean: no two texts share a word")
        return predicted.reshape(len(new), *given.shape[1:])
    labelled = ~np.isnan(y)
    varied = [k for k in range(y.shape[1]) if labelled[:, k].sum() >= _FEWEST and np.ptp(y[labelled[:, k], k]) > 0]
    if left := y.shape[1] - len(varied):
        logger.warning("baseline tfidf predicts the mean of %d targets: too few labels, or constant ones", left)
    guesses = np.full((len(_ALPHAS), *y.shape), np.nan)
    for train, test in held_out_parts(kinds):
        part = _features([texts[row] for row in train], [texts[row] for row in test])
        for k in varied:
            for a, alpha in enumerate(_ALPHAS):
                guesses[a, test, k] = _fit(alpha, part, y[train, k])
    for k in varied:
        rows = labelled[:, k] & np.isfinite(guesses[:, :, k]).all(0)
        scores = [ccc(guess[rows, k], y[rows, k]) for guess in guesses]
        predicted[:, k] = _fit(_ALPHAS[int(np.argmax(scores))], features, y[:, k])
    return predicted.reshape(len(new), *given.shape[1:])


def _features(texts: Sequence[str], new: Sequence[str]) -> tuple[Any, Any] | None:
    """Return the tf-idf features of `texts` and of `new`, sparse; None where no two of `texts` share a word."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    try:
        return vectors.fit_transform(texts), vectors.transform(new)
    except ValueError:  # what scikit-learn raises for a vocabulary without words
        return None


def _fit(alpha: float, features: tuple[Any, Any] | None, y: Floats) -> Floats | float:
    """Return the predictions for the second features of a ridge fitted on the first; a part's mean without any."""
    labelled = np.flatnonzero(~np.isnan(y))
    if features is None or not labelled.size:
        return float(np.mean(y[labelled])) if labelled.size else float("nan")
    predicted: Floats = Ridge(alpha=alpha).fit(features[0][labelled], y[labelled]).predict(features[1])
    return predicted
