"""Saving and loading, of fusion models: what is damaged or does not belong together is one line."""

from __future__ import annotations

import json

import pytest
import torch

from affect import tasks
from affect.errors import AffectError
from affect.models.saving import CONFIG, WEIGHTS, save
from affect.tasks.multimodal_emotion.models import MODELS, build
from tests.tasks.multimodal_emotion.models.streams import config, inputs


def saved(spec, folder):
    model = build(*spec)
    save(model.state_dict(), {"task": "multimodal_emotion", **model.describe()}, folder)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_every_name_is_built_and_comes_back(name, tmp_path):
    torch.manual_seed(0)
    spec = config(name, missing="token", normalise=True)
    model = build(*spec).eval()
    batch = inputs()
    model.standardise("audio", batch["audio"], batch["present"][:, 0])
    save(model.state_dict(), {"task": "multimodal_emotion", **model.describe()}, tmp_path / "new")
    again = tasks.load(tmp_path / "new")
    assert type(again) is type(model)
    assert (again.config, again.data) == spec
    assert not again.training
    for key, value in model(**batch).items():
        assert torch.equal(value, again(**batch)[key])
    assert type(model) is MODELS[name]


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def change(path, section="model", **named):
    facts = json.loads(path.read_text())
    facts[section] |= named
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / WEIGHTS).unlink(), "model.safetensors is missing"),
        (lambda f: (f / CONFIG).unlink(), "config.json is missing"),
        (lambda f: cut(f / WEIGHTS), "cannot be read"),
        (lambda f: cut(f / CONFIG), "config.json is damaged"),
        (lambda f: (f / CONFIG).write_text("{}"), "names no task"),
        (lambda f: (f / CONFIG).write_text("[1]"), "names no task"),
        (lambda f: (f / CONFIG).write_text('{"task": "sums"}'), "cannot be read: unknown task 'sums'"),
        (lambda f: (f / CONFIG).write_text('{"task": "multimodal_emotion", "model": 3}'), "cannot be read"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "config.json is damaged"),
        (lambda f: change(f / CONFIG, hidden=9), "cannot be read.*of another shape"),
        (lambda f: change(f / CONFIG, hidden="six"), "cannot be read: model.hidden must be int"),
        (lambda f: change(f / CONFIG, "data", streams=[["audio"]]), "cannot be read"),
        (lambda f: change(f / CONFIG, name="sum"), "cannot be read: model.name"),
        (lambda f: change(f / CONFIG, missing="token"), "cannot be read.*tokens"),
        (lambda f: change(f / CONFIG, wings=2), "unknown field model.wings"),
    ],
)
def test_damaged_and_foreign_folders_are_one_line(damage, words, tmp_path):
    saved(config(), tmp_path)
    damage(tmp_path)
    with pytest.raises(AffectError, match=words) as caught:
        tasks.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
