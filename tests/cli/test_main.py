"""The command line: overrides reach the recipe, mistakes are one line, runs are kept apart and resumed."""

from __future__ import annotations

import json
import logging
import os

import pytest

from affect import cli
from affect.cli.arguments import parse_workflow
from affect.recipe import Recipe
from affect.tasks.emotion.config import Data, Emotion
from tests.launching import RECIPE, assert_one_line, experiments, in_its_own_process, launch, small


@pytest.fixture
def where(tmp_path, monkeypatch):
    """A folder of this test's own to run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(folder) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


# What is said before anything is loaded


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_experiments(capsys, flag):
    code, out, _ = launch(capsys, flag)
    assert code == 0
    for name, function in experiments().items():
        assert f"  {name}" in out
        assert function.__doc__.splitlines()[0] in out


def test_help_of_an_experiment_shows_its_values(capsys):
    code, out, _ = launch(capsys, "finetune", "--help")
    assert code == 0
    assert "microsoft/wavlm-large" in out
    assert "--train.batch INT" in out
    code, out, _ = launch(capsys, "demo", "--help")
    assert "(default: 32)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dmeo"], ["unknown experiment 'dmeo'", "did you mean 'demo'?"]),
        (["zzz"], ["unknown experiment 'zzz'", "there are: ", "ablation_batch, ", "in all)"]),
        (["demo", "--train.stpes", "3"], ["unknown field --train.stpes", "did you mean '--train.steps'?"]),
        (["demo", "--optim.learning-rate=3"], ["unknown field --optim.learning-rate"]),
        (["--dta.fold", "1"], ["unknown field --dta.fold", "did you mean '--data.fold'?"]),
        (["demo", "--no-sigmoid"], ["unknown field --no-sigmoid"]),
        (["demo", "--lr", "1e-4"], ["unknown field --lr", "did you mean '--optim.lr'?"]),
        (["demo", "--encoder-lr=1"], ["did you mean '--optim.encoder_lr'?"]),
        (["demo", "--dropout", "1"], ["did you mean '--model.dropout'?"]),
        (["demo", "--train.steps", "many"], ["--train.steps", "many"]),
        (["demo", "--optim.lr"], ["--optim.lr", "Missing value"]),
        (["demo", "--optim.lr", "fast"], ["--optim.lr", "fast"]),
        (["demo", "--optim.lr", "-1"], ["optim.lr must be positive, not -1.0"]),
        (["demo", "--optim.lr", "nan"], ["optim.lr must be finite, not nan"]),
        (["demo", "--train.batch", "0"], ["train.batch must be positive, not 0"]),
        (["demo", "--train.budget", "-3"], ["train.budget must be positive or 'auto', not -3"]),
        (["demo", "--train.budget", "x"], ["--train.budget must be FLOAT or auto, not 'x'"]),
        (["demo", "--train.mode", "1.5"], ["train.mode must be auto, hold, replay or a share between 0 and 1"]),
        (["demo", "--model.pooling", "max"], ["--model.pooling", "'mean', 'attention'"]),
        (["demo", "--model.dropout", "1"], ["model.dropout must lie in [0, 1), not 1"]),
        (["demo", "--data.seconds", "1"], ["--data.seconds"]),
        (["demo", "--targets", "valence", "joy"], ["--targets", "joy"]),
        (["demo", "--loss", "weighted"], ["weights must give one number a target"]),
        (["demo", "--seeds", "0", "-1"], ["seeds must not be negative, not -1"]),
        (["demo", "--seeds", "1", "1"], ["seeds must name each once"]),
        (["demo", "finetune"], ["finetune"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(capsys, where, arguments, words):
    code, out, err = launch(capsys, *arguments)
    assert_one_line(code, err, *words)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert list(where.iterdir()) == []


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_terminals_encoding_changes_no_message(where, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = in_its_own_process(where, str(RECIPE), "demo", "--model.pooling", "max")
    assert_one_line(
        done.returncode, done.stderr, "invalid choice 'max' for argument '--model.pooling'. Expected one of"
    )
    assert len(done.stderr.splitlines()) == 1


def test_every_override_reaches_the_recipe():
    arguments = [
        "--seed", "7", "--optim.lr", "3e-5", "--optim.encoder_lr=1e-6", "--optim.ema", "0.9", "--optim.clip", "None",
        "--optim.schedule", "plateau", "--train.budget", "12.5", "--train.mode", "replay", "--train.trackers",
        "--data.fold", "2", "--data.allow-shared", "--model.layers", "3", "--model.no-sigmoid", "--model.uncertainty",
        "--targets", "valence", "dominance", "--loss", "mse",
        "--runs", "elsewhere", "--name", "b", "--seeds", "4", "5", "--resume", "never", "--overwrite",
    ]  # fmt: skip
    recipe, options = cli.parse("demo", experiments()["demo"], arguments)
    assert isinstance(recipe, Emotion)
    assert (recipe.seed, recipe.targets, recipe.loss) == (7, ("valence", "dominance"), "mse")
    optim = recipe.optim
    assert (optim.lr, optim.encoder_lr, optim.ema, optim.clip, optim.schedule) == (3e-5, 1e-6, 0.9, None, "plateau")
    assert (recipe.train.budget, recipe.train.mode, recipe.train.trackers) == (12.5, "replay", ())
    assert (recipe.data.fold, recipe.data.allow_shared) == (2, True)
    assert (recipe.model.layers, recipe.model.sigmoid, recipe.model.uncertainty) == (3, False, True)
    assert (str(options.runs), options.name, options.seeds) == ("elsewhere", "b", (4, 5))
    assert (options.resume, options.overwrite, options.dry_run) == ("never", True, False)


def test_what_is_not_overridden_is_the_experiments_own():
    for name, experiment in experiments().items():
        made = experiment()
        if isinstance(made, Recipe):
            assert cli.parse(name, experiment, [])[0] == made
        else:
            assert parse_workflow(name, made, [], description="")[::2] == (made, [])


def test_only_public_functions_of_the_file_are_experiments():
    def own():
        return Emotion(data=Data(root="here"))

    own.__module__ = "file"
    namespace = {"own": own, "_hidden": own, "launch": cli.launch, "number": 3, "Class": Data}
    assert list(cli.experiments_of(namespace, "file")) == ["own"]


def test_an_interruption_says_how_to_go_on(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        cli.guarded(interrupted)
    assert stop.value.code == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


# Runs


def test_dry_run_shows_recipe_and_plan_and_leaves_no_run(capsys, where, small_corpus):
    code, out, _ = launch(capsys, "demo", *small(small_corpus), "--dry-run", "--optim.lr", "0.004")
    assert code == 0
    recipe, _ = json.JSONDecoder().raw_decode(out)
    assert recipe["optim"]["lr"] == 0.004
    assert recipe["task"] == "emotion"
    assert "folds [1]; fold 1: train 24, valid 8, test 8" in out
    assert "3 steps an epoch, 2 in all, 1 ranks" in out
    assert "budget     60: 1.0 micro-batches a rank and step, padding" in out
    assert list(where.iterdir()) == []


def test_runs_are_finished_skipped_refused_named_and_overwritten(capsys, where, small_corpus):
    options = small(small_corpus)
    code, out, err = launch(capsys, "demo", *options, "--seeds", "0", "1")
    assert code == 0, err
    folders = [where / "runs" / "demo" / f"seed{seed}" / "fold1" for seed in (0, 1)]
    assert "report: runs/demo/report.md" in out
    assert "CCC-V" in out
    recipes = [json.loads((folder / "recipe.json").read_text()) for folder in folders]
    assert [recipe["seed"] for recipe in recipes] == [0, 1]
    assert all(events(folder) == ["step", "step", "eval", "selection", "end"] for folder in folders)
    assert (where / "runs" / "latest").resolve() == where / "runs" / "demo"
    said = json.loads((folders[0] / "environment.json").read_text())
    assert said["command"].endswith(f"demo {' '.join(options)} --seeds 0 1")
    before = [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders]

    # The same again: nothing is left to do.
    code, out, err = launch(capsys, "demo", *options, "--seeds", "0", "1")
    assert code == 0
    assert err.count("is finished: skipped") == 2
    assert [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders] == before
    assert "report: runs/demo/report.md" in out

    # Another recipe in the same place.
    code, _, err = launch(capsys, "demo", *options, "--optim.lr", "0.5", "--data.prosody", "egemaps")
    assert_one_line(code, err, "runs/demo/seed0/fold1", "differs in optim.lr, data.prosody", "--name", "--overwrite")
    assert [(folder / "metrics.jsonl").stat().st_mtime_ns for folder in folders] == before

    # Where and how fast it runs is not what it optimises.
    code, _, err = launch(capsys, "demo", *options, "--train.budget", "3", "--train.mode", "replay")
    assert code == 0
    assert "is finished: skipped" in err

    code, out, _ = launch(capsys, "demo", *options, "--optim.lr", "0.5", "--name", "fast")
    assert code == 0
    named = where / "runs" / "demo-fast" / "seed0" / "fold1"
    assert json.loads((named / "recipe.json").read_text())["optim"]["lr"] == 0.5
    assert (where / "runs" / "latest").resolve() == where / "runs" / "demo-fast"

    code, _, err = launch(capsys, "demo", *options, "--optim.lr", "0.25", "--overwrite")
    assert code == 0
    assert json.loads((folders[0] / "recipe.json").read_text())["optim"]["lr"] == 0.25
    assert json.loads((folders[1] / "recipe.json").read_text())["optim"]["lr"] != 0.25, "only what is run is replaced"
    # One log line is said once, however often a command ran in this process.
    assert err.count("engine single") == 1
    assert logging.getLogger("affect").propagate


def test_no_name_runs_demo_and_a_world_that_is_not_there_is_refused(capsys, where, small_corpus):
    code, _, err = launch(capsys, *small(small_corpus), "--train.world", "2")
    assert_one_line(code, err, "train.world asks for 2 processes, but 1 joined")
    assert not (where / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.fold", "9"], ["fold", "9"]),
        (["--model.encoder", "no/such-encoder"], ["no/such-encoder"]),
        (["--resume", "nowhere"], ["--resume nowhere"]),
        (["--data.corpus", "iemocap", "--data.root", "missing"], ["missing"]),
        (["--data.corpus", "emodb", "--data.root", "."], ["."]),
        (["--data.seconds", "9", "1"], ["seconds"]),
    ],
)
def test_what_only_the_data_can_tell_is_one_line_too(capsys, where, small_corpus, options, words):
    code, _, err = launch(capsys, "demo", *small(small_corpus), *options)
    assert_one_line(code, err, *words)


def test_rank_1_prints_no_table(capsys, where, small_corpus, monkeypatch):
    launch(capsys, "demo", *small(small_corpus, steps=1))
    monkeypatch.setitem(os.environ, "RANK", "1")
    from affect.experiments import folds

    monkeypatch.setattr(folds, "run", lambda *_: where / "runs" / "demo")
    code, out, _ = launch(capsys, "demo", *small(small_corpus, steps=1))
    assert (code, out) == (0, "")
