"""A task that no file of affect names: trained, pushed and loaded by its tag."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from affect import tasks
from affect.experiments import folds
from affect.hub import from_pretrained, push
from affect.options import Options
from affect.recipe import Train
from tests.third.config import Activity, Model
from tests.third.model import FrameModel


def test_a_run_of_a_third_task_is_pushed_and_loaded(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "activity", "tests.third.task:ActivityTask")
    train = Train(batch=8, epochs=1, workers=0, trackers=(), budget=1000.0)
    recipe = Activity(model=Model(hidden=4), train=train)
    top = folds.run("frames", recipe, Options(runs=tmp_path / "runs", report=False), "a command")
    push.run(top / "seed0" / "fold1", "someone/frames")
    files = hub.repos["someone/frames"].files
    assert json.loads(files["config.json"])["task"] == "activity"
    card = files["README.md"].decode()
    assert "A model of activity, trained on made-up recordings" in card
    assert "affect predict" not in card, "its card names no program of its own"
    model = from_pretrained("someone/frames")
    assert isinstance(model, FrameModel)
    assert model(torch.zeros(1, 2, 5))["active"].shape == (1, 2)
    start = replace(recipe, train=replace(train, init_from="someone/frames"))
    weights = folds.initial_weights(start, 0, 1)
    assert weights is not None and weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
