"""Of every task: what labels don't define is NaN, which is the best of nothing, and stops nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from affect import tasks
from affect.recipe import Recipe
from affect.training.run_state import State, judge

MADE = [tasks.make(tasks.task_class(name).recipe_class()) for name in tasks.TASKS]
CORRELATIONS = ("ccc", "pearson", "srcc", "krcc", "plcc", "r2", "quality", "mean")


def rows(task, value):
    """Rows that all have the label `value` (None: none), and predictions that differ."""
    targets = {m.name.partition("_")[2] for m in task.measures if m.name.startswith(("pearson", "rmse", "ccc", "mse"))}
    return [
        {"id": str(k), "speaker": "s", "prediction": {name: 1.0 + k for name in targets},
         "target": dict.fromkeys(targets, value)}
        for k in range(4)
    ]  # fmt: skip


@pytest.mark.parametrize("task", MADE, ids=lambda task: task.recipe_class.task)
def test_no_label_is_no_score(task):
    """0 would be the best of all errors, and the worst of all correlations."""
    for measure in task.measures:
        assert math.isnan(measure.score([])), measure.name


@pytest.mark.parametrize("value", [2.0, None])
@pytest.mark.parametrize("task", MADE, ids=lambda task: task.recipe_class.task)
def test_constant_labels_define_no_correlation(task, value):
    for measure in task.measures:
        if measure.name.startswith(CORRELATIONS):
            assert math.isnan(measure.score(rows(task, value))), measure.name


def test_an_undefined_score_is_the_best_of_nothing():
    state, recipe = State(), Recipe()
    for epoch, (score, better) in enumerate([(math.nan, False), (-0.2, True), (math.nan, False), (-0.1, True)]):
        state.step += 1
        assert judge(state, score, 1, epoch, recipe)[0] == better
    assert np.isclose(state.best, -0.1) and state.best_step == 4
