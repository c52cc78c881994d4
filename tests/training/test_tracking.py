"""What trackers call a run, and that TensorBoard has one a fold."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from accelerate import tracking as accelerates
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

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
