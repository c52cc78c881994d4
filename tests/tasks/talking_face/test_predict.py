"""Predicting clips from files: scores with their scales, missing features, bad files, several models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from affect import tasks
from affect.tasks.talking_face.config import SCORES
from tests.tasks.talking_face import small


@pytest.fixture(scope="module")
def runs(clips_root, tmp_path_factory):
    """The folder of a run of one step for each of two seeds."""
    from dataclasses import replace

    top = tmp_path_factory.mktemp("predict") / "quality"
    for seed in (0, 1):
        recipe = replace(small.recipe(clips_root, steps=1), seed=seed)
        small.train(recipe, top / f"seed{seed}" / "fold1")
    return top


@pytest.fixture
def clip(clips_root, tmp_path):
    """A test clip's file, and its row."""
    task = small.task(clips_root)
    row = task.datasets()["test"][0]
    frames = {name: task.clips.frames(row["row"], name) for name, _ in task.features}
    np.savez(tmp_path / "clip.npz", **{name: values for name, values in frames.items() if values is not None})
    return tmp_path / "clip.npz", row["id"]


def lines(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_file_is_predicted_as_the_run_predicted_the_clip(affect, runs, clip):
    file, name = clip
    run = runs / "seed0" / "fold1"
    code, out, err = affect("predict", run, file)
    assert code == 0, err
    (line,) = lines(out)
    kept = map(json.loads, (run / "predictions-test.jsonl").read_text().splitlines())
    wanted = next(row["prediction"] for row in kept if row["id"] == name)
    assert line["prediction"] == pytest.approx(wanted, abs=1e-4)
    assert set(line["scale"]) == set(wanted)


def test_an_interval_is_that_of_the_validation_rows(affect, runs, clip, tmp_path):
    import shutil

    run = tmp_path / "fold1"
    shutil.copytree(runs / "seed0" / "fold1", run)
    rows = [{"id": f"v{k}", "prediction": dict.fromkeys(SCORES, 3.0), "target": dict.fromkeys(SCORES, 3.0 + k / 100)}
            for k in range(1, 20)]  # fmt: skip
    rows[0]["target"]["overall_score"] = float("nan")
    for row in rows[:12]:
        row["target"]["lip_sync_score"] = float("nan")
    (run / "predictions-valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (line,) = lines(affect("predict", run, clip[0])[1])
    assert line["level"] == 0.9
    assert set(line["interval"]) == set(SCORES) - {"lip_sync_score"}
    low, high = line["interval"]["expression_score"]
    assert (high - low) / 2 == pytest.approx(0.18, abs=1e-4), "the 18th of 19 errors"
    assert (low + high) / 2 == pytest.approx(line["prediction"]["expression_score"], abs=1e-4)


def test_the_models_of_an_experiment_are_averaged(affect, runs, clip):
    each = [lines(affect("predict", runs / f"seed{seed}" / "fold1", clip[0])[1])[0]["prediction"] for seed in (0, 1)]
    (line,) = lines(affect("predict", runs, clip[0])[1])
    assert line["prediction"] == pytest.approx({n: (each[0][n] + each[1][n]) / 2 for n in each[0]}, abs=2e-4)


def test_what_can_not_be_read_is_a_line_and_the_others_go_on(affect, runs, clip, tmp_path):
    np.savez(tmp_path / "narrow.npz", visual=np.zeros((4, 5)))
    np.savez(tmp_path / "nan.npz", visual=np.full((4, 12), np.nan))
    np.savez(tmp_path / "other.npz", syncnet=np.zeros((4, 5)))
    np.savez(tmp_path / "object.npz", visual=np.array([None]))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "one.npz", audio=np.ones(9))
    names = ["narrow", "nan", "other", "object", "text", "absent", "one"]
    code, out, _ = affect("predict", runs / "seed0" / "fold1", *(tmp_path / f"{name}.npz" for name in names), clip[0])
    found = {line["id"]: line for line in lines(out)}
    assert code == 1
    assert [name for name in names if "error" in found[f"{name}.npz"]] == names[:-1]
    assert "the model takes [T, 12]" in found["narrow.npz"]["error"]
    assert found["one.npz"]["features"] == ["audio"]
    assert "prediction" in found["clip.npz"]


def test_the_program_on_a_card_runs(runs, clip, capsys, monkeypatch):
    from affect import hub
    from affect.tasks.talking_face.task import TalkingFaceTask

    folder = runs / "seed0" / "fold1" / "checkpoints" / "best"
    card = TalkingFaceTask.card(json.loads((folder / "config.json").read_text()), {}, "user/name")
    monkeypatch.setattr(hub, "from_pretrained", lambda name: tasks.load(folder))
    monkeypatch.chdir(clip[0].parent)
    exec(card.program.replace("CLIP.npz", "clip.npz"), {})
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5 and "on a scale of" in said[0]
    assert torch.is_grad_enabled()
