"""Diarization on two real processes: the losses and the DER of one; engines that share weights out are refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from affect import tasks
from affect.data.simulation import Simulation
from affect.errors import AffectError
from affect.recipe import Train
from affect.tasks.diarization.config import Data, Diarization, Model, Online
from affect.training import run_dir, trainer
from affect.training.distributed import join
from affect.training.run import Run, Start
from tests.distributed.launch import ROOT, launch

SHARED = {"ZeRO-3": "zero3", "FSDP2": "fsdp2"}

pytestmark = pytest.mark.distributed


def recipe(root: Path) -> Diarization:
    """Return two epochs of a model with dropout, and three conversations of another length each to validate on."""
    return Diarization(
        data=Data(
            voices="generated", root=str(root), generated=(4, 2), voice_seconds=4.0, block=1.28, examples=8, valid=3,
            valid_seconds=3.3, test=1, test_speakers=(2,), test_seconds=(1.5,),
        ),
        simulation=Simulation(speakers=(1, 3), turn=(0.3, 1.0), gap=0.5, reverberation=0.0),
        model=Model(width=16, heads=2, hidden=32, kernel=5, encoder_layers=1, decoder_layers=1, channels=(4, 4, 4, 8)),
        online=Online(window=1.28, enrol=0.16, least=0.16, threshold=0.2),
        train=Train(batch=4, epochs=2, workers=0, trackers=(), costs="linear"),
    )  # fmt: skip


def train(root: Path, folder: Path) -> None:
    """Train a run in `folder` to its end, with validation alone."""
    chosen = recipe(root)
    engine = join(folder, chosen.train.trackers, chosen.train.precision)
    run_dir.claim(folder, chosen, experiment="test", overwrite=False)
    start = Start(experiment="test", resume="auto", only=("valid",))
    trainer.train(Run(engine, tasks.make(chosen).for_fold(0, 1), folder, start))


def train_on_this_rank() -> None:
    """Be one of several ranks: train, or say what the run is refused with."""
    root, folder = map(Path, sys.argv[1:])
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # The one way into FSDP without a GPU: Accelerate would fall back to DDP.
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    refused = None
    try:
        train(root, folder)
    except AffectError as error:
        refused = str(error)
    engine = join()
    print(json.dumps({"rank": engine.rank, "world": engine.world, "refused": refused}), flush=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("voices")
    _ = tasks.make(recipe(root)).corpus
    return root


def events(folder: Path, kind: str) -> list[dict]:
    return [line for line in run_dir.read_lines(folder / "metrics.jsonl") if line["event"] == kind]


def test_two_processes_have_the_losses_and_the_der_of_one(root, tmp_path):
    train(root, tmp_path / "one")
    assert [rank["refused"] for rank in launch(train_on_this_rank, str(root), str(tmp_path / "two"))] == [None] * 2
    one, two = (events(tmp_path / name, "step") for name in ("one", "two"))
    assert len(one) == 4
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5, abs=1e-5)
    one, two = ([line["scores"] for line in events(tmp_path / name, "eval")] for name in ("one", "two"))
    assert one and all(0 < scores["der"] < 2 for scores in one)
    assert two == [pytest.approx(scores, abs=1e-6) for scores in one]


@pytest.mark.parametrize("name", SHARED)
def test_engines_that_share_weights_out_are_refused_in_one_line(root, tmp_path, name):
    options = ["--config_file", str(ROOT / "accelerate_configs" / f"{SHARED[name]}.yaml"), "--mixed_precision", "no"]
    ranks = launch(train_on_this_rank, str(root), str(tmp_path / "run"), accelerate=options)
    for rank in ranks:
        assert "can't be shared out between ranks" in rank["refused"]
        assert "launch with ddp.yaml" in rank["refused"]
        assert "\n" not in rank["refused"]
    assert not events(tmp_path / "run", "step")
