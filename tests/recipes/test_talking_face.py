"""Every experiment of recipes/talking_face.py has the report's values and runs; its command line is frozen."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from affect.errors import AffectError
from affect.experiments import definitions, folds
from affect.experiments.definitions import Ensemble, Search, Sequence, Suite
from affect.recipe import field_names
from affect.report import suites
from affect.tables import flat
from affect.tasks import make, read_recipe
from affect.tasks.talking_face import films
from affect.tasks.talking_face.config import Augment, TalkingFace
from affect.tasks.talking_face.films import changed
from tests import launching
from tests.launching import assert_one_line

RECIPE = Path(__file__).parents[2] / "recipes" / "talking_face.py"
OWN = [
    "data.corpus", "data.root", "data.table", "data.decimal", "data.columns", "data.clip", "data.groups",
    "data.pattern", "data.frames_of",
    "data.videos", "data.boxes", "data.name", "data.features", "data.scores", "data.sync", "data.scale", "data.split",
    "data.folds", "data.fold", "data.train_all", "data.allow_shared", "data.clips", "data.frames",
    "data.generated_widths", "data.generated_syncnet", "data.generated_form", "data.generated_missing",
    "data.generated_absent", "data.generated_sources", "data.generated_generators", "data.clip_seconds", "data.noise",
    "data.generator_seed",
    "model.encoder_dim", "model.encoder_layers", "model.residual", "model.norm", "model.layers", "model.heads",
    "model.head_width", "model.hidden", "model.encoder_hidden", "model.fused",
    "model.temporal_attention", "model.pooling", "model.dropout", "model.modality_dropout", "model.alignment",
    "model.temperature", "model.output", "model.linear", "model.heteroscedastic", "model.normalise",
    *(f"model.media.{name}" for name in (
        "video", "audio", "video_revision", "audio_revision", "train_video", "train_audio", "lr", "rate", "side",
        "faces", "fit", "margin", "seconds", "features",
    )), "loss.kind", "loss.plcc",
    "loss.rank", "loss.smoothing", "loss.consistency", "loss.weights", "loss.fixed", "loss.delta",
    "loss.smoothing_bins", "loss.smoothing_sigma", "loss.dwa_temperature", "loss.cagrad_c", "augment.mask",
    "augment.mixup", "augment.gain", "augment.noise", "augment.speed", "augment.crop", "augment.flip", "augment.drop",
    "continual.by", "continual.batches", "continual.arrived", "continual.replay",
]  # fmt: skip
ABLATIONS = {
    "encoder": {"model.encoder_layers": 1, "model.residual": False},
    "encoder_dim": {"model.encoder_dim": 256},
    "layers": {"model.layers": 3},
    "temporal_attention": {"model.temporal_attention": False},
    "pooling": {"model.pooling": ["mean"]},
    "regularisation": {"model.norm": False, "model.dropout": 0.0},
    "batch": {"train.batch": 1},
    "lr": {"optim.lr": 1e-4},
    "adamw": {"optim.algorithm": "adam", "optim.weight_decay": 0.0},
    "onecycle": {"optim.schedule": "constant", "optim.warmup": 0.0},
    "clipping": {"optim.clip": None},
    "weights": {"loss.weights": "equal"},
    "smoothing": {"loss.smoothing": "none"},
    "consistency": {"loss.consistency": 0.0},
    "precision": {"train.precision": None},
}
SYSTEMS = [
    "demo", "original", "optimized", "low_memory", "quick", *(f"ablation_{name}" for name in ABLATIONS), "augmented",
    "aligned", "heteroscedastic", "pretrain", "finetune", "end_to_end", "end_to_end_augmented", "extracted",
    *(f"continual_{stage}" for stage in (1, 2, 3)),
]  # fmt: skip


experiments = partial(launching.experiments, RECIPE)
launch = partial(launching.launch, recipe=RECIPE)


def options(root: Path) -> list[str]:
    """Return the options of two steps on the small generated corpus."""
    data = ["--data.corpus", "generated_scores", "--data.root", str(root), "--data.clips", "60", "--data.frames", "9",
            "14", "--data.generated-widths", "12", "9", "10", "8"]  # fmt: skip
    model = ["--model.encoder-dim", "16", "--model.heads", "2", "--model.layers", "1"]
    train = ["--train.batch", "12", "--train.steps", "2", "--train.workers", "0", "--train.trackers", "--no-report"]
    return [*data, *model, *train, "--train.precision", "None"]


def test_the_command_line_is_frozen():
    """A field that goes or changes its name breaks commands and old runs: change this list with care."""
    names = field_names(TalkingFace)
    assert [name for name in names if name.split(".")[0] in ("data", "model", "loss", "augment", "continual")] == OWN


def test_the_experiments_are_these():
    several = ["ablations", "pretrained", "continual", "ensemble", "search"]
    real = ["thqa", "thqa_generators", "end_to_end_demo"]
    assert sorted(experiments()) == sorted([*SYSTEMS, *real, *several])
    assert next(iter(experiments())) == "demo"


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_is_whole(name):
    recipe = experiments()[name]()
    assert TalkingFace.from_dict(recipe.to_dict()) == recipe
    assert make(recipe).recipe == recipe
    assert len(recipe.data.scores) == 5
    assert (experiments()[name].__doc__ or "").strip()


def test_the_reports_two_systems_have_its_values():
    before, after = experiments()["original"](), experiments()["optimized"]()
    assert (before.model.encoder_dim, before.model.encoder_layers, before.model.layers) == (256, 1, 3)
    assert (before.train.batch, before.optim.lr, before.optim.schedule) == (1, 1e-4, "constant")
    assert (after.model.encoder_dim, after.model.encoder_layers, after.model.layers) == (512, 3, 4)
    assert (after.train.batch, after.optim.lr, after.optim.algorithm) == (16, 1e-3, "adamw")
    assert (after.optim.schedule, after.train.precision, after.model.pooling) == ("onecycle", "bf16", ("mean", "max"))
    assert after.train.diagnostics_every == 250 and before.train.diagnostics_every is None
    less, quick = experiments()["low_memory"](), experiments()["quick"]()
    assert (less.train.batch, less.model.encoder_dim) == (8, 256)
    assert (quick.train.epochs, quick.train.checkpoint_every) == (50, 5)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_takes_back_one_change(name):
    """To what the original has, and nothing else."""
    made = {key: flat(experiments()[key]().to_dict()) for key in ("original", "optimized", f"ablation_{name}")}
    changed = {k: v for k, v in made[f"ablation_{name}"].items() if v != made["optimized"][k]}
    assert changed == ABLATIONS[name]
    assert all(made["original"][field] == value for field, value in changed.items())


def test_workflows_name_experiments_that_are_there():
    made = {name: experiments()[name]() for name in ("ablations", "pretrained", "continual", "ensemble", "search")}
    assert isinstance(made["ablations"], Suite) and isinstance(made["pretrained"], Sequence)
    # What dropout draws of a clip and of the same made worse differs by more than the two do.
    assert experiments()["pretrain"]().model.dropout == 0
    assert isinstance(made["ensemble"], Ensemble) and isinstance(made["search"], Search)
    assert list(made["ablations"].members) == ["original", "optimized", *(f"ablation_{name}" for name in ABLATIONS)]
    assert (made["ablations"].reference, made["ablations"].takes_back) == ("optimized", True)
    assert {*made["ensemble"].members, *made["pretrained"].stages, *made["continual"].stages} <= {*SYSTEMS}
    found = definitions.resolve(made["search"], experiments()[made["search"].of]())
    # The report's ranges.
    assert {one.name: (one.choices or (one.low, one.high)) for one in found} == {
        "train.batch": (8, 16, 24, 32), "model.encoder_dim": (256, 512, 1024), "model.dropout": (0.2, 0.5),
        "optim.lr": (3e-4, 3e-3),
    }  # fmt: skip
    assert [one.name for one in found if one.log] == ["optim.lr"]


@pytest.mark.parametrize(
    "name", ["demo", "original", "optimized", "augmented", "aligned", "pretrain", "heteroscedastic", "low_memory"]
)
def test_two_steps_on_the_generated_corpus(capsys, tmp_path, monkeypatch, clips_root, name):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, name, *options(clips_root))
    assert code == 0, err
    folder = tmp_path / "runs" / name / "seed0" / "fold1"
    assert read_recipe(folder / "recipe.json").model.encoder_dim == 16
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("step") == 2
    assert (folder / "predictions-test.jsonl").exists()


def test_two_steps_on_clips_that_it_sees_and_hears_changed_in_every_way(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "--data.clips 14 --data.clip-seconds 0.3 0.5 --train.batch 4 --train.steps 2 --train.costs linear"
    change = "--augment.gain 6 --augment.noise 20 40 --augment.speed .05 --augment.crop .1 --augment.flip"
    given = [*small.split(), *change.split(), "--augment.drop", ".1", "--train.trackers", "--no-report"]
    made: list[tuple[str, Augment]] = []
    monkeypatch.setattr(films, "changed", lambda *args: made.append((args[0], args[2])) or changed(*args))
    code, _, err = launch(capsys, "end_to_end_demo", *given)
    assert code == 0, err
    asked = Augment(gain=6.0, noise=(20.0, 40.0), speed=0.05, crop=0.1, flip=True, drop=0.1)
    assert len({id for id, _ in made}) > 4 and {own == asked for _, own in made} == {True}
    folder = tmp_path / "runs" / "end_to_end_demo" / "seed0" / "fold1"
    *steps, end = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert sum(line["event"] == "step" and math.isfinite(line["loss"]) for line in steps) == 2
    assert {"test", "test@delay=0.04", "test@delay=0.64"} <= end["scores"].keys()


def test_docstrings_tell_what_pretraining_takes_and_how_wide_the_ablations_are():
    made = experiments()
    assert "On features alone" in str(made["pretrain"].__doc__)
    with pytest.raises(AffectError, match="loss.kind must be left out with model.media"):
        replace(made["end_to_end"](), loss=made["pretrain"]().loss)
    full = made["optimized"]().model.encoder_dim
    words = " ".join(str(made["ablations"].__doc__).split())
    assert f"--model.encoder-dim {full // 8} " in words and f"an eighth of optimized's full width of {full}." in words


def test_ablations_that_the_fields_given_make_equal_are_left_out(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields = ["--model.encoder-dim", "64", "--train.precision", "None", "--dry-run"]
    code, said, err = launch(capsys, "ablations", *fields)
    assert code == 0 and "ablation_encoder_dim is optimized, ablation_precision is optimized" in err
    listed = [line.split(":")[0] for line in said.splitlines()]
    gone = {"encoder_dim", "precision"}
    code, _, err = launch(capsys, "ablations", "--reference", "optimised")
    assert_one_line(code, err, "optimised", "did you mean", "optimized")
    assert listed == ["original", "optimized", *(f"ablation_{name}" for name in ABLATIONS if name not in gone)]


def test_a_suite_keeps_what_its_members_are_compared_with(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands: dict[str, str] = {}
    monkeypatch.setattr(folds, "run", lambda name, recipe, options, command: commands.update({name: command}))
    own = ["--members", "optimized", "ablation_lr", "--reference", "original"]
    code, _, err = launch(capsys, "ablations", *own, "--no-takes-back", "--train.epochs", "2")
    assert code == 0, err
    kept = suites.read(tmp_path / "runs")
    assert kept == {"ablations": suites.Compared(reference="original", members=("optimized", "ablation_lr"))}
    assert (
        all(command.endswith(f" {name} --train.epochs 2") for name, command in commands.items()) and len(commands) == 2
    )


def test_pretraining_and_fine_tuning_follow_each_other(capsys, tmp_path, monkeypatch, clips_root):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "pretrained", *options(clips_root))
    assert code == 0, err
    folders = [tmp_path / "runs" / name / "seed0" / "fold1" for name in ("pretrain", "finetune")]
    assert [read_recipe(folder / "recipe.json").train.init_from for folder in folders] == [None, "runs/pretrain"]
    first = json.loads((folders[0] / "metrics.jsonl").read_text().splitlines()[0])
    assert list(first["terms"]) == ["clean_above_worse"]


def test_batches_arrive_one_after_another_and_the_last_report_tells_what_was_forgotten(
    capsys, tmp_path, monkeypatch, clips_root
):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "continual", *(o for o in options(clips_root) if o != "--no-report"))
    assert code == 0, err
    folders = [tmp_path / "runs" / f"continual_{k}" / "seed0" / "fold1" for k in (1, 2, 3)]
    starts = [read_recipe(folder / "recipe.json").train.init_from for folder in folders]
    assert starts == [None, "runs/continual_1", "runs/continual_2"]
    page = (tmp_path / "runs" / "continual_3" / "report.md").read_text()
    assert "## Stages, and what was forgotten" in page and "backward transfer" in page
    for k in (1, 2, 3):
        assert f"| continual_{k} |" in page


def test_a_width_that_the_data_lacks_is_one_line(capsys, tmp_path, monkeypatch, clips_root):
    monkeypatch.chdir(tmp_path)
    code, _, err = launch(capsys, "demo", *options(clips_root), "--data.features", "visual=163", "audio")
    assert_one_line(code, err, "visual", "12", "163")
    assert not list(tmp_path.glob("runs/*/seed0"))
