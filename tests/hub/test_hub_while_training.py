"""A recipe that names a repository: its weights are pushed while it trains, and no push costs the training anything."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from affect.errors import AffectError
from affect.experiments import folds
from affect.options import Options
from tests.tasks.multimodal_emotion import small
from tests.training import runs


def pushing(corpus, **options):
    recipe = runs.recipe(corpus, epochs=4)
    return replace(recipe, push_to_hub="you/voice", **options)


def metrics(top, name):
    return (top / name / "seed0" / "fold1" / "metrics.jsonl").read_bytes()


def test_best_and_last_are_there_at_the_end(hub, small_corpus, tmp_path):
    folds.run("plain", runs.recipe(small_corpus, epochs=4), Options(runs=tmp_path, report=False), "a command")
    folds.run("pushed", pushing(small_corpus, hub_private=True), Options(runs=tmp_path), "a command")
    (repo,) = hub.repos.values()
    assert repo.private
    run = tmp_path / "pushed" / "seed0" / "fold1"
    assert repo.files["model.safetensors"] == (run / "checkpoints" / "best" / "model.safetensors").read_bytes()
    newest = max((run / "checkpoints").glob("step-*")) / "model.safetensors"
    assert repo.files["last/model.safetensors"] == newest.read_bytes()
    assert "Training goes on" not in repo.files["README.md"].decode()
    assert json.loads(repo.files["scores.json"])["finished"] is True
    assert metrics(tmp_path, "plain") == metrics(tmp_path, "pushed"), "pushing changes nothing of the run"


def test_a_hub_that_is_gone_stops_nothing_and_is_tried_again_at_the_end(hub, small_corpus, tmp_path, caplog):
    hub.down = True
    folds.run("pushed", pushing(small_corpus), Options(runs=tmp_path, report=False), "a command")
    assert b'"event": "end"' in metrics(tmp_path, "pushed")
    told = [record.message for record in caplog.records if "not pushed" in record.message]
    assert len(told) >= 2
    assert "affect push" in told[-1], "the last word is how to push it by hand"
    assert not list((tmp_path / "pushed").rglob(".push-*")), "nothing is left of what was to be pushed"


def test_without_a_token_it_stops_before_the_first_step(hub, small_corpus, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AffectError, match="auth login"):
        folds.run("pushed", pushing(small_corpus), Options(runs=tmp_path), "a command")
    assert not (tmp_path / "pushed" / "seed0" / "fold1" / "metrics.jsonl").exists()


def test_each_of_several_has_a_repository(hub, small_corpus, tmp_path):
    folds.run("pushed", pushing(small_corpus), Options(runs=tmp_path, seeds=(0, 1), report=False), "a command")
    assert sorted(name.split("/")[-1] for name in hub.repos) == ["voice-seed0-fold1", "voice-seed1-fold1"]


def test_runs_that_train_together_are_pushed_each(hub, tmp_path_factory, tmp_path, monkeypatch):
    corpus = small.corpus(tmp_path_factory.mktemp("multimodal") / "corpus")
    recipe = replace(small.recipe(corpus), push_to_hub="you/fused")
    options = Options(runs=tmp_path, seeds=(0,), report=False)
    with monkeypatch.context() as away:
        away.delenv("HF_TOKEN")
        with pytest.raises(AffectError, match="auth login"):
            folds.run("fused", recipe, options, "a command")
        assert not list(tmp_path.rglob("metrics.jsonl")), "known before the first step"
    folds.run("fused", recipe, options, "a command")
    names = sorted(name.split("/")[-1] for name in hub.repos)
    assert names == [f"fused-seed0-fold{n}" for n in range(1, len(names) + 1)]
    assert len(names) > 1
    monkeypatch.delenv("HF_TOKEN")
    folds.run("fused", recipe, options, "a command")  # all are finished: nothing is left to push
