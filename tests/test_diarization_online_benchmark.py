"""What benchmarks/diarization_online.py times and compares: so many speakers' work, and DERs of both features."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from affect import tasks
from affect.tasks.diarization import stream_features
from affect.tasks.diarization.breakdown import rate
from affect.tasks.diarization.config import TINY, Model, Online
from affect.tasks.diarization.online import OnlineDiarizer
from affect.tasks.diarization.predict import load
from tests.tasks.diarization import small


@pytest.fixture
def online(benchmark) -> ModuleType:
    return benchmark("diarization_online")


@pytest.mark.parametrize("speakers", [1, 4, 8])
def test_so_many_speakers_are_enrolled_from_start_to_end(online, monkeypatch, speakers):
    """Over windows, with newcomers looked for, and decoded again."""
    samples = online.sound(10.0)
    model, options = online.drawn(Model(**TINY), 0.64, samples)
    asked, activity = [], online.Window.activity

    def kept(window, embeddings):
        asked.append(len(embeddings))
        return activity(window, embeddings)

    monkeypatch.setattr(online.Window, "activity", kept)
    for offline in (False, True):
        assert online.factor(model, replace(options, offline=offline), samples, speakers) > 0
    assert {*asked} == {speakers} and len(asked) > 10
    stream = OnlineDiarizer(model, options, most=speakers)
    with torch.inference_mode():
        online.enrol(stream, speakers)
    assert [len(frames) for frames in stream.memory.frames] == [stream.memory.most] * speakers
    embeddings = stream.embeddings()
    assert np.isfinite(embeddings).all() and len(np.unique(embeddings, axis=0)) == speakers


def test_the_table_has_a_row_a_model_and_number_of_speakers(online, monkeypatch, capsys):
    monkeypatch.setattr(online, "MODELS", {"tiny": (Model(**TINY), 0.64)})
    online.timed(1.0, 1, [1, 3])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    assert [row.split("|")[4].strip() for row in rows] == ["1", "3"]


def test_both_kinds_of_features_are_scored_on_a_runs_tests(online, voices_root, tmp_path, monkeypatch, capsys):
    # What has hardly learned hears somebody often by such a threshold, and windows are many.
    options = Online(window=1.92, enrol=0.32, least=0.16, shortest=0.0, threshold=0.15)
    recipe = replace(small.recipe(voices_root, steps=2, budget=1e4), online=options)
    run = tmp_path / "seed0" / "fold1"
    small.train(recipe, run)
    capsys.readouterr()
    online.compared(run)
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()
    )
    assert head == ["DER", "n", "kept", "anew", "difference"]
    assert [row[:2] for row in rows] == [["test_2_speakers_1.5s", "2"], ["test_2_speakers_4s", "2"]]
    assert "1.000" not in rows[1], "silence is not compared"
    task, model = tasks.make(recipe), load(run / "checkpoints" / "best").model
    for column, whole in ((2, False), (3, True)):
        if whole:
            monkeypatch.setattr(stream_features, "reach", lambda config: None)
        with torch.inference_mode():
            part = task.datasets()["test_2_speakers_4s"]
            told = task.predict(model, task.collate([part[0], part[1]], None))
        assert rows[1][column] == f"{rate('der', told):.3f}"
