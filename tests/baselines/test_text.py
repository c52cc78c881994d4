from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from affect.baselines import text as text_baselines
from affect.errors import AffectError
from affect.metrics.regression import ccc, pearson

WORDS = ("the", "a", "door", "house", "went", "saw", "old", "blue", "river", "then")


def corpus(rows: int = 300, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return texts whose words good, bad (valence) and run (arousal) say the labels, and 10 documents."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows):
        mood, pace = random.integers(-1, 2), random.integers(0, 2)
        words = [*random.choice(WORDS, 6), *{-1: ["bad"], 0: [], 1: ["good"]}[int(mood)], *["run"] * int(pace)]
        texts.append(" ".join(random.permutation(words)))
        labels.append([3 + mood + random.normal(0, 0.2), 2.5 + pace + random.normal(0, 0.2)])
    return texts, np.array(labels), np.arange(rows) % 10


def test_words_are_learned() -> None:
    texts, y, documents = corpus()
    predicted = text_baselines.predict(texts[:200], y[:200], texts[200:], documents[:200])
    assert predicted.shape == (100, 2)
    assert min(ccc(predicted[:, k], y[200:, k]) for k in range(2)) > 0.75


def test_it_is_scikit_learns_with_a_penalty_of_the_grid() -> None:
    texts, y, documents = corpus()
    predicted = text_baselines.predict(texts[:200], y[:200, 0], texts[200:], documents[:200])
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = vectors.fit_transform(texts[:200])
    direct = [
        Ridge(alpha).fit(features, y[:200, 0]).predict(vectors.transform(texts[200:]))
        for alpha in text_baselines._ALPHAS
    ]
    assert predicted.shape == (100,)
    assert sum(np.allclose(values, predicted, atol=1e-8) for values in direct) == 1


def test_the_penalty_is_chosen_with_documents_left_out() -> None:
    # A word names the document and its mood; another is shared with the one document of the opposite mood, so that
    # what other documents teach is wrong: only leaving documents out shows that shrinking is best.
    random = np.random.default_rng(0)
    documents = np.repeat(np.arange(12), 20)
    y = np.where(documents % 2, 1.0, -1.0) + random.normal(0, 0.3, len(documents))
    texts = [f"name{document} style{document // 2} {random.choice(WORDS)}" for document in documents]
    new = [f"name{document} style{document // 2}" for document in range(12)]
    apart = text_baselines.predict(texts, y, new, documents)
    mixed = text_baselines.predict(texts, y, new, None)
    assert apart.std() < 0.8 * mixed.std()


def test_missing_targets_are_left_out_target_by_target() -> None:
    texts, y, documents = corpus()
    holes = y[:200].copy()
    holes[:40, 0] = np.nan
    predicted = text_baselines.predict(texts[:200], holes, texts[200:], documents[:200])
    whole = text_baselines.predict(texts[:200], y[:200], texts[200:], documents[:200])
    assert predicted[:, 1] == pytest.approx(whole[:, 1], abs=1e-12)
    assert not np.allclose(predicted[:, 0], whole[:, 0])
    assert pearson(predicted[:, 0], y[200:, 0]) > 0.85


def test_where_nothing_can_be_learned_the_mean_is_predicted(caplog: pytest.LogCaptureFixture) -> None:
    apart = [f"word{k}" for k in range(20)]
    y = np.arange(20.0)
    assert text_baselines.predict(apart, y, ["x", ""]) == pytest.approx([9.5, 9.5])
    assert caplog.text.count("no two texts share a word") == 1
    texts, _, _ = corpus(20)
    labels = np.stack([y, np.full(20, 2.0), np.where(y < 3, y, np.nan)], axis=1)
    predicted = text_baselines.predict(texts, labels, texts[:3])
    assert predicted[:, 1:] == pytest.approx(np.array([[2.0, 1.0]] * 3))
    assert "the mean of 2 targets: too few labels, or constant ones" in caplog.text


def test_a_held_out_document_with_all_of_a_targets_labels() -> None:
    texts, y, documents = corpus(60)
    y[documents != 3, 0] = np.nan
    predicted = text_baselines.predict(texts, y, texts[:5], documents)
    assert np.isfinite(predicted).all()


def test_bad_input_is_one_line() -> None:
    texts, y, _ = corpus(20)
    for arguments, message in (
        ((texts, y[:5], texts), "20 training rows, 20 test rows and targets .* do not fit"),
        (([], y[:0], texts), "0 training rows"),
        ((texts, y, []), "0 test rows"),
        ((texts, y, texts, [1, 2]), "2 groups for 20"),
        ((texts, np.full(20, np.nan), texts), "target 0 has no label"),
        ((texts, np.full(20, np.inf), texts), "infinite"),
    ):
        with pytest.raises(AffectError, match=message) as caught:
            text_baselines.predict(*arguments)
        assert "\n" not in str(caught.value)
