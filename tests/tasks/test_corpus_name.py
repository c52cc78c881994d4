"""The name that a user gives to a corpus is what the run says of it, and so its card, report and comparison."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from affect import figures, report, tasks
from affect.hub import push
from tests.tasks.diarization import small as turns
from tests.tasks.multimodal_emotion import small as fusing
from tests.tasks.talking_face import small as clips
from tests.training import runs

NAME = "my calls"
RECIPES = {
    "emotion": ("small_corpus", runs.recipe),
    "multimodal_emotion": ("feature_corpus", fusing.recipe),
    "talking_face": ("clips_root", clips.recipe),
    "diarization": ("voices_root", turns.recipe),
}


def test_every_task_is_asked():
    assert RECIPES.keys() == tasks.TASKS.keys()


@pytest.mark.parametrize("kind", RECIPES)
def test_a_run_says_the_name_and_what_tells_its_data_from_others(kind, request):
    root, make = RECIPES[kind]
    recipe = make(request.getfixturevalue(root))
    said = {}
    for name in (None, NAME):
        named = replace(recipe, data=replace(recipe.data, name=name))
        said[name] = tasks.make(named).for_fold(0, 1).describe()
    assert said[NAME]["corpus"].startswith(f"{NAME}@")
    assert said[None]["corpus"] != said[NAME]["corpus"]
    assert said[None]["fingerprint"] == said[NAME]["fingerprint"]


def test_the_name_is_on_the_card_in_the_report_and_in_the_comparison(spoken, tmp_path, monkeypatch):
    top = shutil.copytree(spoken, tmp_path / "runs" / "spoken", ignore=shutil.ignore_patterns("step-*"))
    for file in top.glob("seed*/fold*/environment.json"):
        facts = json.loads(file.read_text())
        file.write_text(json.dumps({**facts, "corpus": f"{NAME}@12345678"}))
    with push.staged(top / "seed0" / "fold1", "someone/model") as folder:
        card = (folder / "README.md").read_text()
    assert f"trained on {NAME}@12345678" in card
    assert f"name: {NAME}@12345678" in card, "in what the Hub reads"
    monkeypatch.setattr(figures, "write", lambda plot, folder: False)
    report.write(top)
    assert f"{NAME}@12345678" in (top / "report.md").read_text()
    assert f"{NAME}@12345678" in (top.parent / "comparison.md").read_text()
