"""Every experiment of recipes/finetune_wavlm.py runs on the generated corpus; its command line is frozen."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from affect.options import Options
from affect.recipe import field_names
from affect.tasks import read_recipe
from tests.launching import RECIPE, experiments, in_its_own_process, launch, small

FIELDS = [
    "seed", "optim.lr", "optim.encoder_lr", "optim.weight_decay", "optim.betas", "optim.schedule", "optim.warmup",
    "optim.plateau_patience", "optim.clip", "optim.ema", "train.batch", "train.epochs", "train.steps",
    "train.budget", "train.mode", "train.patience", "train.choose", "train.evaluate_every", "train.keep",
    "train.checkpoint_every", "train.workers", "train.trackers", "train.world", "data.corpus", "data.root",
    "data.split", "data.fold", "data.allow_shared", "data.prosody", "data.columns", "data.scale", "data.labels",
    "data.audio", "data.subset", "data.revision", "data.limit", "data.streaming", "data.dialogues",
    "data.utterances", "data.seconds", "model.encoder", "model.train_encoder", "model.layers",
    "model.pooling", "model.prosody_dim", "model.hidden", "model.dropout", "model.encoder_dropout", "model.sigmoid",
    "model.uncertainty", "model.checkpointing", "model.layerdrop", "model.spec_augment", "targets", "loss",
    "weights",
]  # fmt: skip
OPTIONS = ["runs", "name", "seeds", "resume", "overwrite", "dry_run"]
HEAVY = ["torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "librosa", "matplotlib", "pandas"]


def test_the_command_line_is_frozen():
    """A field that goes or changes its name breaks commands and old runs: change this list with care."""
    for name, experiment in experiments().items():
        assert field_names(type(experiment())) == FIELDS, name
    assert field_names(Options) == OPTIONS


def test_the_experiments_are_these():
    assert list(experiments()) == ["demo", "demo_encoder", "emodb", "finetune"]


def test_finetune_has_the_reports_values():
    recipe = experiments()["finetune"]()
    assert (recipe.optim.lr, recipe.optim.encoder_lr, recipe.optim.weight_decay) == (1e-4, 1e-5, 1e-4)
    assert (recipe.optim.clip, recipe.optim.schedule) == (1.0, "cosine")
    assert (recipe.train.batch, recipe.train.epochs) == (8, 20), "micro-batch 4 x accumulation 2"
    assert (recipe.model.encoder, recipe.loss, recipe.data.corpus) == ("microsoft/wavlm-large", "ccc", "iemocap")


def test_demo_encoder_hears_the_waveform_alone():
    assert experiments()["demo_encoder"]().model.prosody_dim == 0
    assert experiments()["demo"]().model.prosody_dim > 0


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["dmeo"], ["demo", "--train.steps", "x"]])
def test_help_and_mistakes_load_no_heavy_library(tmp_path, arguments):
    script = (
        "import runpy, sys\n"
        f"sys.argv = [{str(RECIPE)!r}, *{arguments!r}]\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = in_its_own_process(tmp_path, "-c", script)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_help_within_three_seconds(tmp_path):
    took = []
    for _ in range(2):
        begun = time.perf_counter()
        done = in_its_own_process(tmp_path, str(RECIPE), "--help")
        took.append(time.perf_counter() - begun)
        assert done.returncode == 0
    assert min(took) < 3.0


def check(folder: Path, name: str) -> None:
    """Hold that the folder is a whole run of three steps by the tiny encoder."""
    recipe = read_recipe(folder / "recipe.json")
    assert recipe.model.encoder == "tiny"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["step"] * 3 + ["eval", "end"]
    assert all(line["grad_norm"] > 0 for line in lines[:3])
    assert (folder / "checkpoints" / "best" / "model.safetensors").exists()
    assert (folder.parents[1] / "report.md").exists()
    assert len((folder / "predictions-test.jsonl").read_text().splitlines()) >= 4
    assert json.loads((folder / "recipe.json").read_text())["experiment"] == name


@pytest.mark.parametrize("name", ["demo_encoder", "emodb", "finetune"])
def test_three_steps_on_the_generated_corpus(capsys, tmp_path, monkeypatch, small_corpus, name):
    monkeypatch.chdir(tmp_path)
    options = small(small_corpus, encoder="tiny", steps=3)
    if name == "demo_encoder":
        options += ["--model.prosody-dim", "0"]
    code, out, err = launch(capsys, name, *options, "--data.prosody", "default")
    assert code == 0, err
    assert "CCC-V" in out
    check(tmp_path / "runs" / name / "seed0" / "fold1", name)


def test_three_steps_by_accelerate_launch(tmp_path, small_corpus):
    """The command of the README: accelerate launch, no experiment named, which is demo."""
    options = small(small_corpus, encoder="tiny", steps=3)
    command = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    done = in_its_own_process(
        tmp_path, *command, "--mixed_precision", "no", "--dynamo_backend", "no", str(RECIPE), *options
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "report: runs/demo/report.md" in done.stdout
    folder = tmp_path / "runs" / "demo" / "seed0" / "fold1"
    check(folder, "demo")
    said = json.loads((folder / "environment.json").read_text())
    assert said["command"] == f"accelerate launch finetune_wavlm.py demo {' '.join(options)}"
    assert (said["engine"], said["world"], said["corpus"]) == ("NO", 1, "synthetic")
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
