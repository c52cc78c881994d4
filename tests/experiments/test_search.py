"""A search: its ranges, its trials, what survives an interruption, and that it never looks at a test part."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

from affect import cli
from affect.cli.arguments import experiments_in, recipe_of
from affect.errors import AffectError
from affect.experiments import optuna_study
from affect.experiments import search as searching
from affect.experiments.definitions import Search, changed, resolve
from affect.experiments.optuna_study import Study
from affect.metrics import measures
from affect.options import Options
from affect.recipe import Optim
from affect.tasks.emotion.config import Emotion
from affect.tasks.emotion.task import EmotionTask
from affect.training import trainer
from affect.training.run import DivergedError, Run
from tests import forked
from tests.distributed.launch import ranks_of
from tests.launching import assert_one_line
from tests.training import runs

RECIPE = Path(__file__).with_name("two_runs.py")
FAST = ("--train.epochs", "1")


def stored(top: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{top / 'study.db'}").trials


# Ranges


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim.lr", "ranges must be FIELD=LOW..HIGH"),
        ("optim.lr=", "ranges must be FIELD=LOW..HIGH"),
        ("=1..2", "ranges must be FIELD=LOW..HIGH"),
        ("optim.lr=1..x", "ranges must be FIELD=LOW..HIGH"),
        ("optim.lr=1..2 lin", "ranges must be FIELD=LOW..HIGH"),
        ("optim.lr=2..1", "ranges must go from low to high"),
        ("optim.lr=1..1", "ranges must go from low to high"),
        ("optim.lr=0..1 log", "ranges must begin above 0 with log"),
        ("optim.lr=1|1", "ranges must list different choices"),
        ("optim.lr=1|", "ranges must list different choices"),
        ("optim.rate=0.1..1", "ranges: unknown field optim.rate; did you mean"),
        ("optim=0.1..1", "ranges: unknown field optim;"),
        ("train.batch=1.5..3", "takes whole numbers alone"),
        ("model.pooling=1..3", "takes no numbers: list its choices"),
        ("model.sigmoid=0..1", "takes no numbers"),
        ("model.dropout=0.1..1.5", "model.dropout must lie in"),
        ("model.pooling=mean|max", "model.pooling must be"),
        ("train.batch=8|many", "train.batch must be int, not 'many'"),
        ("data.fold=1|2", "says what is evaluated"),
        ("seed=0..3", "says what is evaluated"),
    ],
)
def test_a_wrong_range_is_one_line(text, words):
    with pytest.raises(AffectError) as error:
        resolve(Search(of="base", ranges=(text,)), Emotion())
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_ranges_take_the_types_of_their_fields():
    texts = (
        "optim.lr=1e-5..3e-4 log", "train.batch=8..64", "model.dropout=.1...5", "model.prosody-dim=64|128",
        "optim.clip=0.3|None", "model.layers=last|6", "model.gates=True|False",
    )  # fmt: skip
    lr, batch, dropout, prosody, clip, layers, gates = resolve(Search(of="x", ranges=texts), Emotion())
    assert (lr.kind, lr.low, lr.high, lr.log) == (float, 1e-5, 3e-4, True)
    assert (batch.kind, batch.low, batch.high, batch.log) == (int, 8, 64, False)
    assert isinstance(batch.low, int)
    assert (dropout.low, dropout.high) == (0.1, 0.5)
    assert (prosody.name, prosody.choices) == ("model.prosody_dim", (64, 128))
    assert clip.choices == (0.3, None)
    assert layers.choices == ("last", 6)
    assert gates.choices == (True, False)


def test_changed_sets_fields_and_checks_them():
    base = Emotion()
    assert changed(base, {"optim.lr": 0.5, "loss": "mse"}) == replace(base, optim=Optim(lr=0.5), loss="mse")
    with pytest.raises(AffectError, match="optim.lr must be positive"):
        changed(base, {"optim.lr": -1.0})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"trials": 0}, "trials must be positive"),
        ({"ranges": ()}, "ranges must name at least one"),
        ({"ranges": ("a=1|2", "a=3|4")}, "ranges must name each field once"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_a_wrong_search_is_one_line(fields, words):
    with pytest.raises(AffectError, match=words):
        Search(**{"of": "base", "ranges": ("optim.lr=1..2",), **fields})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trails", "3"], ["unknown field --trails", "did you mean '--trials'?"]),
        (["--optim.lrr", "3"], ["unknown field --optim.lrr", "'--optim.lr'"]),
        (["--optim.lr", "3"], ["optim.lr is one of the ranges"]),
        (["--train.epochs", "0"], ["train.epochs must be positive"]),
        (["--trials", "few"], ["--trials", "few"]),
        (["--of", "bsae"], ["unknown experiment 'bsae'", "'base'"]),
        (["--of", "ensemble"], ["ensemble is an ensemble"]),
        (["--ranges", "optim.lr=0..1"], ["optim.lr must be positive, not 0"]),
        (["--resume", "there"], ["--resume PATH is of one run"]),
        (["stray"], ["stray"]),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(launch, where, arguments, words):
    code, out, err = launch("search", *arguments)
    assert_one_line(code, err, *words)
    assert out == ""
    assert not (where / "runs").exists()


def test_help_and_dry_run(launch, where):
    code, out, _ = launch("search", "--help")
    assert code == 0
    for word in ("--trials INT", "--ranges", "--prune", "--runs", "Every other --field goes to the experiment base"):
        assert word in " ".join(out.split())
    code, out, _ = launch("search", "--dry-run", *FAST)
    assert code == 0
    assert "optim.lr: 0.0001 to 0.1 (numbers, drawn by their logarithm)" in out
    assert "train.batch: 8 or 24" in out
    assert '"epochs": 1' in out
    assert not (where / "runs").exists()


# Trials


def test_trials_are_run_once_kept_apart_and_judged_by_validation(launch, where):
    code, out, err = launch("search", "--trials", "2", *FAST)
    assert code == 0, err
    top = where / "runs" / "search"
    trials = stored(top)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    for trial in trials:
        folder = top / f"trial{trial.number}" / "seed0" / "fold1"
        recipe = json.loads((folder / "recipe.json").read_text())
        assert recipe["optim"]["lr"] == trial.params["optim.lr"]
        assert recipe["train"]["batch"] == trial.params["train.batch"]
        assert recipe["train"]["epochs"] == 1, "what is not searched goes to the experiment"
        end = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        assert end["scores"] == {"valid": end["scores"]["valid"]}
        assert trial.value == end["scores"]["valid"]["ccc"]
        assert (folder / "predictions-valid.jsonl").is_file()
        assert not [*folder.glob("*test*")], "the test part is not looked at"
    best = max(trials, key=lambda trial: trial.value)
    assert [path.parents[2].name for path in top.rglob("checkpoints")] == [f"trial{best.number}"]
    assert (where / "runs" / "latest").resolve() == top

    said = json.loads((top / "best.json").read_text())
    assert (said["trial"], said["score"], said["values"]) == (best.number, best.value, best.params)
    report = (top / "report.md").read_text()
    assert report in out
    assert shlex.join(said["command"]) in report
    rows = [line for line in report.splitlines() if "| finished |" in line]
    assert [row.split()[1] for row in rows] == [str(t.number) for t in sorted(trials, key=lambda t: -t.value)]
    assert (top / "plots" / "history.png").read_bytes()[:4] == b"\x89PNG"
    # The command is the best trial's recipe.
    at = said["command"].index("base")
    experiments = experiments_in(RECIPE)
    recipe, options = cli.parse("base", recipe_of("base", experiments), said["command"][at + 1 :])
    assert recipe.to_dict() == said["recipe"]
    assert (str(options.runs), options.name) == ("runs", "best")

    # Given again with more: finished ones are left alone.
    times = {path: path.stat().st_mtime_ns for path in top.glob("trial*/seed0/fold1/metrics.jsonl")}
    code, out, err = launch("search", "--trials", "3", *FAST)
    assert code == 0, err
    assert len(stored(top)) == 3
    assert {path: path.stat().st_mtime_ns for path in times} == times
    code, _, err = launch("search", "--trials", "3", *FAST)
    assert code == 0
    assert "trial 3" not in err
    # What is drawn does not depend on where the search was interrupted.
    assert launch("search", "--trials", "3", *FAST, "--name", "whole")[0] == 0
    assert [t.params for t in stored(where / "runs" / "search-whole")] == [t.params for t in stored(top)]

    code, _, err = launch("search", "--trials", "3", "--train.epochs", "2", "--seed", "3")
    assert_one_line(code, err, "runs/search holds a search that differs in seed, recipe.train.epochs", "--overwrite")
    code, _, err = launch("search", "--trials", "1", "--train.epochs", "2", "--overwrite")
    assert code == 0, err
    assert len(stored(top)) == 1


def test_an_interrupted_trial_is_resumed_with_its_values(launch, where, monkeypatch):
    real, calls = Run.update, []

    def interrupted(self, *arguments):
        calls.append(self.folder)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, *arguments)

    options = ("search", "--trials", "2", "--train.epochs", "2", "--ranges", "optim.lr=1e-4..1e-2 log", "--no-prune")
    monkeypatch.setattr(Run, "update", interrupted)
    assert launch(*options)[0] == 130
    top = where / "runs" / "search"
    (left,) = stored(top)
    assert left.state.name == "RUNNING"
    code, _, err = launch(*options)
    assert code == 0, err
    assert "resuming" in err
    first, second = stored(top)
    assert first.params == left.params
    assert (first.state.name, second.state.name) == ("COMPLETE", "COMPLETE")
    assert len(calls) == 5 + (6 - 3) + 6, "one step is repeated: that of the interruption, and its epoch's"
    assert launch(*options, "--name", "whole")[0] == 0
    assert [trial.value for trial in stored(where / "runs" / "search-whole")] == [first.value, second.value]


def test_a_trial_that_always_ends_the_search_counts_as_failed(launch, where, monkeypatch):
    def killed(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train", killed)
        for _ in range(3):
            assert launch("search", "--trials", "2", *FAST)[0] == 130
    code, out, err = launch("search", "--trials", "2", *FAST)
    assert code == 0, err
    assert [trial.state.name for trial in stored(where / "runs" / "search")] == ["FAIL", "COMPLETE"]
    assert "ended the search unfinished 3 times" in out


@pytest.mark.parametrize("error", [DivergedError("step 3: the loss is not a finite number"), MemoryError()])
def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(launch, where, monkeypatch, error):
    real = trainer.train

    def failing(run):
        if "trial1/" in str(run.folder):
            raise error
        return real(run)

    monkeypatch.setattr(trainer, "train", failing)
    code, out, err = launch("search", "--trials", "3", *FAST)
    assert code == 0, err
    states = [trial.state.name for trial in stored(where / "runs" / "search")]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    words = "not a finite number" if isinstance(error, DivergedError) else "out of memory"
    assert words in out, "the table says why"
    assert "trial 1 failed" in err


def test_where_every_trial_fails_the_search_stops(launch, where, monkeypatch):
    def failing(run):
        raise DivergedError("step 1: the loss is not a finite number")

    monkeypatch.setattr(trainer, "train", failing)
    code, _, err = launch("search", "--trials", "9", *FAST)
    assert_one_line(code, err, "the first 3 trials failed", "not a finite number")
    assert len(stored(where / "runs" / "search")) == 3


def test_a_full_disk_is_no_fault_of_the_trial(launch, where, monkeypatch):
    def failing(run):
        raise AffectError("could not write x") from OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "train", failing)
    code, _, err = launch("search", "--trials", "9", *FAST)
    assert_one_line(code, err, "could not write x")
    assert [trial.state.name for trial in stored(where / "runs" / "search")] == ["RUNNING"]


@pytest.mark.parametrize("sign", [1, -1])
def test_hopeless_trials_are_pruned_by_the_median(tmp_path, sign):
    """Five good trials, then a bad one: pruned at its first score, unless that is switched off."""
    ranges = ("optim.lr=1e-4..1e-1 log",)
    for prune in (True, False):
        folder = tmp_path / str(prune)
        folder.mkdir()
        search = Search(of="base", ranges=ranges, trials=6, prune=prune)
        study = Study(folder, search, resolve(search, Emotion()), sign)
        for score in (0.5, 0.6, 0.7, 0.8, 0.9):
            trial = study.next()
            assert not study.report(trial.number, 0, sign * score)
            study.finish(trial.number, sign * score)
        trial = study.next()
        assert not study.report(trial.number, 0, math.nan), "a score that is not defined is compared with none"
        assert study.report(trial.number, 0, sign * 0.65) is prune
        assert study.report(trial.number, 0, sign * 0.65) is prune, "an epoch that is repeated is no error"
        study.finish(trial.number, None, pruned=True)
        assert [found.score for found in study.trials()[:5]] == [sign * s for s in (0.9, 0.8, 0.7, 0.6, 0.5)]
        assert study.trials()[-1].state == "pruned"
        assert study.trials()[-1].score == sign * 0.65
        stored_study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'study.db'}")
        assert stored_study.direction.name == ("MAXIMIZE" if sign > 0 else "MINIMIZE")
        assert stored_study.best_value == sign * 0.9
        assert study.next() is None
        assert set(study.importance()) == {"optim.lr"}
        study.close()


def test_a_search_takes_the_lowest_where_lower_is_better(tmp_path, monkeypatch, small_corpus):
    """Of a task whose first measure is an error: trials, best weights and the command are those of the least."""
    ranges = ("optim.lr=1e-4..0.3 log",)
    base = replace(runs.recipe(small_corpus, epochs=2), targets=("valence",))
    monkeypatch.setattr(EmotionTask, "measures", [measures.rmse("valence")])
    made = Search(of="base", ranges=ranges, trials=3, prune=False)
    options = Options(runs=tmp_path / "runs", seeds=(0,), report=False)
    top = searching.run("search", made, base, options, "a command", again=["base"])
    values = [trial.value for trial in stored(top)]
    assert len(set(values)) == 3
    best = min(values)
    said = json.loads((top / "best.json").read_text())
    assert (said["score"], said["trial"]) == (best, values.index(best))
    assert [path.parents[2].name for path in top.rglob("checkpoints")] == [f"trial{values.index(best)}"]
    for number, value in enumerate(values):
        folder = top / f"trial{number}" / "seed0" / "fold1"
        assert value == pytest.approx(min(line["score"] for line in runs.lines(folder, "selection")), rel=1e-5)


def test_the_same_values_are_not_trained_twice(tmp_path):
    search = Search(of="base", ranges=("train.batch=8|16",), trials=12)
    study = Study(tmp_path, search, resolve(search, Emotion()), 1)
    run = []
    while (trial := study.next()) is not None:
        run.append(trial.values["train.batch"])
        study.finish(trial.number, float(run[-1]))
    assert sorted(run) == [8, 16]
    assert len(study.trials()) == 12
    assert {t.score for t in study.trials() if t.note.startswith("the values of trial")} <= {8.0, 16.0}
    study.close()


def test_seeds_and_folds_are_averaged(launch, where):
    code, _, err = launch("search", "--trials", "1", "--seeds", "0", "1", *FAST)
    assert code == 0, err
    top = where / "runs" / "search"
    ends = [json.loads(p.read_text().splitlines()[-1]) for p in sorted(top.glob("trial0/seed*/fold1/metrics.jsonl"))]
    assert len(ends) == 2
    assert stored(top)[0].value == pytest.approx(sum(end["scores"]["valid"]["ccc"] for end in ends) / 2, abs=1e-12)


def test_a_study_that_is_kept_and_a_corrupt_one_are_one_line(launch, where, monkeypatch):
    top = where / "runs" / "search"
    top.mkdir(parents=True)
    monkeypatch.setattr(optuna_study, "_WAIT", 0.1)
    with FileLock(top / "study.lock"):
        code, _, err = launch("search", "--trials", "1", *FAST)
    assert_one_line(code, err, "study.db is kept by another process")
    (top / "study.db").write_text("not a database, and long enough to be read as a page of one" * 40)
    code, _, err = launch("search", "--trials", "1", *FAST)
    assert_one_line(code, err, "study.db can't be used", "not a database")
    (top / "trial0").mkdir()
    with FileLock(top / "trial0" / ".lock"):
        code, _, err = launch("search", "--trials", "1", *FAST, "--overwrite")
    assert_one_line(code, err, "another process searches in runs/search")
    assert (top / "study.db").exists()


# Several processes


def test_a_trial_is_of_one_process_and_of_another_once_that_has_ended(tmp_path):
    search = Search(of="base", ranges=("optim.lr=1e-4..1e-1 log",), trials=3)
    one, other = (Study(tmp_path, search, resolve(search, Emotion()), 1) for _ in range(2))
    first, second = one.next(), other.next()
    assert (first.number, second.number) == (0, 1)
    assert first.values != second.values
    assert [trial.state for trial in one.trials()] == ["running"] * 2
    other.close()
    assert [(trial.number, trial.state) for trial in one.trials()] == [(0, "running"), (1, "interrupted")]
    assert one.next() == replace(second, state="interrupted"), "with its values"
    third = Study(tmp_path, search, resolve(search, Emotion()), 1)
    assert third.next().number == 2
    assert one.next() is None, "all are run or running"
    for trial in (0, 1):
        one.finish(trial, 0.5)
    third.finish(2, 0.7)
    assert [trial.number for trial in one.trials()] == [2, 0, 1]
    assert not [*tmp_path.rglob(".lock")]
    one.close()
    third.close()


def waited_for(path: Path) -> Path:
    """Wait until another process has made `path`."""
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} has not come"
        time.sleep(0.02)
    return path


def test_two_processes_share_a_search_and_one_takes_up_what_the_other_was_killed_in(launch, where, monkeypatch):
    """The other one ends trial 0 while trial 1 is under way here, and is killed in trial 2."""
    options = ("search", "--trials", "3", "--ranges", "optim.lr=1e-4..1e-1 log", *FAST)
    top, real = where / "runs" / "search", trainer.train

    def theirs(run):
        if "trial0/" not in str(run.folder):
            os.kill(os.getpid(), signal.SIGKILL)
        waited_for(top / "trial1" / "seed0" / "fold1" / "checkpoints")
        return real(run)

    def other():
        trainer.train = theirs
        cli.launch(experiments_in(RECIPE), options)

    def ours(run):
        if "trial1/" in str(run.folder):
            kept = run.folder / "checkpoints"
            kept.mkdir(exist_ok=True)
            assert killed.result().returncode == -signal.SIGKILL, killed.result().stderr
            assert kept.exists(), "weights of a trial that is under way"
        assert "trial0/" not in str(run.folder)
        return real(run)

    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(forked.program, other)
        waited_for(top / "trial0" / ".lock")
        monkeypatch.setattr(trainer, "train", ours)
        code, out, err = launch(*options)
    assert code == 0, err
    trials = stored(top)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert [trial.user_attrs["starts"] for trial in trials] == [1, 1, 2]
    best = max(trials, key=lambda trial: trial.value)
    assert json.loads((top / "best.json").read_text())["trial"] == best.number
    assert out.count("| finished |") == 3
    assert [path.parents[2].name for path in top.rglob("checkpoints")] == [f"trial{best.number}"]


def test_a_folder_of_runs_is_no_place_for_a_search(launch, where):
    (where / "runs" / "search" / "seed0" / "fold1").mkdir(parents=True)
    assert_one_line(*launch("search", *FAST)[::2], "runs/search holds runs of an experiment")
    assert_one_line(*launch("search", *FAST, "--overwrite")[::2], "runs/search is not a search's folder")


@pytest.mark.distributed
def test_two_processes_agree_on_the_trial(launch, where):
    # Dropout draws other masks on other ranks, so it is left out.
    options = ["search", "--trials", "2", *FAST, "--ranges", "optim.lr=1e-4..1e-1 log", "train.batch=8|24"]
    assert launch(*options, "--name", "one")[0] == 0
    done = ranks_of(lambda: cli.launch(experiments_in(RECIPE), sys.argv[1:]), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("# search: a search over base") == 1
    one, two = stored(where / "runs" / "search-one"), stored(where / "runs" / "search")
    assert [trial.params for trial in two] == [trial.params for trial in one]
    for ours, theirs in zip(two, one, strict=True):
        assert ours.value == pytest.approx(theirs.value, abs=1e-4)
    said = json.loads((where / "runs" / "search" / "trial0" / "seed0" / "fold1" / "environment.json").read_text())
    assert said["world"] == 2


def test_the_study_is_plain_sqlite(launch, where):
    assert launch("search", "--trials", "1", *FAST)[0] == 0
    with sqlite3.connect(where / "runs" / "search" / "study.db") as study:
        assert study.execute("select count(*) from trials").fetchone() == (1,)
