"""Every experiment of recipes/mer2023.py has the report's values and runs; its command line is frozen."""

from __future__ import annotations

import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from affect.experiments import definitions
from affect.experiments.definitions import Ensemble, Search, Suite
from affect.options import Options
from affect.recipe import field_names
from affect.tasks import make, read_recipe
from affect.tasks.multimodal_emotion.config import MultimodalEmotion
from affect.training import run_dir
from tests import launching
from tests.launching import assert_light, assert_one_line, in_its_own_process
from tests.tasks.multimodal_emotion import own, small

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "mer2023.py"
FIELDS = [
    "seed", "optim.algorithm", "optim.lr", "optim.encoder_lr", "optim.weight_decay", "optim.betas", "optim.schedule",
    "optim.warmup", "optim.plateau_patience", "optim.plateau_delta", "optim.floor", "optim.clip",
    "optim.clip_percentile", "optim.clip_value", "optim.ema", "train.batch", "train.epochs", "train.steps",
    "train.budget", "train.mode", "train.costs", "train.patience", "train.min_delta", "train.choose",
    "train.evaluate_every",
    "train.average_best", "train.init_from", "train.precision", "train.diagnostics_every", "train.keep",
    "train.checkpoint_every", "train.checkpoint_minutes", "train.workers", "train.trackers", "train.world",
    "train.timeout", "push_to_hub", "hub_private", "data.corpus", "data.root", "data.name", "data.audio", "data.text",
    "data.video",
    "data.widths", "data.labels", "data.columns", "data.scale", "data.decimal", "data.classes",
    "data.folds", "data.fold", "data.allow_shared", "data.train", "data.test", "data.noise",
    "data.generator_seed", "model.name", "model.hidden", "model.dropout", "model.modality_dropout", "model.warmup",
    "model.dropout_kind", "model.patterns", "model.softmax", "model.rescale", "model.fused_dropout", "model.views",
    "model.missing", "model.imputation", "model.contrastive", "model.temperature", "model.normalise", "model.rank",
    "targets", "protocol", "choose", "noise", "together",
]  # fmt: skip
SYSTEMS = [
    "demo", "baseline", "robust_v1", "robust_v2", "robust_v3", "warmup_40", "warmup_50", "contrastive", "robust_ours",
    "targeted",
]  # fmt: skip
"""Those of MER2023's layout, which the generated corpus has, too."""


experiments = partial(launching.experiments, RECIPE)
launch = partial(launching.launch, recipe=RECIPE)


@pytest.fixture(scope="module")
def corpus(feature_corpus):
    return feature_corpus


def options(root, *, steps=3):
    """Return the options of three steps on fold 1 of the generated corpus."""
    data = ["--data.corpus", "generated", "--data.root", str(root), "--data.train", "90", "--data.test", "20"]
    folds = ["--data.generator-seed", str(small.SEED), "--data.folds", "2", "--data.fold", "1"]
    train = ["--train.batch", "16", "--train.steps", str(steps), "--model.hidden", "8", "--protocol", "toolkit"]
    return [*data, *folds, *train]


def test_the_command_line_is_frozen():
    """A field that goes or changes its name breaks commands and old runs: change this list with care."""
    for name in (*SYSTEMS, "own_data"):
        assert field_names(type(experiments()[name]())) == FIELDS, name
    assert field_names(Options) == ["runs", "name", "seeds", "folds", "resume", "overwrite", "report", "dry_run"]


def test_the_experiments_are_these():
    assert list(experiments()) == [*SYSTEMS, "own_data", "ensemble", "search", "all"]


@pytest.mark.parametrize("name", [*SYSTEMS, "own_data"])
def test_every_system_is_whole(name):
    recipe = experiments()[name]()
    assert isinstance(recipe, MultimodalEmotion)
    assert MultimodalEmotion.from_dict(recipe.to_dict()) == recipe
    assert recipe.protocol == "strict" and len(recipe.seeds(None)) == 6
    assert recipe.data.folds == 5 and recipe.data.fold is None
    assert make(recipe).recipe == recipe
    assert (experiments()[name].__doc__ or "").strip()


TABLE = [
    ("robust_v1", 0.5, 0.3, 0, 1e-4, 20, 10),
    ("robust_v2", 0.4, 0.15, 0, 5e-5, 25, 10),
    ("robust_v3", 0.35, 0.2, 30, 5e-5, 30, 15),
    ("warmup_40", 0.35, 0.2, 40, 5e-5, 30, 15),
    ("warmup_50", 0.35, 0.2, 50, 5e-5, 30, 15),
    ("contrastive", 0.35, 0.2, 30, 5e-5, 30, 15),
]
"""Dropout, modality dropout and its warm-up, L2, patience of early stopping and of the rate, in report 001."""


@pytest.mark.parametrize(("name", "dropout", "p", "warmup", "decay", "patience", "rate"), TABLE)
def test_the_robust_systems_have_the_reports_values(name, dropout, p, warmup, decay, patience, rate):
    recipe = experiments()[name]()
    model, optim, train = recipe.model, recipe.optim, recipe.train
    assert (model.name, model.hidden, model.dropout) == ("attention_robust", 128, dropout)
    assert (model.modality_dropout, model.warmup, model.dropout_kind) == (p, warmup, "pattern")
    assert (optim.algorithm, optim.lr, optim.weight_decay) == ("adamw", 5e-4, decay)
    assert (optim.clip, optim.clip_value, optim.warmup, optim.ema) == (None, 1.0, 0.0, None)
    # torch reduces after more than its patience of evaluations without a rise.
    assert (optim.schedule, optim.plateau_patience, optim.floor) == ("plateau", rate + 1, 1e-6)
    assert optim.plateau_delta == 1e-4, "torch's threshold"
    assert (train.batch, train.epochs, train.patience, train.min_delta) == (32, 100, patience, 1e-3)
    assert (train.evaluate_every, train.choose, recipe.choose) == (1, "best", "emoval")
    assert model.contrastive == (0.1 if name == "contrastive" else 0)
    assert (model.softmax, model.missing, model.imputation, model.normalise) == (None, "zeros", 0, False)
    assert (model.rescale, model.fused_dropout, model.views) == (False, None, 0), "as the model was published"


def test_the_baseline_has_the_toolkits_values():
    recipe = experiments()["baseline"]()
    model, optim, train = recipe.model, recipe.optim, recipe.train
    assert (model.name, model.hidden, model.modality_dropout, model.softmax) == ("attention", 128, 0, None)
    assert 0.2 <= model.dropout <= 0.5, "drawn at random there"
    assert (optim.algorithm, optim.weight_decay, optim.lr, optim.schedule) == ("adam", 1e-5, 5e-4, "constant")
    assert (optim.clip, optim.clip_value, optim.warmup) == (None, None, 0.0)
    assert (train.batch, train.epochs, train.patience, recipe.choose) == (32, 100, None, "emoval")


def test_the_baseline_has_the_toolkits_parameters():
    """At the widths of the three features of the report."""
    from affect.tasks.multimodal_emotion.config import Signature
    from affect.tasks.multimodal_emotion.models import build

    recipe = experiments()["baseline"]()
    widths = {"audio": 1024, "text": 5120, "video": 768}
    names = {"audio": recipe.data.audio, "text": recipe.data.text, "video": recipe.data.video}
    assert names == {
        "audio": ("chinese-hubert-large-UTT",), "text": ("Baichuan-13B-Base-UTT",),
        "video": ("clip-vit-large-patch14-UTT",),
    }  # fmt: skip
    streams = tuple((m, names[m][0], width) for m, width in widths.items())
    for name in ("baseline", "robust_v3"):
        model = experiments()[name]().model
        made = build(model, Signature(streams=streams, classes=tuple("abcdef")))
        assert sum(p.numel() for p in made.parameters()) == 1_067_786


def test_ours_knows_what_is_missing():
    model = experiments()["robust_ours"]().model
    assert (model.missing, model.dropout_kind, model.normalise) == ("token", "balanced", True)
    assert model.modality_dropout > 0
    assert model.views > 0
    assert experiments()["robust_ours"]().choose == "subsets"
    assert experiments()["demo"]().model == model


def test_workflows_name_experiments_that_are_there():
    made = {name: experiments()[name]() for name in ("ensemble", "search", "all")}
    assert isinstance(made["ensemble"], Ensemble)
    assert isinstance(made["search"], Search)
    assert isinstance(made["all"], Suite)
    assert set(made["ensemble"].members) <= set(SYSTEMS)
    assert list(made["all"].members) == [name for name in SYSTEMS if name != "demo"]
    found = definitions.resolve(made["search"], experiments()[made["search"].of]())
    assert {one.name for one in found} >= {"model.hidden", "model.dropout", "optim.lr"}


@pytest.mark.parametrize("arguments", [["--help"], ["robust_v3", "--help"], ["robst"], ["demo", "--train.steps", "x"]])
def test_help_and_mistakes_load_no_heavy_library(tmp_path, arguments):
    assert_light(tmp_path, RECIPE, arguments)


def check(folder: Path, name: str) -> None:
    """Hold that the folder is a whole run of three steps."""
    recipe = read_recipe(folder / "recipe.json")
    assert recipe.model.hidden == 8
    lines = small.read(folder / "metrics.jsonl")
    events = [line["event"] for line in lines if line["event"] != "eval"]
    assert events == ["step"] * 3 + ["selection", "end"]
    assert lines[2]["grad_norm"] > 0
    assert (folder / "checkpoints" / "best" / "model.safetensors").exists()
    assert run_dir.read_rows(folder, "test2@snr=5")
    for part, size in (("valid", 45), ("test1", 20), ("test2", 20), ("test3", 20)):
        assert len(small.read(folder / f"predictions-{part}.jsonl")) == size
    assert json.loads((folder / "recipe.json").read_text())["experiment"] == name


@pytest.mark.parametrize("name", SYSTEMS)
def test_three_steps_on_the_generated_corpus(capsys, tmp_path, monkeypatch, corpus, name):
    monkeypatch.chdir(tmp_path)
    # Most of a report's time is its plots; the launched demo has one, too.
    reported = name == "robust_ours"
    code, out, err = launch(capsys, name, *options(corpus), *([] if reported else ["--no-report"]))
    assert code == 0, err
    assert (f"report: runs/{name}/report.md" in out) == reported
    assert (tmp_path / "runs" / name / "report.md").exists() == reported
    check(tmp_path / "runs" / name / "seed0" / "fold1", name)


def test_own_data_by_the_command_line(capsys, tmp_path, monkeypatch):
    """Columns of other names, a validation part, a test of any name; video left out by naming nothing."""
    monkeypatch.chdir(tmp_path)
    root = own.write(tmp_path / "c", {"train": 12, "dev": 6, "far": 4})
    text = (root / "labels.csv").read_text().replace("name,emotion,valence,part", "segment,Emotion,label,mode")
    (root / "labels.csv").write_text(text)
    names = ["--data.columns", "name=segment", "valence=label", "part=mode", "--data.scale", "-1", "1", "--data.video"]
    small_run = ["--train.steps", "2", "--model.hidden", "8", "--protocol", "toolkit", "--no-report"]
    code, _, err = launch(
        capsys, "own_data", "--data.root", str(root), *names, "--targets", "valence", "emotion", *small_run
    )
    assert code == 0, err
    folder = tmp_path / "runs" / "own_data" / "seed0" / "fold1"
    assert len(small.read(folder / "predictions-far.jsonl")) == 4
    assert small.read(folder / "metrics.jsonl")[-1]["scores"]["far"].keys() >= {"f1", "ccc_valence", "mean"}


def test_too_few_seeds_are_one_line(capsys, tmp_path, monkeypatch, corpus):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "baseline", *options(corpus), "--protocol", "strict", "--seeds", "0", "1")
    assert_one_line(code, err, "seeds must be at least 6 with protocol=strict", "--protocol toolkit")
    assert not (tmp_path / "runs").exists()


def test_an_unknown_field_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "baseline", "--model.modality-drop", "0.1")
    assert_one_line(code, err, "--model.modality-drop")


STILL = ["--model.dropout", "0", "--model.modality-dropout", "0", "--model.views", "0"]


def accelerate(folder: Path, ranks: int, *arguments: str):
    """Run the recipe by the real launcher, with the configuration file of so many processes on the CPU."""
    config = ROOT / "accelerate_configs" / {1: "cpu.yaml", 2: "cpu_2.yaml"}[ranks]
    command = ["-m", "accelerate.commands.launch", "--config_file", str(config), str(RECIPE), *arguments]
    done = in_its_own_process(folder, *command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done


def test_three_steps_by_accelerate_launch(tmp_path, corpus):
    """The command of the README: no experiment named, which is demo."""
    done = accelerate(tmp_path, 1, *options(corpus))
    assert "report: runs/demo/report.md" in done.stdout
    folder = tmp_path / "runs" / "demo" / "seed0" / "fold1"
    check(folder, "demo")
    said = json.loads((folder / "environment.json").read_text())
    assert re.fullmatch(r"python\S* -m accelerate.commands.launch .*mer2023.py demo .*", said["command"])
    assert (said["engine"], said["world"]) == ("single", 1)
    assert said["corpus"].startswith("generated (noise")
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.distributed
def test_two_processes_give_the_losses_of_one(tmp_path, corpus, capsys, monkeypatch):
    accelerate(tmp_path, 2, "robust_ours", *options(corpus), *STILL, "--train.world", "2")
    two = tmp_path / "runs" / "robust_ours" / "seed0" / "fold1"
    check(two, "robust_ours")
    assert json.loads((two / "environment.json").read_text())["world"] == 2
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    code, _, err = launch(capsys, "robust_ours", *options(corpus), *STILL)
    assert code == 0, err
    one = tmp_path / "one" / "runs" / "robust_ours" / "seed0" / "fold1"
    assert json.loads((one / "environment.json").read_text())["world"] == 1
    np.testing.assert_allclose(small.losses(two), small.losses(one), rtol=1e-5)
    a, b = (small.read(folder / "predictions-test2.jsonl") for folder in (two, one))
    np.testing.assert_allclose([row["logits"] for row in a], [row["logits"] for row in b], rtol=1e-3, atol=1e-4)


def test_a_feature_of_two_modalities_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "baseline", "--data.audio", "one", "--data.video", "one")
    assert_one_line(code, err, "name each feature once", "one")


def test_a_folder_that_is_no_corpus_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "baseline", "--data.root", str(tmp_path))
    assert_one_line(code, err, "has no label-6way.npz, or train-label.csv")
