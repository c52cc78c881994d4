"""Every experiment of recipes/finetune_wavlm.py runs on the generated corpus; its command line is frozen."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from affect.options import Options
from affect.recipe import field_names
from affect.tasks import read_recipe
from tests.launching import RECIPE, assert_light, experiments, in_its_own_process, launch, small

FIELDS = [
    "seed", "optim.algorithm", "optim.lr", "optim.encoder_lr", "optim.weight_decay", "optim.betas", "optim.schedule",
    "optim.warmup", "optim.plateau_patience", "optim.plateau_delta", "optim.floor", "optim.clip",
    "optim.clip_percentile", "optim.clip_value", "optim.ema", "train.batch", "train.epochs", "train.steps",
    "train.budget", "train.mode", "train.costs", "train.patience", "train.min_delta", "train.choose",
    "train.evaluate_every",
    "train.average_best", "train.init_from", "train.precision", "train.diagnostics_every", "train.keep",
    "train.checkpoint_every", "train.checkpoint_minutes", "train.workers", "train.trackers", "train.world",
    "train.timeout", "push_to_hub", "hub_private", "data.corpus", "data.root", "data.name", "data.split", "data.fold",
    "data.allow_shared", "data.prosody", "data.classes", "data.embeddings", "data.columns", "data.scale",
    "data.raters", "data.decimal",
    "data.labels", "data.audio", "data.subset", "data.revision", "data.limit", "data.streaming", "data.dialogues",
    "data.utterances", "data.seconds", "model.encoder", "model.train_encoder", "model.layers", "model.pooling",
    "model.prosody_dim", "model.hidden", "model.dropout", "model.encoder_dropout", "model.attention_dropout",
    "model.sigmoid", "model.uncertainty", "model.checkpointing", "model.layerdrop", "model.spec_augment", "model.lora",
    "model.temporal", "model.prosody_attention", "model.dialogue", "model.segment", "model.state_dim",
    "model.state_decay", "model.mamba_dim", "model.mamba_layers", "model.gates", "model.speaker", "model.text",
    "model.train_text", "model.text_dropout", "model.cache", "augment.stretch", "augment.shift", "augment.noise",
    "augment.noise_files", "augment.gain", "augment.mixup", "targets", "loss", "weights",
]  # fmt: skip
OPTIONS = ["runs", "name", "seeds", "folds", "resume", "overwrite", "report", "dry_run"]


def test_the_command_line_is_frozen():
    """A field that goes or changes its name breaks commands and old runs: change this list with care."""
    for name, experiment in experiments().items():
        if name not in ("ensemble", "search", "ablations"):
            assert field_names(type(experiment())) == FIELDS, name
    assert field_names(Options) == OPTIONS


ABLATIONS = [
    "ablation_batch", "ablation_prosody", "ablation_layers", "ablation_dropout", "ablation_decay",
    "ablation_patience", "ablation_weighted", "ablation_pooling",
]  # fmt: skip
EXPERIMENTS = [
    "demo", "demo_encoder", "emodb", "emodb_temporal", "emodb_augmented", "v1", "v2", "v3", *ABLATIONS, "ablations",
    "finetune",
    "finetune_full", "temporal", "augmented", "xlsr",
    "hubert", "whisper", "own_data", "speech_text", "emobank", "emotion", "msp_podcast", "ensemble", "search",
]  # fmt: skip
IEMOCAP = ["v1", "v2", "v3", *EXPERIMENTS[EXPERIMENTS.index("finetune") : EXPERIMENTS.index("own_data")],
           "ablation_weighted", "speech_text", "emotion"]  # fmt: skip
"""Of the ablations one: each has a value of `v2`, which runs."""


def test_the_experiments_are_these():
    assert list(experiments()) == EXPERIMENTS


def utterances(recipe):
    """Return the utterances of a global batch: segments hold several."""
    return recipe.train.batch * (recipe.model.segment if recipe.model.dialogue != "none" else 1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("v1", {"train_encoder": "none", "prosody_dim": 64, "mamba_layers": 2, "batch": 8, "loss": "ccc"}),
        ("v2", {"train_encoder": "transformer", "prosody_dim": 128, "mamba_layers": 4, "dropout": 0.15, "batch": 16,
                "weight_decay": 1e-4, "patience": 5, "loss": "weighted", "weights": (1.5, 1.0),
                "pooling": "attention"}),
        ("v3", {"train_encoder": "transformer", "prosody_dim": 64, "mamba_layers": 2, "dropout": 0.3, "batch": 8,
                "weight_decay": 1e-3, "lr": 5e-5, "encoder_lr": 5e-6, "patience": 15, "loss": "ccc"}),
        ("finetune", {"train_encoder": "transformer", "batch": 8, "epochs": 20, "fold": 1, "lr": 1e-4,
                      "encoder_lr": 1e-5, "weight_decay": 1e-4, "clip": 1.0, "loss": "ccc"}),
        ("finetune_full", {"epochs": 50, "fold": None, "lr": 1e-4, "encoder_lr": 1e-5, "batch": 8}),
        ("temporal", {"temporal": "mamba", "prosody_attention": 4, "mamba_dim": 256, "dialogue": "none", "batch": 8}),
        ("augmented", {"spec_augment": True, "stretch": 0.1, "shift": 0.1, "mixup": 0.2, "batch": 8}),
        ("xlsr", {"encoder": "facebook/wav2vec2-large-xlsr-53"}),
        ("hubert", {"encoder": "facebook/hubert-large-ll60k"}),
        ("whisper", {"encoder": "openai/whisper-medium"}),
        ("speech_text", {"text": "FacebookAI/roberta-base"}),
    ],
)  # fmt: skip
def test_experiments_have_the_reports_values(name, values):
    recipe = experiments()[name]()
    flat = {k: v for part in (recipe.optim, recipe.data, recipe.model, recipe.augment) for k, v in vars(part).items()}
    flat |= vars(recipe.train) | {"batch": utterances(recipe), "loss": recipe.loss, "weights": recipe.weights}
    assert {key: flat[key] for key in values} == values


def test_an_ablation_is_v3_with_one_setting_of_v2():
    """All eight together are v2, but for the rates, which v3 halved."""
    v2, v3 = flat(experiments()["v2"]()), flat(experiments()["v3"]())
    changed = {}
    for name in ABLATIONS:
        one = {key: value for key, value in flat(experiments()[name]()).items() if value != v3[key]}
        assert one.items() <= v2.items() and one, name
        assert not one.keys() & changed.keys()
        changed |= one
    rates = {key: v3[key] for key in (("optim", "lr"), ("optim", "encoder_lr"))}
    assert v3 | changed == v2 | rates
    suite = experiments()["ablations"]()
    assert suite.members == ("v3", *ABLATIONS) and (suite.reference, suite.takes_back) == ("v3", False)


def flat(recipe) -> dict:
    """Return every value of a recipe by its section and name."""
    found = {}
    for name, value in recipe.to_dict().items():
        found |= {(name, key): part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    return found


def test_the_systems_of_report_000_have_all_its_parts():
    """FiLM by the speaker, Mamba to a state of 64 that keeps .8, gates, sigmoid, Mamba 256 wide."""
    for name in ("v1", "v2", "v3", "finetune"):
        model = experiments()[name]().model
        assert (model.dialogue, model.state_dim, model.state_decay, model.mamba_dim) == ("mamba", 64, 0.8, 256)
        assert (model.gates, model.sigmoid, model.encoder) == (True, True, "microsoft/wavlm-large")
        assert model.speaker == "microsoft/wavlm-base-plus-sv"


def test_demo_encoder_hears_the_waveform_alone():
    assert experiments()["demo_encoder"]().model.prosody_dim == 0
    assert experiments()["demo"]().model.prosody_dim > 0


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["dmeo"], ["demo", "--train.steps", "x"]])
def test_help_and_mistakes_load_no_heavy_library(tmp_path, arguments):
    assert_light(tmp_path, RECIPE, arguments)


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
    assert [line["event"] for line in lines] == ["step"] * 3 + ["eval", "selection", "end"]
    assert all(line["grad_norm"] > 0 for line in lines[:3])
    assert (folder / "checkpoints" / "best" / "model.safetensors").exists()
    assert len((folder / "predictions-test.jsonl").read_text().splitlines()) >= 4
    assert json.loads((folder / "recipe.json").read_text())["experiment"] == name


EMODB = ["emodb", "emodb_temporal", "emodb_augmented"]


@pytest.mark.parametrize("name", ["demo_encoder", *EMODB, *IEMOCAP, "own_data", "msp_podcast"])
def test_three_steps_on_the_generated_corpus(capsys, tmp_path, monkeypatch, small_corpus, name):
    monkeypatch.chdir(tmp_path)
    options = small(small_corpus, encoder="tiny", steps=3)
    if name in ("demo_encoder", "msp_podcast"):
        options += ["--model.prosody-dim", "0"]
    recipe = experiments()[name]()
    if recipe.model.speaker != "none":
        options += ["--model.speaker", "tiny-xvector"]
    if recipe.model.text != "none":
        options += ["--model.text", "tiny-text"]
    if recipe.data.split != "session":
        options += ["--data.split", "session"]
    # 24 utterances are 6 segments.
    options += ["--train.batch", "2"] if recipe.model.dialogue != "none" else []
    # Most of a report's time is its plots; the launched demo has one, too.
    reported = name in ("emotion", "speech_text")
    code, out, err = launch(capsys, name, *options, "--data.prosody", "default", *([] if reported else ["--no-report"]))
    assert code == 0, err
    assert (tmp_path / "runs" / name / "report.md").exists() == reported
    assert ("CCC-V" in out) == reported
    check(tmp_path / "runs" / name / "seed0" / "fold1", name)


def test_three_steps_by_the_readmes_launch_command(tmp_path, small_corpus):
    """The command of the README: affect launch, no experiment named, which is demo; nothing warns of anything."""
    options = small(small_corpus, encoder="tiny", steps=3)
    done = in_its_own_process(tmp_path, "-c", "from affect.cli import main; main()", "launch", str(RECIPE), *options)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?!warning)", line)], (
        done.stderr
    )
    told = [line.split(" ", 2)[2] for line in lines]
    assert "demo/seed0/fold1: train 24, valid 8 (Ses02), test 8 (Ses01)" in told
    assert any(line.startswith("epoch 1 of 1: loss ") for line in told)
    assert "report: runs/demo/report.md" in done.stdout
    folder = tmp_path / "runs" / "demo" / "seed0" / "fold1"
    check(folder, "demo")
    said = json.loads((folder / "environment.json").read_text())
    assert said["command"] == f"affect launch {RECIPE} {' '.join(options)}"
    assert (said["engine"], said["world"], said["corpus"].split("@")[0]) == ("single", 1, "synthetic")
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
