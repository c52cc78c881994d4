"""Tasks by name: those of affect, and those that other packages bring as entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from affect import tasks
from affect.errors import AffectError
from tests.training.toy_task import ToyRecipe, ToyTask, recipe


@pytest.fixture
def toy(monkeypatch):
    """Let a package be installed that brings the toy task."""
    found = EntryPoints([EntryPoint("toy", "tests.training.toy_task:ToyTask", tasks.GROUP)])
    monkeypatch.setattr(tasks, "entry_points", lambda **named: found.select(**named))


def test_a_task_of_another_package_is_made_from_its_recipe(toy):
    assert tasks.names() == sorted([*tasks.TASKS, "toy"])
    assert tasks.task_class("toy") is ToyTask
    assert type(tasks.make(recipe())) is ToyTask
    data = recipe(better="lower", train={"average_best": 3}).to_dict()
    assert tasks.read_recipe(data) == recipe(better="lower", train={"average_best": 3})
    assert isinstance(tasks.read_recipe(data), ToyRecipe)


def test_a_task_that_no_package_brings_is_one_line(toy):
    with pytest.raises(AffectError, match="^unknown task 'toyy'; did you mean 'toy'"):
        tasks.task_class("toyy")


def test_a_task_says_the_least_and_the_rest_has_a_default():
    task = ToyTask(recipe())
    assert task.folds() == [1]
    assert task.for_fold(3, 1).recipe.seed == 3
    assert [one.name for one in super(ToyTask, task).evaluations()] == ["train", "valid", "dark"]
    assert (task.weighting(), task.aggregator(), task.baselines(), task.describe()) == (None, None, {}, {})
    model = task.build_model()
    groups = {group["name"]: group for group in task.param_groups(model)}
    assert groups["not_decayed"]["weight_decay"] == 0.0
    assert sum(p.numel() for group in groups.values() for p in group["params"]) == sum(
        p.numel() for p in model.parameters()
    )
    batch = task.collate([task.datasets()["dark"][k] for k in range(2)], None)
    rows = task.predict(model.eval(), batch)
    assert [row["id"] for row in rows] == list(batch.ids)
    assert set(rows[0]["prediction"]) == {"valence", "arousal", "smile", "speaker", "label"}
    for name, value in task.average([rows, rows])[0]["prediction"].items():
        assert value == pytest.approx(rows[0]["prediction"][name]), name
