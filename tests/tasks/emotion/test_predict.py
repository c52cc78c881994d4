"""What a prediction rests on beside the weights."""

import logging

import pytest

from affect.data import prosody
from affect.tasks.emotion.predict import Average, Facts, Graph, Predictor
from affect.tasks.emotion.task import EmotionTask
from tests.tasks.emotion import small


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({"prosody_version": prosody.VERSION - 1}, True),
        ({"prosody_version": prosody.VERSION}, False),
        ({"prosody_version": prosody.VERSION - 1, "prosody_dim": 0, "text": "ngrams"}, False),
    ],
)
def test_functionals_of_another_version_are_warned_of(options, warned, caplog):
    graph = Graph(small.model(encoder="none", **options))
    with caplog.at_level(logging.WARNING, logger="affect"):
        Average([Predictor(graph, Facts.of(graph.model))], EmotionTask)
    words = f"version {prosody.VERSION - 1} of the functionals, version {prosody.VERSION} is computed here"
    assert (words in caplog.text) == warned
