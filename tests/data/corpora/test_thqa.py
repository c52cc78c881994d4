"""THQA as it is published: 16 pictures, 5 sentences each, 8 generators."""

from __future__ import annotations

import numpy as np

from affect.data import corpora
from affect.data.score_corpus import split, way


def test_thqa(real_data):
    corpus = corpora.read(corpora.SCORES, "thqa", real_data / "thqa")
    assert len(corpus.utterances) == 640 and corpus.features == {"clip": 24, "frames": 21}
    assert corpus.scores == {"Score": (0, 5)} and corpus.groups == ("source", "sentence", "generator")
    counts = {name: len(set(corpus.utterances[name])) for name in corpus.groups}
    assert counts == {"source": 16, "sentence": 80, "generator": 8} and corpus.exclusions == []
    scores = np.array(corpus.utterances["Score"])
    assert (scores.min(), scores.max()) == (0.1, 5.0)
    row = corpus.utterances[0]
    assert (row["id"], row["source"], row["generator"]) == ("1_voice_en_35042678_ahead", "1", "ahead")
    np.testing.assert_allclose(corpus.store.read("clip", 0)[0, [0, -1]], [44.64983469, 0.876270294], rtol=1e-6)
    frames = corpus.store.read("frames", 0)
    np.testing.assert_allclose(frames[:2, 0], [37.80194092, 42.22137451], rtol=1e-6)
    assert corpora.detect(real_data / "thqa") == "thqa"


def test_pictures_and_generators_are_held_out(real_data):
    corpus = corpora.read(corpora.SCORES, "thqa", real_data / "thqa", features=("clip",))
    how = way(corpus)
    assert (how.column, how.folds, way(corpus, "generator").folds) == ("source", 5, 8)
    sizes = [{part: len(rows) for part, rows in split(corpus, how, fold).items()} for fold in range(1, 6)]
    assert [each["test"] for each in sizes] == [160, 120, 120, 120, 120]
    assert all(sum(each.values()) == 640 and each["valid"] >= 80 for each in sizes)
