"""Every part that a recipe can switch on: trained some steps, resumed, evaluated, saved and loaded again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from affect import keyed, tasks
from affect.data import audio
from affect.errors import AffectError
from affect.task import Key
from affect.tasks.emotion.config import Augment, Emotion, Model
from affect.tasks.emotion.predict import Graph, Predictor
from affect.training import memory, trainer
from affect.training.distributed import join
from affect.training.terms import whole
from tests.training import runs

VARIANTS: dict[str, dict[str, Any]] = {
    "temporal": {"temporal": "mamba", "prosody_attention": 4, "mamba_dim": 16, "mamba_layers": 1},
    "mel": {"encoder": "mel", "encoder_dropout": None, "temporal": "mamba", "mamba_dim": 16, "mamba_layers": 1,
            "spec_augment": True},
    "dialogue": {"dialogue": "mamba", "segment": 3, "state_dim": 4, "mamba_dim": 8, "mamba_layers": 1},
    "gates": {"gates": True},
    "xvector": {"speaker": "tiny-xvector"},
    "lora": {"lora": 2, "train_encoder": "transformer"},
    "spec_augment": {"spec_augment": True},
    "cache": {"cache": "float32", "train_encoder": "none"},
    "cached_frames": {"cache": "float16", "train_encoder": "none", "pooling": "attention", "layers": "weighted"},
    "text": {"text": "tiny-text"},
    "everything": {
        "temporal": "mamba", "prosody_attention": 2, "dialogue": "mamba", "segment": 4, "mamba_dim": 8,
        "mamba_layers": 1, "gates": True, "speaker": "tiny-xvector", "text": "ngrams", "uncertainty": True,
        "cache": "float16", "train_encoder": "none", "layers": "weighted",
    },
}  # fmt: skip
AUGMENTED = Augment(stretch=0.1, shift=0.05, noise=(10.0, 20.0), gain=6.0, mixup=0.4)


def variant(root, name: str, **train: Any) -> Emotion:
    base = runs.recipe(root, encoder="tiny", dropout=0.1, **train)
    if name in ("augmented", "emotion", "multitask"):
        return {
            "augmented": replace(base, augment=AUGMENTED),
            "emotion": replace(base, targets=("emotion",)),
            "multitask": replace(base, targets=("valence", "emotion"), augment=Augment(mixup=1.0)),
        }[name]
    return replace(base, model=replace(base.model, **VARIANTS[name]))


NAMES = [*VARIANTS, "augmented", "emotion", "multitask"]


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_in_one_piece_as_cut_and_replayed_and_what_it_saves_predicts_the_same(small_corpus, tmp_path, name):
    replayed = variant(small_corpus, name, mode="replay", budget=1.5, steps=3)
    runs.train(replayed, tmp_path / "replayed", only=("valid",))
    recipe = variant(small_corpus, name, mode="hold", budget=100.0, steps=3)
    run = runs.make(recipe, tmp_path / "seed0" / "fold1")
    found = trainer.train(run)
    losses = [runs.losses(folder) for folder in (tmp_path / "replayed", tmp_path / "seed0" / "fold1")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5, abs=1e-5)
    assert "not keyed" not in (tmp_path / "seed0" / "fold1" / "train.log").read_text()
    assert set(found) == {"train", "valid", "test"}
    assert len(found["test"]) > 2
    again = tasks.load(tmp_path / "seed0" / "fold1" / "checkpoints" / "best")
    part = run.parts["test"]
    batch = run.task.collate([part[k] for k in range(min(2, len(part)))], None)
    with torch.no_grad():
        expected = run.engine.unwrap(run.model).eval()(**batch.inputs)
        for target, values in again(**batch.inputs).items():
            torch.testing.assert_close(values, expected[target], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(small_corpus, name):
    """DDP stops where one doesn't, and an adapter without a gradient is the trap that the facts warn of."""
    task = tasks.make(variant(small_corpus, name)).for_fold(0, 1)
    torch.manual_seed(0)
    model = task.build_model()
    task.on_train_start(model, 0, 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(std=0.1)
    part = task.datasets()["train"]
    batch = task.collate([part[k] for k in range(min(6, len(part)))], Key(seed=0, epoch=0))
    model.train()
    whole(task.terms(), model(**batch.inputs), batch.targets).total.backward()
    still = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


@pytest.mark.parametrize("name", ["everything", "augmented", "spec_augment", "multitask"])
def test_an_interrupted_run_resumes_bit_for_bit(small_corpus, tmp_path, monkeypatch, name):
    recipe = variant(small_corpus, name, epochs=2, batch=4)
    recipe = replace(recipe, optim=replace(recipe.optim, ema=0.9))
    whole, folder = tmp_path / "whole" / "seed0" / "fold1", tmp_path / "cut" / "seed0" / "fold1"
    runs.train(recipe, whole)
    run = runs.make(recipe, folder)
    # In the second epoch, past a checkpoint.
    runs.interrupt(run, run.schedule.per_epoch + 2, monkeypatch)
    runs.train(recipe, folder)
    for file in ("metrics.jsonl", "predictions-test.jsonl"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.parametrize("name", ["dialogue", "everything", "cached_frames", "augmented", "xvector", "mel"])
def test_alone_equals_batched(small_corpus, name):
    task = tasks.make(variant(small_corpus, name)).for_fold(0, 1)
    torch.manual_seed(0)
    model = task.build_model()
    keyed.name_places(model)
    task.on_train_start(model, 0, 1)
    part = task.datasets()["train"]
    rows = [part[k] for k in range(min(4, len(part)))]

    def heard(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = task.collate(some, None)
        with torch.no_grad(), keyed.examples(0, 0, batch.ids):
            return model(**batch.inputs)

    for training in (False, True):
        model.train(training)
        together, alone = heard(rows), [heard([row]) for row in rows]
        for target in task.recipe.targets:
            torch.testing.assert_close(together[target], torch.cat([one[target] for one in alone]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ({"cache": "float16"}, "model.cache must be none unless train_encoder=none"),
        ({"lora": 2, "train_encoder": "none"}, "model.lora"),
        ({"segment": 6}, "model.segment must be left out unless dialogue=mamba"),
        ({"gates": True, "prosody_dim": 0}, "model.gates"),
        ({"prosody_attention": 3}, "divide model.mamba_dim"),
        ({"mamba_dim": 16}, "model.mamba_dim"),
        ({"encoder": "none", "temporal": "mamba"}, "model.temporal must be left out with encoder=none"),
        ({"encoder": "none", "gates": True}, "model.gates must be off where prosody is all there is"),
        ({"encoder": "mel", "layers": "weighted"}, "model.layers must be left out with encoder=mel"),
        ({"encoder": "mel", "lora": 4}, "model.lora must be left out with encoder=mel"),
        ({"train_encoder": "none", "spec_augment": True}, "model.spec_augment must be off with train_encoder=none"),
        ({"train_encoder": "none", "layerdrop": 0.1}, "model.layerdrop must be off with train_encoder=none"),
        ({"text": "ngrams", "train_text": "none"}, "model.train_text must be all with text=ngrams"),
        ({"text_dropout": 0.1}, "model.text_dropout must be left out without text"),
    ],
)
def test_what_would_change_nothing_is_refused(name, said):
    with pytest.raises(AffectError, match=said):
        Model(**name)


def test_mixup_mixes_recordings_and_labels_and_leaves_missing_ones_alone(small_corpus):
    base = variant(small_corpus, "multitask")
    task = tasks.make(replace(base, targets=("valence", "arousal"))).for_fold(0, 1)
    part = task.datasets()["train"]
    rows = [part[k] for k in range(len(part))]
    # What a corpus with unrated utterances has.
    rows[0]["arousal"] = float("nan")
    plain, mixed = task.collate(rows, None), task.collate(rows, Key(seed=0, epoch=1))
    heard = [not torch.equal(a, b) for a, b in zip(plain.inputs["waveform"], mixed.inputs["waveform"], strict=True)]
    assert not heard[0]
    assert sum(heard) > len(rows) // 2
    for target in ("valence", "arousal"):
        labelled = [bool(a != b) for a, b in zip(plain.targets[target][1:], mixed.targets[target][1:], strict=True)]
        assert sum(labelled) > len(rows) // 2
        assert all(h for h, moved in zip(heard[1:], labelled, strict=True) if moved)
    assert torch.equal(plain.inputs["samples"], mixed.inputs["samples"])
    low, high = plain.targets["valence"].min(), plain.targets["valence"].max()
    assert ((mixed.targets["valence"] >= low) & (mixed.targets["valence"] <= high)).all()


def test_augmentation_is_a_function_of_seed_epoch_and_id(small_corpus):
    task = tasks.make(variant(small_corpus, "augmented")).for_fold(0, 1)
    part = task.datasets()["train"]
    rows = [part[k] for k in range(6)]
    whole = task.collate(rows, Key(seed=3, epoch=2))
    for k in (5, 0):
        alone = task.collate([rows[k]], Key(seed=3, epoch=2))
        count = int(alone.inputs["samples"][0])
        assert int(whole.inputs["samples"][k]) == count
        assert torch.equal(alone.inputs["waveform"][0, :count], whole.inputs["waveform"][k, :count])
        assert torch.equal(alone.targets["valence"][0], whole.targets["valence"][k])
    for other in (Key(seed=4, epoch=2), Key(seed=3, epoch=1), None):
        batch = task.collate(rows, other)
        assert not torch.equal(batch.targets["valence"], whole.targets["valence"])
    # A stretched recording never outgrows what the plan counts.
    assert all(wave / 16_000 <= row["length"] + 1e-3 for wave, row in zip(whole.inputs["samples"], rows, strict=True))


def test_embeddings_of_a_table_reach_the_model(small_corpus, tmp_path):
    base = runs.recipe(small_corpus, encoder="tiny")
    ids = tasks.make(base).corpus.utterances["id"]
    table = tmp_path / "speakers.jsonl"
    table.write_text("\n".join(json.dumps({"id": name, "embedding": [1.0, float(k)]}) for k, name in enumerate(ids)))
    model = replace(base.model, speaker="embedding")
    recipe = replace(base, data=replace(base.data, embeddings=str(table)), model=model)
    run = runs.make(recipe, tmp_path / "seed0" / "fold1")
    assert trainer.train(run)["test"]
    weight = run.engine.unwrap(run.model).speech.film.modulation.weight
    assert weight.shape[1] == 2
    assert weight.any()
    with pytest.raises(AffectError, match="data.embeddings must be given with model.speaker=embedding"):
        replace(base, model=model)


def test_a_dialogue_is_heard_in_order_by_predict(small_corpus, tmp_path):
    """What comes before changes a prediction, what comes after does not; another recording starts anew."""
    run = runs.make(variant(small_corpus, "dialogue"), tmp_path / "seed0" / "fold1")
    trainer.train(run)
    graph = Graph(tasks.load(tmp_path / "seed0" / "fold1" / "checkpoints" / "best"))
    predictor = Predictor(graph, graph.facts)
    rows = run.task.corpus.utterances
    waves = [audio.of_row(rows[k]) for k in range(3)]

    def said(*order):
        predictor.begin()
        return [predictor.predict(waves[k], None)["prediction"]["valence"] for k in order]

    first = said(0, 1, 2)
    assert said(0, 1) == pytest.approx(first[:2])
    assert abs(said(2)[0] - first[2]) > 1e-6
    # All at once, as evaluation has it.
    task = run.task
    flat = task.inputs.batch([rows[k] for k in range(3)], None, [3])
    with torch.no_grad():
        whole = run.engine.unwrap(run.model).eval()(**flat.inputs)["valence"]
    assert whole.tolist() == pytest.approx(first, abs=1e-4)


@pytest.mark.parametrize(("section", "field"), [("augment", "shift"), ("augment", "mixup"), ("optim", "clip")])
def test_infinite_numbers_are_refused_by_name(small_corpus, section, field):
    base = runs.recipe(small_corpus, encoder="tiny")
    with pytest.raises(AffectError, match=f"{section}.{field} must be finite"):
        replace(base, **{section: replace(getattr(base, section), **{field: float("inf")})})


def test_the_probe_measures_the_longest_that_an_example_may_become(small_corpus, monkeypatch):
    """With stretch an example may outgrow its recording; the plan counts it so, and so must the probe."""
    recipe = variant(small_corpus, "augmented")
    recipe = replace(recipe, augment=Augment(stretch=0.3))
    task = tasks.make(recipe).for_fold(0, 1)
    part = task.datasets()["train"]
    lengths = np.asarray(part["length"])
    longest = int(lengths.argmax())
    inputs = memory._inputs(join(), task, part, longest, 1)
    seconds = int(inputs["samples"][0]) / 16_000
    assert seconds > 0.9 * lengths[longest]
    assert seconds <= lengths[longest] + 1e-3
