"""Nothing is gone on from or predicted with that is another run's: its weights may have seen the test part."""

from __future__ import annotations

import contextlib
import json
import shutil
from types import SimpleNamespace

import pytest

from affect import recipe as recipes
from affect.errors import AffectError
from affect.experiments import folds
from affect.experiments.definitions import changed
from affect.hub import load, source
from affect.inference import opening
from affect.options import Options
from affect.report import runs as report_runs
from affect.tasks.emotion.config import Data, Emotion
from affect.training import checkpoint, run_dir
from tests.training.part import Part

BASE = Emotion(data=Data(root="data", fold=1))


def told(folder, fields=None):
    """Let a run's folder tell of a recipe, that of seed 0 and fold 1 with other values of some fields."""
    run_dir.write_json(folder / "recipe.json", {"experiment": "demo", **changed(BASE, fields or {}).to_dict()})


def trained(folder, fields=None):
    """Write what a run leaves: its recipe, two checkpoints and its best weights; return the checkpoints' folder."""
    told(folder, fields)
    where, part = folder / "checkpoints", Part(steps=1)
    for step in (2, 4):
        part.save(where, step, keep=9, best_step=2)
        if step == 2:
            part.save_best(where, 2)
    return where


def find(where, resume="auto", heard=None):
    return checkpoint.find(resume, where, [].append if heard is None else heard.append)


@pytest.mark.parametrize(("field", "value"), [("seed", 1), ("data.fold", 2), ("optim.lr", 0.5), ("data.root", "other")])
@pytest.mark.parametrize("how", ["auto", "path"])
def test_a_checkpoint_of_another_recipe_seed_or_fold_is_refused(tmp_path, field, value, how):
    trained(tmp_path / "one")
    own = tmp_path / "own"
    shutil.copytree(tmp_path / "one" / "checkpoints", own / "checkpoints")
    told(own, {field: value})
    path = own / "checkpoints" / "step-0000004"
    with pytest.raises(
        AffectError, match=f"step-0000004 is no checkpoint of {own}: its recipe differs in {field}"
    ) as e:
        find(own / "checkpoints", "auto" if how == "auto" else str(path))
    assert "\n" not in str(e.value)
    assert find(own / "checkpoints", "never") is None


def test_what_decides_no_result_may_differ(tmp_path):
    where = trained(tmp_path / "own")
    told(tmp_path / "own", {"train.workers": 7, "train.budget": 3.0, "push_to_hub": "a/b"})
    heard = []
    assert find(where, heard=heard) == where / "step-0000004" and heard == []


def test_a_checkpoint_that_tells_of_no_recipe_is_refused(tmp_path):
    where = trained(tmp_path / "own")
    (tmp_path / "own" / "recipe.json").unlink()
    shutil.rmtree(where)
    Part(steps=1).save(where, 2, best=None)
    assert find(where) == where / "step-0000002", "nothing is known of the run"
    told(tmp_path / "own")
    with pytest.raises(AffectError, match="its recipe differs in all: it tells of none"):
        find(where)


def test_a_folder_beside_checkpoints_is_none_of_them(tmp_path):
    where = trained(tmp_path / "own")
    shutil.copytree(where / "step-0000004", where / "step-0000009 (copy)")
    assert find(where) == where / "step-0000004"


def test_best_weights_of_another_fold_are_made_again(tmp_path):
    where = trained(tmp_path / "own")
    Part(steps=1).save(where, 1, keep=9, best=None)
    other = trained(tmp_path / "other", {"data.fold": 2})
    shutil.rmtree(where / "best")
    shutil.copytree(other / "best", where / "best")
    heard = []
    assert find(where, heard=heard) == where / "step-0000001"
    assert heard == [f"{where / 'best'}: the best weights are another run's; they are made again from "
                     f"{where / 'step-0000001'} on"]  # fmt: skip


@pytest.fixture
def experiment(tmp_path):
    """Two folds of an experiment."""
    for fold in (1, 2):
        folder = tmp_path / "runs" / "demo" / "seed0" / f"fold{fold}"
        trained(folder, {"data.fold": fold})
        run_dir.write_lines(folder / "metrics.jsonl", [{"event": "end", "step": 4, "scores": {}}])
    return tmp_path / "runs" / "demo"


def test_folders_that_are_their_own_are_taken(experiment):
    assert [path.parents[1].name for path in opening.folders_of(experiment)] == ["fold1", "fold2"]
    assert load.folder_of(experiment / "seed0" / "fold1").name == "best"
    # Under a name that says nothing of a fold a copy is as good.
    shutil.copytree(experiment / "seed0" / "fold1", experiment / "mine")
    assert load.folder_of(experiment / "mine") == experiment / "mine" / "checkpoints" / "best"


@pytest.mark.parametrize("ask", [
    lambda top, copy: opening.folders_of(top), lambda top, copy: opening.folders_of(top / "seed0"),
    lambda top, copy: opening.find(copy), lambda top, copy: load.folder_of(copy),
    lambda top, copy: load.folder_of(copy / "checkpoints" / "best"), lambda top, copy: source.read(copy),
])  # fmt: skip
@pytest.mark.parametrize("part", ["the run", "the checkpoints", "the best weights"])
def test_a_copied_folder_predicts_nothing(experiment, ask, part):
    own, copy = experiment / "seed0" / "fold1", experiment / "seed0" / "fold2"
    inside = {"the run": "", "the checkpoints": "checkpoints", "the best weights": "checkpoints/best"}[part]
    shutil.rmtree(copy / inside)
    shutil.copytree(own / inside, copy / inside)
    words = "holds seed 0, fold 1 by its recipe.json" if part == "the run" else "holds weights of another run"
    with pytest.raises(AffectError, match=words) as error:
        ask(experiment, copy)
    assert "\n" not in str(error.value) and str(copy) in str(error.value)


def test_a_report_says_that_a_run_was_copied(experiment):
    shutil.rmtree(experiment / "seed0" / "fold2")
    shutil.copytree(experiment / "seed0" / "fold1", experiment / "seed0" / "fold2")
    one, two = report_runs.read(experiment)
    assert not any("copied" in problem for problem in one.problems)
    assert any("holds seed 0, fold 1 by its recipe.json: it was copied there" in problem for problem in two.problems)


def test_whose_weights_are_is_told_by_what_decides_a_result(tmp_path):
    one = recipes.whose(BASE.to_dict())
    assert one == recipes.whose(changed(BASE, {"train.workers": 9}).to_dict()) and one["fold"] == 1
    assert one != recipes.whose(changed(BASE, {"seed": 3}).to_dict())
    trained(tmp_path)
    place = json.loads((tmp_path / "checkpoints" / "best" / "place.json").read_text())
    assert place["of"] == recipes.whose(json.loads((tmp_path / "recipe.json").read_text()))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 9000, b"null"])
def test_a_damaged_environment_is_said_and_written_anew(tmp_path, monkeypatch, caplog, content):
    """What it holds decides no result: a job that is queued again goes on."""
    monkeypatch.setattr(folds, "_surroundings", lambda engine, task: {"started": "now"})
    task = SimpleNamespace(recipe=BASE, exclusions=lambda: [])
    path = tmp_path / "environment.json"
    for written, started in (('{"started": "then"}', "then"), (content, "now")):
        path.write_bytes(written if isinstance(written, bytes) else written.encode())
        with contextlib.ExitStack() as held:
            assert folds.claim(None, "demo", task, tmp_path, Options(), "a command", held) is None
        assert json.loads(path.read_text()) == {"command": "a command", "started": started}
    (told_of,) = [record.getMessage() for record in caplog.records]
    assert "environment.json is not a" in told_of and "\n" not in told_of
