"""What a name is opened as, whichever task's it is; what no task knows, and what a task can't do, is one line."""

from __future__ import annotations

import json
import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tyro
from safetensors.torch import load_file, save_file

from affect import checksums, cli, tasks
from affect.cli.commands import export
from affect.errors import AffectError
from affect.hub import from_pretrained
from affect.inference import opening
from affect.inference.onnx import Session
from affect.models import saving
from affect.task import Task
from tests.inference.asking import ask
from tests.launching import exit_code
from tests.third.config import Activity, Data, Model
from tests.third.model import FrameModel
from tests.third.task import ActivityTask


def test_the_folder_of_a_run_is_found_or_named(spoken, fused, tmp_path):
    run = spoken / "seed0" / "fold1"
    best = run / "checkpoints" / "best"
    assert opening.folders_of(run) == opening.folders_of(best) == (best,)
    assert [path.parents[1].name for path in opening.folders_of(spoken)] == ["fold1", "fold2"]
    assert len(opening.folders_of(fused)) == 4
    assert len(opening.folders_of(fused / "seed1")) == 2
    for several in (spoken.parent, spoken):
        with pytest.raises(AffectError, match="holds several runs: name one, such as .*seed0/fold1"):
            opening.one_of(several)
    for nowhere in (tmp_path, tmp_path / "none"):
        with pytest.raises(AffectError, match="holds no weights: a run's folder is"):
            opening.find(nowhere)


@pytest.mark.parametrize("kind", ["spoken", "fused"])
def test_damaged_weights_are_one_line(kind, request, tmp_path):
    best = shutil.copytree(request.getfixturevalue(kind) / "seed0" / "fold1" / "checkpoints" / "best", tmp_path / "m")
    weights = best / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    given = {"audio": ["a.npy"]} if kind == "fused" else {}
    for words in ("is damaged: model.safetensors", "cannot be read"):
        with pytest.raises(AffectError, match=f"the model in {best} {words}") as error:
            ask(best, *(["x.wav"] if kind == "spoken" else []), **given)
        assert "\n" not in str(error.value)
        (best / checksums.FILE).unlink(missing_ok=True)


def test_an_architecture_with_a_field_of_another_type_is_one_line(spoken, tmp_path):
    best = shutil.copytree(spoken / "seed0" / "fold1" / "checkpoints" / "best", tmp_path / "m")
    (best / checksums.FILE).unlink(missing_ok=True)
    config = json.loads((best / "config.json").read_text())
    config["encoder"]["architecture"]["hidden_size"] = "wide"
    (best / "config.json").write_text(json.dumps(config))
    with pytest.raises(AffectError, match=rf"^the model in {best} cannot be read: [^\n]*hidden_size[^\n]*$"):
        ask(best, "x.wav")


def test_a_run_that_has_not_ended_is_told(fused, tmp_path, caplog):
    top = shutil.copytree(fused, tmp_path / "fused", ignore=shutil.ignore_patterns("step-*"))
    journal = top / "seed1" / "fold2" / "metrics.jsonl"
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if '"end"' not in line))
    with caplog.at_level(logging.WARNING, logger="affect"):
        opening.find(top)
    assert f"1 of 4 runs have not come to their end ({top / 'seed1' / 'fold2'} ...)" in caplog.text


def test_models_of_other_data_are_not_averaged(spoken, tmp_path):
    top = shutil.copytree(spoken / "seed0", tmp_path / "seed0", ignore=shutil.ignore_patterns("step-*"))
    best = top / "fold2" / "checkpoints" / "best"
    facts = saving.read_config(best)
    facts["data"]["scale"] = [1.0, 7.0]
    (best / saving.CONFIG).write_text(json.dumps(facts))
    with pytest.raises(AffectError, match="are models of other features or classes: name one run"):
        opening.find(tmp_path)


@pytest.fixture
def third(monkeypatch, tmp_path):
    """A folder of weights of a task that is in no file of affect."""
    monkeypatch.setitem(tasks.TASKS, "activity", "tests.third.task:ActivityTask")
    made = ActivityTask(Activity(data=Data(width=4), model=Model(hidden=6)))
    model = made.build_model()
    made.save(model, model.state_dict(), tmp_path / "model")
    return tmp_path / "model"


def test_a_third_task_is_loaded_and_says_what_it_can_not(third, monkeypatch):
    """By the defaults of the base class."""
    monkeypatch.setattr(ActivityTask, "exporters", Task.exporters)
    for name in ("infer", "card", "preprocessing"):
        monkeypatch.setattr(ActivityTask, name, classmethod(getattr(Task, name).__func__))
    model = from_pretrained(third)
    assert isinstance(model, FrameModel)
    assert not model.training
    assert model(torch.zeros(1, 3, 4))["active"].shape == (1, 3)
    with pytest.raises(AffectError, match="models of activity can't be predicted from files"):
        ask(third, "a.wav")
    with pytest.raises(AffectError, match="models of activity can't be exported: their task has no format for it"):
        export(third)
    card = ActivityTask.card(saving.read_config(third), {}, "you/activity")
    assert (card.licence, card.command) == ("other", "")
    assert ActivityTask.preprocessing({}) == {"task": "activity"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: dict(list(w.items())[1:]), "1 of {} are missing ({}"),
        (lambda w: {f"module.{name}": value for name, value in w.items()}, "have no place in it (module."),
        (lambda w: {name: value + torch.nan for name, value in w.items()}, "hold NaN or infinite values ("),
        (lambda w: {name: value[:1] for name, value in w.items()}, "are of another shape ("),
    ],
)
def test_weights_that_are_not_the_model_s_are_named(third, change, words):
    weights = load_file(third / saving.WEIGHTS)
    (third / checksums.FILE).unlink(missing_ok=True)
    save_file({name: value.contiguous() for name, value in change(weights).items()}, third / saving.WEIGHTS)
    with pytest.raises(AffectError) as error:
        from_pretrained(third)
    assert words.format(len(weights), next(iter(weights))) in str(error.value)
    assert str(error.value).startswith(f"the model in {third} cannot be read: its weights do not fit FrameModel: ")


def test_a_graph_that_gives_no_numbers_is_refused(tmp_path):
    session = Session.__new__(Session)
    session.path, session.outputs = tmp_path / "model.onnx", ["valence", "classes"]
    session._session = SimpleNamespace(run=lambda *_: [np.array([0.5, np.nan], np.float32), np.array([1])])
    with pytest.raises(AffectError, match=r"model\.onnx: valence comes out as NaN: its weights are not finite$"):
        session.run({})
    session._session = SimpleNamespace(run=lambda *_: [np.array([0.5], np.float32), np.array([1])])
    assert session.run({})["valence"] == 0.5


def test_a_task_adds_commands(third, monkeypatch, capsys):
    monkeypatch.setattr(ActivityTask, "commands", (f"{__name__}:greet",))
    for words, wanted in ((["greet", "you"], "hello you"), (["--help"], "Say hello.")):
        monkeypatch.setattr("sys.argv", ["affect", *words])
        assert exit_code(cli.main) == 0
        assert wanted in capsys.readouterr().out


def greet(name: tyro.conf.Positional[str]) -> None:
    """Say hello."""
    print("hello", name)


def test_a_model_of_a_task_that_is_not_installed_is_one_line(third, monkeypatch):
    monkeypatch.delitem(tasks.TASKS, "activity")
    for use in (lambda: ask(third, "a.wav"), lambda: from_pretrained(third), lambda: export(third)):
        with pytest.raises(AffectError, match="unknown task 'activity'"):
            use()


def test_formats_are_the_task_s_own(spoken, fused):
    with pytest.raises(AffectError, match="unknown format 'onyx'; did you mean 'onnx'"):
        export(spoken / "seed0" / "fold1", format="onyx")
    with pytest.raises(AffectError, match="models of multimodal_emotion can't be exported"):
        export(fused / "seed0" / "fold1")
