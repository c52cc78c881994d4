"""A model of clips' scores on the Hub: its card, its intervals, and prediction from there without a recipe."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

from affect.experiments import folds
from affect.hub import from_pretrained, push
from affect.options import Options
from affect.tasks.talking_face.task import TalkingFaceTask
from affect.training import run_dir
from tests.inference.asking import ask
from tests.tasks.talking_face import small


def test_a_model_of_scores_is_pushed_and_predicts_with_its_intervals(hub, clips_root, tmp_path, monkeypatch):
    monkeypatch.setattr(TalkingFaceTask, "baselines", lambda self: {})
    recipe = small.recipe(clips_root, steps=1)
    run = folds.run("quality", recipe, Options(runs=tmp_path / "runs", report=False), "a command") / "seed0" / "fold1"
    push.run(run, "someone/quality")
    files = hub.repos["someone/quality"].files
    card = files["README.md"].decode()
    labels = json.loads((run / "environment.json").read_text())["labelled"]["test"]
    counted = f"- labels (test): lip_sync_score {labels['lip_sync_score']}, "
    for words in ("overall_score (1 to 5)", "A 90 % interval is given with each score", "| test", "test 12",
                  "affect predict someone/quality CLIP.npz", "srcc", "## Limits",
                  "overall_score 1 to 5 (inferred)", counted):  # fmt: skip
        assert words in card
    (last,) = (line for line in run_dir.read_lines(run / "metrics.jsonl") if line["event"] == "end")
    told = {(one.dataset_split, one.metric_type): one.metric_value for one in ModelCard(card).data.eval_results}
    for name in ("srcc", "mse"):
        assert told["test", name] == pytest.approx(last["scores"]["test"][name], abs=5e-4)
    stored = json.loads(files["config.json"])["intervals"]
    assert stored == json.loads(files["preprocessor_config.json"])["intervals"]
    assert f"overall_score ± {stored['overall_score']['half_width']:.2f}" in card
    assert (stored["overall_score"]["level"], stored["overall_score"]["scale"]) == (0.9, [1.0, 5.0])
    assert not json.loads(files["last/config.json"]).get("intervals"), "they are of the best weights"
    assert from_pretrained("someone/quality").data.features[0] == ("visual", 12)
    (bad, lines), (_, others) = (ask(name, clips_root / "converted") for name in ("someone/quality", run))
    assert bad == 0 and len(lines) == 60
    assert lines == others
    assert lines[0]["interval"]["overall_score"][0] < lines[0]["prediction"]["overall_score"]
    assert lines[0]["prediction"]["overall_score"] == pytest.approx(3, abs=2)
