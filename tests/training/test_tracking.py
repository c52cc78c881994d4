"""What trackers call a run, and that TensorBoard has one a fold."""

from __future__ import annotations

import contextlib
import operator
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from accelerate import tracking as accelerates
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from affect.errors import AffectError
from affect.training.distributed import join, launch_settings
from affect.training.distributed.tracking import names_of


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("runs/demo/seed0/fold1", ("demo", "seed0-fold1")),
        ("runs/demo-b/seed3/fold10", ("demo-b", "seed3-fold10")),
        ("runs/tune/trial7/seed0/fold2", ("tune", "trial7-seed0-fold2")),
    ],
)
def test_a_run_is_called_by_its_experiment_seed_and_fold(tmp_path, place, names):
    assert names_of(tmp_path / place) == names


def test_tensorboard_has_one_run_a_fold(tmp_path):
    for fold in (1, 2):
        folder = tmp_path / "runs" / "demo" / "seed0" / f"fold{fold}"
        for done in (0, 2):
            # A second session goes on after step 2: what the first wrote later comes again.
            engine = join(folder, ("tensorboard",))
            engine.track({"optim.lr": 0.1, "train.batch": 4}, folder, done)
            for step in range(done + 1, 5):
                engine.log({"train/loss": float(10 * fold + step + done)}, step)
            engine.end()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "runs"))
    runs.Reload()
    assert sorted(runs.Runs()) == ["demo/seed0/fold1", "demo/seed0/fold2"]
    events = runs.Scalars("demo/seed0/fold1", "train/loss")
    assert [(event.step, event.value) for event in events] == [(1, 11), (2, 12), (3, 15), (4, 16)]
    hparams = runs.GetAccumulator("demo/seed0/fold1").SummaryMetadata("_hparams_/session_start_info")
    assert hparams.plugin_data.plugin_name == "hparams"


def test_trackio_has_a_project_an_experiment_and_named_runs(tmp_path, monkeypatch):
    made: list[dict] = []
    run = SimpleNamespace(finish=lambda: None, log=lambda *_, **__: None)
    trackio = SimpleNamespace(
        init=lambda **given: made.append(given) or run, config={}, log=lambda *_, **__: None, finish=lambda: None
    )
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    for where in (accelerates, launch_settings):
        monkeypatch.setattr(where, "get_available_trackers", lambda: [LoggerType.TRACKIO])
    monkeypatch.setattr(accelerates.TrackioTracker, "store_init_configuration", lambda *_: None)
    folder = tmp_path / "runs" / "demo" / "seed0" / "fold1"
    for done in (0, 3):
        engine = join(folder, ("trackio",))
        engine.track({"seed": 0}, folder, done)
        engine.end()
    named = {"project": "demo", "name": "seed0-fold1"}
    assert made == [{**named, "resume": "never"}, {**named, "resume": "allow"}]


@pytest.mark.parametrize(
    ("kind", "module", "starts", "wanted"),
    [
        ("wandb", "wandb", "init", {"project": "demo", "name": "seed0-fold1", "group": "demo"}),
        ("swanlab", "swanlab", "init", {"project": "demo", "experiment_name": "seed0-fold1"}),
        ("mlflow", "mlflow", "start_run", {"experiment_id": "of demo", "run_name": "seed0-fold1"}),
        ("clearml", "clearml", "Task.init", {"project_name": "demo", "task_name": "seed0-fold1"}),
        ("comet_ml", "comet_ml", "start", {"project_name": "demo", "experiment_config": "named seed0-fold1"}),
        ("aim", "aim", "Run", {"experiment": "demo/seed0-fold1"}),
        ("dvclive", "dvclive", "Live", {"dir": "runs/demo/seed0/fold1/dvclive", "resume": False}),
    ],
)
def test_every_tracker_is_told_experiment_seed_and_fold(tmp_path, monkeypatch, kind, module, starts, wanted):
    fake = MagicMock(__version__="3.50")
    fake.search_experiments.return_value = []
    fake.create_experiment.side_effect = lambda name, **_: f"of {name}"
    fake.ExperimentConfig.side_effect = lambda name: f"named {name}"
    fake.Task.current_task.return_value = None
    monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setenv("WANDB_API_KEY", "x")
    monkeypatch.chdir(tmp_path)
    for where in (accelerates, launch_settings):
        monkeypatch.setattr(where, "get_available_trackers", lambda: [LoggerType(kind)])
    monkeypatch.setattr(accelerates.LOGGER_TYPE_TO_CLASS[kind], "store_init_configuration", lambda *_: None)
    engine = join(Path("runs/demo/seed0/fold1"), (kind,))
    engine.track({"seed": 0}, Path("runs/demo/seed0/fold1"), 0)
    (call,) = operator.attrgetter(starts)(fake).call_args_list
    assert {name: call.kwargs[name] for name in wanted} == wanted
    engine.end()


@pytest.mark.parametrize(
    ("given", "netrc", "refused"),
    [
        ({}, None, True),
        ({"WANDB_MODE": "online"}, "machine other.org login user password x\n", True),
        ({"WANDB_BASE_URL": "https://own.org"}, "machine api.wandb.ai login user password x\n", True),
        ({}, "no netrc", True),
        ({}, "machine api.wandb.ai login user password x\n", False),
        ({"WANDB_BASE_URL": "https://own.org:8080/"}, "machine own.org login user password x\n", False),
        ({"WANDB_API_KEY": "x"}, None, False),
        ({"WANDB_MODE": "offline"}, None, False),
    ],
)
def test_wandb_without_a_login_is_refused_and_asks_nothing(tmp_path, monkeypatch, given, netrc, refused):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    if netrc is not None:
        (tmp_path / ".netrc").write_text(netrc)
        (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setattr(launch_settings, "get_available_trackers", lambda: [LoggerType.WANDB])
    with pytest.raises(AffectError, match="wandb has no login for") if refused else contextlib.nullcontext():
        launch_settings._trackers(("wandb",))
    assert "wandb" not in sys.modules
