"""Of every task: what labels don't define is NaN, which is the best of nothing, and stops nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affect.recipe import Recipe
from affect.tasks import make
from affect.tasks.diarization.config import Diarization
from affect.tasks.emotion.config import Emotion
from affect.tasks.multimodal_emotion.config import MultimodalEmotion
from affect.tasks.talking_face.config import TalkingFace
from affect.training.run_state import State, judge

TASKS = [
    Emotion(), Emotion(targets=("valence", "arousal", "dominance", "emotion")), Emotion(targets=("emotion",)),
    MultimodalEmotion(), TalkingFace(), Diarization(),
]  # fmt: skip
CORRELATIONS = ("ccc", "pearson", "srcc", "krcc", "plcc", "r2", "quality", "mean")


def rows(task, targets, value):
    """Rows that all have the label `value` (None: none), and predictions that differ."""
    return [
        {
            "id": str(k),
            "speaker": "s",
            "prediction": {name: 1.0 + k for name in targets},
            "target": dict.fromkeys(targets, value),
        }
        for k in range(4)
    ]


@pytest.mark.parametrize("recipe", TASKS, ids=lambda recipe: f"{recipe.task}-{len(getattr(recipe, 'targets', ()))}")
def test_no_label_is_no_score(recipe):
    """0 would be the best of all errors, and the worst of all correlations."""
    for measure in make(recipe).measures:
        assert math.isnan(measure.score([])), measure.name


@pytest.mark.parametrize("value", [2.0, None])
@pytest.mark.parametrize("recipe", [Emotion(), TalkingFace()], ids=lambda recipe: recipe.task)
def test_constant_labels_define_no_correlation(recipe, value):
    task = make(recipe)
    targets = [
        measure.name.partition("_")[2] for measure in task.measures if measure.name.startswith(("pearson", "rmse"))
    ]
    for measure in task.measures:
        if measure.name.startswith(CORRELATIONS):
            assert math.isnan(measure.score(rows(task, set(targets), value))), measure.name


def test_an_undefined_score_is_the_best_of_nothing():
    state, recipe = State(), Recipe()
    for epoch, (score, better) in enumerate([(math.nan, False), (-0.2, True), (math.nan, False), (-0.1, True)]):
        state.step += 1
        assert judge(state, score, 1, epoch, recipe)[0] == better
    assert np.isclose(state.best, -0.1) and state.best_step == 4
