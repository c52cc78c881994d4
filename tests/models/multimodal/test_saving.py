"""Saving and loading fusion models."""

from __future__ import annotations

import json

import pytest
import torch

from affect.errors import AffectError
from affect.models.multimodal import CONFIG, WEIGHTS, build, load, save
from affect.models.multimodal.config import NAMES, MultimodalConfig
from tests.models.multimodal.streams import CLASSES, config, inputs


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_built_and_comes_back(name, tmp_path):
    torch.manual_seed(0)
    model = build(config(name, missing="token", normalise=True)).eval()
    assert model.config.name == name
    batch = inputs()
    model.standardise("audio", batch["audio"], batch["present"][:, 0])
    save(model, tmp_path / "new")
    again = load(tmp_path / "new")
    assert type(again) is type(model)
    assert again.config == model.config
    assert not again.training
    for key, value in model(**batch).items():
        assert torch.equal(value, again(**batch)[key])


@pytest.mark.parametrize("name", NAMES)
def test_models_differ_by_name(name):
    other = {"attention": "attention", "attention_robust": "attention", "topn": "topn"}.get(name, name)
    assert type(build(config(name))).__module__ == f"affect.models.multimodal.{other}"


def test_configuration_goes_through_json():
    before = config("attention_robust", missing="token", warmup=40, normalise=True, hidden=7)
    assert MultimodalConfig.from_dict(json.loads(json.dumps(before.to_dict()))) == before
    assert before.to_dict()["softmax"] == "plain"
    with pytest.raises(AffectError, match="no option 'hiden'.*'hidden'"):
        MultimodalConfig.from_dict({"hiden": 3})


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def change(path, **named):
    facts = json.loads(path.read_text())
    facts["multimodal"] |= named
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / WEIGHTS).unlink(), "model.safetensors is missing"),
        (lambda f: (f / CONFIG).unlink(), "config.json is missing"),
        (lambda f: cut(f / WEIGHTS), "cannot be read"),
        (lambda f: cut(f / CONFIG), "cannot be read"),
        (lambda f: (f / CONFIG).write_text("{}"), "does not describe a fusion model"),
        (lambda f: (f / CONFIG).write_text("[1]"), "does not describe a fusion model"),
        (lambda f: (f / CONFIG).write_text('{"multimodal": 3}'), "cannot be read"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "cannot be read"),
        (lambda f: change(f / CONFIG, hidden=9), "cannot be read.*size mismatch"),
        (lambda f: change(f / CONFIG, hidden="six"), "cannot be read"),
        (lambda f: change(f / CONFIG, streams=[["audio"]]), "cannot be read"),
        (lambda f: change(f / CONFIG, name="sum"), "cannot be read.*model.name"),
        (lambda f: change(f / CONFIG, missing="token"), "cannot be read.*tokens"),
        (lambda f: change(f / CONFIG, wings=2), "no option 'wings'"),
    ],
)
def test_damaged_and_foreign_folders_are_one_line(damage, words, tmp_path):
    save(build(config()), tmp_path)
    damage(tmp_path)
    with pytest.raises(AffectError, match=words) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_classes_come_back_in_their_order(tmp_path):
    save(build(config()), tmp_path)
    assert load(tmp_path).config.classes == CLASSES
