"""What training sees is training's: no row of another part, no augmentation of one, no statistics of one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from affect import tasks
from affect.task import Key
from affect.tasks.emotion.config import Augment
from affect.training import trainer
from tests.tasks.emotion.test_variants import variant
from tests.training import runs


def test_partners_of_mixup_are_training_rows(small_corpus):
    task = tasks.make(variant(small_corpus, "augmented")).for_fold(0, 1)
    training = set(task.datasets()["train"]["id"])
    names = {task.inputs.partner(name, Key(seed=0, epoch=e))["id"] for e in range(12) for name in training}
    assert names <= training
    assert len(names) > 20, "and all of them"


@pytest.mark.parametrize("part", ["valid", "test"])
def test_evaluation_hears_recordings_as_they_are(small_corpus, tmp_path, part):
    recipe = variant(small_corpus, "augmented")
    # Loud enough that a single augmented row would show.
    recipe = replace(recipe, augment=Augment(noise=(0.0, 1.0), gain=10.0, mixup=1.0))
    folder = tmp_path / "seed0" / "fold1"
    run = runs.make(recipe, folder)
    trainer.train(run)
    model = tasks.load(folder / "checkpoints" / "best")
    rows = [run.parts[part][k] for k in range(len(run.parts[part]))]
    with torch.no_grad():
        plain = run.task.rows(model(**(batch := run.task.collate(rows, None)).inputs), batch)
    written = [json.loads(line) for line in (folder / f"predictions-{part}.jsonl").read_text().splitlines()]
    for mine, theirs in zip(plain, written, strict=True):
        assert mine["id"] == theirs["id"]
        assert mine["prediction"] == pytest.approx(theirs["prediction"], abs=1e-4)


def test_prosody_is_standardised_by_training_rows_alone(small_corpus):
    task = tasks.make(runs.recipe(small_corpus)).for_fold(0, 1)
    values = np.asarray(task.parts["train"]["prosody"], dtype=np.float64)
    prosody = task.build_model().prosody
    np.testing.assert_allclose(prosody.mean.numpy(), values.mean(0), rtol=1e-4, atol=1e-5)
    spread = values.std(0)
    varied = spread > 1e-6
    np.testing.assert_allclose(prosody.deviation.numpy()[varied], spread[varied], rtol=1e-4)


def test_each_setting_has_states_of_its_own(small_corpus, tmp_path, monkeypatch):
    """Layers, pooling, precision, weights: what the states depend on is in their key."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    base = runs.recipe(small_corpus, encoder="tiny")
    frozen = replace(base.model, train_encoder="none", cache="float16")
    folders = []
    for seed, model in (
        (0, frozen),
        (0, replace(frozen, cache="float32")),
        (0, replace(frozen, layers=1)),
        (0, replace(frozen, layers="weighted")),
        (0, replace(frozen, pooling="attention")),
        (0, replace(frozen, encoder="tiny-group")),
        (1, frozen),
    ):
        task = tasks.make(replace(base, model=model)).for_fold(0, 1)
        torch.manual_seed(seed)
        task.on_train_start(task.build_model(), 0, 1)
        folders.append(task.inputs.prepared.stores["states"].folder)
    assert len(set(folders)) == len(folders)


def test_a_spectrogram_can_be_cached_too(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    base = runs.recipe(small_corpus)
    outputs = []
    for cache in ("none", "float32"):
        model = replace(base.model, train_encoder="none", cache=cache, encoder="mel", encoder_dropout=None)
        task = tasks.make(replace(base, model=model)).for_fold(0, 1)
        torch.manual_seed(0)
        built = task.build_model().eval()
        task.on_train_start(built, 0, 1)
        part = task.datasets()["test"]
        with torch.no_grad():
            outputs.append(built(**task.collate([part[k] for k in range(3)], None).inputs)["valence"])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)
