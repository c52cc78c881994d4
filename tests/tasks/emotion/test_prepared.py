"""The cached states of a frozen encoder: right, safe, and what they are for: fast epochs."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from affect import tasks
from affect.errors import AffectError
from affect.models.extractors.loading import fingerprint
from affect.recipe import Train
from affect.tasks.emotion.config import Augment
from affect.training import trainer
from tests.training import runs


def recipe(root, cache="float32", **model):
    base = runs.recipe(root, encoder="tiny")
    return replace(base, model=replace(base.model, train_encoder="none", cache=cache, **model))


@pytest.mark.parametrize(("pooling", "layers"), [("mean", "last"), ("attention", "weighted"), ("mean", "weighted")])
def test_cached_states_give_what_the_waveform_gives(small_corpus, tmp_path, monkeypatch, pooling, layers):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    outputs = []
    for cache in ("none", "float32", "float16"):
        task = tasks.make(recipe(small_corpus, cache, pooling=pooling, layers=layers)).for_fold(0, 1)
        torch.manual_seed(0)
        model = task.build_model().eval()
        task.on_train_start(model, 0, 1)
        part = task.datasets()["test"]
        batch = task.collate([part[k] for k in range(4)], None)
        assert ("states" in batch.inputs) == (cache != "none")
        with torch.no_grad():
            outputs.append(model(**batch.inputs)["valence"])
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs[0], outputs[2], atol=1e-3, rtol=0)


def test_shares_of_several_processes_make_a_whole_and_damage_is_mended(small_corpus, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    caplog.set_level("INFO", logger="affect")
    task = tasks.make(recipe(small_corpus)).for_fold(0, 1)
    torch.manual_seed(0)
    model = task.build_model()
    for rank in (1, 0):
        task.on_train_start(model, rank, 2)
    rows = task.corpus.utterances
    store = task.inputs.prepared.stores["states"]
    assert store.missing(rows["digest"]) == []
    assert "MB" in caplog.text
    whole = store.read(rows[0]["digest"]).copy()
    path = Path(store.path(rows[0]["digest"]))
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(data)
    task.on_train_start(model, 0, 1)
    # Encoded in another company than before, so rounded differently.
    assert np.allclose(store.read(rows[0]["digest"]), whole, atol=1e-5)


def test_other_weights_have_states_of_their_own(small_corpus):
    task = tasks.make(recipe(small_corpus)).for_fold(0, 1)
    hashes = set()
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        hashes.add(fingerprint(task.build_model().speech.encoder.backbone))
    assert len(hashes) == 2


def test_a_learning_encoder_and_augmented_recordings_are_refused(small_corpus):
    base = runs.recipe(small_corpus, encoder="tiny")
    with pytest.raises(AffectError, match="model.cache must be none unless train_encoder=none"):
        replace(base.model, cache="float16")
    for augment in (Augment(gain=3.0), Augment(mixup=0.2)):
        with pytest.raises(AffectError, match="model.cache must be none with augment"):
            replace(recipe(small_corpus), augment=augment)


def test_the_whole_part_fits_a_batch_and_epochs_are_fast(small_corpus, tmp_path, monkeypatch):
    """Full-batch CCC: one step an epoch, whose time is compared with that of filling the cache."""
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    wanted = replace(recipe(small_corpus), train=Train(batch=24, epochs=12, workers=0, trackers=(), budget=60.0))
    wanted = replace(wanted, model=replace(wanted.model, encoder="small"))
    begun = time.perf_counter()
    run = runs.make(wanted, tmp_path / "seed0" / "fold1")
    filled = time.perf_counter() - begun
    assert run.schedule.per_epoch == 1
    assert len(run.schedule.cut(0).indices) == len(run.parts["train"]) == 24
    trainer.train(run)
    # The median: a step among others that the machine was busy with says nothing.
    seconds = [row["seconds"] for row in _timing(tmp_path / "seed0" / "fold1")]
    assert filled > 5 * float(np.median(seconds))


def _timing(folder):
    rows = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    return [row for row in rows if "seconds" in row]
