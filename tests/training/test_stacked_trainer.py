"""Runs that train together: what each writes is what it would write alone, whatever happens to the others."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import shutil

import numpy as np
import pytest
import torch

from affect import tasks
from affect.data.conditions import NAMES
from affect.errors import AffectError
from affect.experiments import folds
from affect.options import Options
from affect.training import run as run_module
from affect.training import run_dir, stacked_trainer
from affect.training.distributed import join
from affect.training.run import Run
from tests.tasks.multimodal_emotion import small


@pytest.fixture(scope="module")
def corpus(feature_corpus):
    return feature_corpus


def robust(corpus, dropout=0.3, **changes):
    """Return a recipe with every kind of randomness, or without any."""
    base = small.recipe(corpus, name="attention_robust", dropout=dropout, modality_dropout=dropout)
    return small.with_(base, **{"optim__algorithm": "adamw", **changes})


def rows(folder, part):
    return small.read(folder / f"predictions-{part}.jsonl")


def close(found, wanted, tolerance):
    """Hold that two runs predict the same, to rounding."""
    assert [row["id"] for row in found] == [row["id"] for row in wanted]
    for name in ("logits", "probability", "valence"):
        one, other = (np.array([values(row, name) for row in side]) for side in (found, wanted))
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=tolerance)


def values(row, name):
    if name == "valence":
        return row["prediction"]["valence"]
    return row["logits"] if name == "logits" else list(row["probability"]["emotion"].values())


def compare(found, wanted, tolerance=1e-5):
    """Hold that an experiment's runs have the steps, scores and choices of another's, to rounding."""
    assert small.folders(found)
    for mine in small.folders(found):
        its = wanted / mine.relative_to(found)
        assert len(small.losses(its)) > 0
        np.testing.assert_allclose(small.losses(mine), small.losses(its), rtol=tolerance)
        for a, b in zip(small.read(mine / "metrics.jsonl"), small.read(its / "metrics.jsonl"), strict=True):
            assert list(a) == list(b), "the same keys in the same order, event by event"
            same = ("event", "evaluation", "step", "epoch", "lr", "schedule", "kept", "best_step", "best_epoch")
            assert [a.get(name) for name in same] == [b.get(name) for name in same]
            assert a.get("grad_norm", 0.0) == pytest.approx(b.get("grad_norm", 0.0), rel=1e-4)
        close(rows(mine, "valid"), rows(its, "valid"), 1e-4)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """Two seeds of two folds, in one stack and in one go."""
    return small.train(small.with_(robust(corpus), together=4), tmp_path_factory.mktemp("whole") / "runs")


def test_a_stack_one_after_another_and_the_trainer_are_one_run(corpus, whole, tmp_path):
    """On two processes, too: tests/distributed/test_multimodal.py."""
    recipe = robust(corpus)
    one = small.train(small.with_(recipe, together=1), tmp_path / "one", seeds=(0,))
    trained = small.train(recipe, tmp_path / "trainer", stacked=False)
    compare(trained, whole)
    compare(one, trained)
    runs = [small.losses(folder) for folder in small.folders(trained)]
    assert len(runs) == 4
    assert len({tuple(losses) for losses in runs}) == 4, "each seed and fold is a run of its own"
    assert all(len(losses) == 9 for losses in runs)


@pytest.mark.parametrize("traced_from", [1, 2000])
def test_alone_it_is_the_trainers_to_the_byte(corpus, tmp_path, monkeypatch, traced_from):
    """Weights, scores and predictions, under conditions too; of the lines, losses and norms are rounded otherwise."""
    monkeypatch.setattr(stacked_trainer, "_MANY", traced_from)
    recipe = robust(corpus, train__epochs=2, data__fold=1)
    one = small.train(small.with_(recipe, together=1), tmp_path / "one", seeds=(0,), only=None)
    loop = small.train(recipe, tmp_path / "loop", seeds=(0,), only=None, stacked=False)
    for mine, its in zip(small.folders(one), small.folders(loop), strict=True):
        assert small.weights(mine) == small.weights(its)
        names = {path.relative_to(its).as_posix() for path in its.rglob("*")}
        assert {path.relative_to(mine).as_posix() for path in mine.rglob("*")} == names
        predicted = [name for name in sorted(names) if name.startswith(("predictions-", "baseline-"))]
        assert len(predicted) == 8 + 1
        assert len([name for name in run_dir.predicted(mine) if "@" in name]) == 4 * len(NAMES)
        for name in predicted:
            assert (mine / name).read_bytes() == (its / name).read_bytes(), name
        for event in ("eval", "selection", "end"):
            assert small.lines(mine, event) == small.lines(its, event)
        for a, b in zip(small.lines(mine, "step"), small.lines(its, "step"), strict=True):
            free = ("loss", "terms", "grad_norm")
            assert {k: v for k, v in a.items() if k not in free} == {k: v for k, v in b.items() if k not in free}
            assert a["terms"] == pytest.approx(b["terms"], rel=2e-7)
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-5)


@pytest.mark.parametrize("defined", [True, False])
def test_the_log_says_which_runs_are_in_the_stack_how_far_they_are_and_their_loss(
    corpus, tmp_path, monkeypatch, caplog, defined
):
    caplog.set_level(logging.INFO, logger="affect")
    monkeypatch.setattr(stacked_trainer, "_SAYS", 0.0)
    if not defined:
        monkeypatch.setattr(run_module, "measured", lambda measures, rows: {m.name: math.nan for m in measures})
    top = tmp_path / "runs"
    # Labels that define no score end it after its last step.
    with contextlib.nullcontext() if defined else pytest.raises(AffectError, match="defined on no evaluation"):
        small.train(small.with_(robust(corpus, train__epochs=2), together=3), top, only=())
    said = [line for line in caplog.text.splitlines() if " runs over" in line]
    assert "runs 1 to 3 of 4: seed 0 of folds 1, 2; seed 1 of fold 1\n" in caplog.text
    best = r", mean best \S+ -?[\d.]+" if defined else ""
    wanted = [(1, 0, 3), (2, 3, 3), (1, 0, 1), (2, 1, 1)]
    for line, (epoch, over, runs) in zip(said, wanted if defined else wanted[:2], strict=True):
        left = "" if epoch == 2 else r"; \d:\d\d:\d\d left"
        assert re.search(rf"epoch {epoch} of 2: loss [\d.]+{best}; {over} of {runs} runs over{left}$", line), line
    if not defined:
        return
    assert "runs 4 to 4 of 4: seed 1 of fold 2\n" in caplog.text
    alone = small.losses(top / "seed1" / "fold2")
    assert all(f": loss {np.mean(own):.3f}" in line for own, line in zip((alone[:3], alone[3:]), said[2:], strict=True))
    stack = [small.losses(top / place) for place in ("seed0/fold1", "seed0/fold2", "seed1/fold1")]
    assert f": loss {np.mean([own[:3] for own in stack]):.3f}" in said[0]


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ([(0, 1)], "seed 0 of fold 1"),
        ([(s, f) for s in range(3) for f in range(1, 6)] + [(3, 1)], "seeds 0 to 2 of folds 1 to 5; seed 3 of fold 1"),
        ([(7, 2), (7, 3), (7, 5), (9, 2), (9, 3), (9, 5)], "seeds 7, 9 of folds 2, 3, 5"),
    ],
)
def test_seeds_and_folds_in_words(units, words):
    assert folds._in_words(units) == words


CHANGES = {
    "clipped, Adam, seldom evaluated": {
        "optim__clip": 0.5,
        "optim__algorithm": "adam",
        "optim__weight_decay": 0.1,
        "train__evaluate_every": 2,
        "train__checkpoint_every": 3,
    },
    "clipped by value, averaged weights, cosine, cut short": {
        "optim__clip_value": 0.01,
        "optim__ema": 0.9,
        "optim__schedule": "cosine",
        "optim__warmup": 0.2,
        "train__steps": 7,
    },
    "clipped by a percentile, one cycle, the last weights": {
        "optim__clip_percentile": 30.0,
        "optim__schedule": "onecycle",
        "optim__warmup": 0.3,
        "train__choose": "last",
    },
    "chosen by subsets, the mean of the best": {"choose": "subsets", "train__average_best": 2},
}
"""Settings that have nothing to do with each other, several at once."""


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_means_what_it_means_alone(corpus, tmp_path, name):
    recipe = robust(corpus, **CHANGES[name])
    stack = small.train(small.with_(recipe, together=2), tmp_path / "stack", seeds=(0,))
    loop = small.train(recipe, tmp_path / "loop", seeds=(0,), stacked=False)
    compare(stack, loop)


OTHERS = {
    "ours": {"softmax": "masked", "missing": "token", "dropout_kind": "balanced", "normalise": True},
    "views": {"softmax": "masked", "missing": "token", "dropout_kind": "balanced", "views": 0.5},
    "imputation": {"imputation": 0.5},
    "contrastive": {"contrastive": 0.2},
}


@pytest.mark.parametrize("name", [*OTHERS, "misa", "mmim", "lmf", "tfn", "lf_dnn"])
def test_every_model_trains_in_a_stack_as_alone(corpus, tmp_path, name):
    model = OTHERS.get(name, {"name": name})
    recipe = small.recipe(corpus, dropout=0.3, epochs=1, modality_dropout=0.4, **model)
    stack = small.train(small.with_(recipe, together=2), tmp_path / "stack", seeds=(0,))
    loop = small.train(recipe, tmp_path / "loop", seeds=(0,), stacked=False)
    compare(stack, loop, tolerance=1e-4 if name == "misa" else 1e-5)


def wavering(corpus, **changes):
    """Return a recipe whose scores rise and fall, so that runs part ways."""
    return robust(corpus, optim__lr=0.05, **changes)


def test_runs_that_stop_early_each_at_their_own_epoch(corpus, tmp_path):
    recipe = wavering(corpus, train__epochs=8, train__patience=1)
    stack = small.train(small.with_(recipe, together=4), tmp_path / "stack")
    loop = small.train(recipe, tmp_path / "loop", stacked=False)
    found = [small.lines(folder, "end")[0] for folder in small.folders(stack)]
    wanted = [small.lines(folder, "end")[0] for folder in small.folders(loop)]
    keys = ("step", "best_step", "best_epoch")
    assert [[end[key] for key in keys] for end in found] == [[end[key] for key in keys] for end in wanted]
    assert len({end["step"] for end in found}) > 1, "they part ways"
    for folder, end in zip(small.folders(stack), found, strict=True):
        state = json.loads(max((folder / "checkpoints").glob("step-*/state.json")).read_text())
        assert state["stopped"] == (end["step"] < 24)


def rates(folder):
    return [line["lr"]["all"] for line in small.lines(folder, "step")]


def test_rates_fall_for_each_on_its_own(corpus, tmp_path):
    recipe = wavering(corpus, optim__schedule="plateau", optim__plateau_patience=1, train__epochs=5)
    stack = small.train(small.with_(recipe, together=4), tmp_path / "stack")
    loop = small.train(recipe, tmp_path / "loop", stacked=False)
    courses = [
        [[line["lr"]["all"] for line in small.lines(f, "step")] for f in small.folders(t)] for t in (stack, loop)
    ]
    assert courses[0] == courses[1]
    assert len({tuple(course) for course in courses[0]}) > 1, "they part ways"
    assert min(min(course) for course in courses[0]) < 0.05


class Stop:
    """Interrupts after so many epochs, as ctrl-C in an epoch's pause would."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, runs):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("width", "calls", "every"), [(4, 2, 2), (2, 5, 1), (1, 8, 2)])
def test_an_interrupted_experiment_goes_on_as_if_nothing_had_been(corpus, tmp_path, monkeypatch, width, calls, every):
    """Also where some had come to their end, and others had not begun; a run alone is traced from its second step."""
    monkeypatch.setattr(stacked_trainer, "_MANY", 1)
    recipe = robust(corpus, together=width, train__checkpoint_every=every, optim__ema=0.9)
    whole = small.train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        small.train(recipe, tmp_path / "cut", watch=Stop(calls))
    cut = tmp_path / "cut"
    ended = sum((folder / "predictions-valid.jsonl").exists() for folder in small.folders(cut))
    assert ended == {4: 0, 2: 2, 1: 2}[width]
    small.train(recipe, cut)
    for mine, its in zip(small.folders(cut), small.folders(whole), strict=True):
        assert (mine / "metrics.jsonl").read_bytes() == (its / "metrics.jsonl").read_bytes()
        assert (mine / "predictions-valid.jsonl").read_bytes() == (its / "predictions-valid.jsonl").read_bytes()
        assert small.weights(mine) == small.weights(its)


def test_what_a_kill_costs_is_bounded_inside_an_epoch_too(corpus, tmp_path):
    recipe = robust(corpus, together=4, train__checkpoint_every=100, train__checkpoint_minutes=1e-9)
    with pytest.raises(KeyboardInterrupt):
        small.train(recipe, tmp_path / "cut", watch=Stop(1))
    for folder in small.folders(tmp_path / "cut"):
        assert sorted(path.name for path in folder.glob("checkpoints/step-*")) == ["step-0000001", "step-0000002"]


def test_runs_that_stand_at_different_epochs_catch_up(corpus, whole, tmp_path):
    """One had taken two epochs, three none: those go first, and the last epochs are of all."""
    recipe = robust(corpus)
    with pytest.raises(KeyboardInterrupt):
        small.train(small.with_(recipe, together=1), tmp_path / "cut", watch=Stop(2))
    seen = []
    cut = small.train(small.with_(recipe, together=4), tmp_path / "cut", watch=lambda some: seen.append(len(some)))
    assert seen == [3, 3, 4]
    compare(cut, whole)


def test_the_width_may_change_between_sessions(corpus, whole, tmp_path):
    recipe = robust(corpus)
    with pytest.raises(KeyboardInterrupt):
        small.train(small.with_(recipe, together=4), tmp_path / "cut", seeds=(0,), watch=Stop(2))
    cut = small.train(small.with_(recipe, together=1), tmp_path / "cut", seeds=(0,))
    compare(cut, whole)


def test_the_trainer_goes_on_where_a_stack_stopped(corpus, whole, tmp_path):
    """An experiment that was begun in one process and is ended by two is one experiment."""
    recipe = robust(corpus)
    with pytest.raises(KeyboardInterrupt):
        small.train(recipe, tmp_path / "cut", seeds=(0,), watch=Stop(1))
    compare(small.train(recipe, tmp_path / "cut", seeds=(0,), stacked=False), whole)


def place(run: Run) -> str:
    return f"{run.folder.parent.name}/{run.folder.name}"


class Poison:
    """Makes the weights of some runs no numbers after their first epoch."""

    def __init__(self, *names):
        self.names = set(names)

    def __call__(self, runs):
        for run in runs:
            if place(run) in self.names and run.state.step == run.schedule.per_epoch:
                with torch.no_grad():
                    run.parameters[0].fill_(float("nan"))


@pytest.mark.parametrize("width", [4, 1])
def test_a_run_that_diverges_is_left_out(corpus, whole, tmp_path, width):
    recipe = robust(corpus, together=width)
    with pytest.raises(AffectError) as error:
        small.train(recipe, tmp_path / "some", watch=Poison("seed1/fold1"))
    assert "\n" not in str(error.value)
    assert "1 of 4 runs diverged" in str(error.value)
    assert "seed1/fold1: step 4: the loss is not a finite number; lower the rates or optim.clip" in str(error.value)
    for mine, its in zip(small.folders(tmp_path / "some"), small.folders(whole), strict=True):
        bad = mine == tmp_path / "some" / "seed1" / "fold1"
        assert bool(small.lines(mine, "end")) != bad
        assert (mine / "predictions-valid.jsonl").exists() != bad
        if not bad:
            np.testing.assert_allclose(small.losses(mine), small.losses(its), rtol=1e-5)
            close(rows(mine, "valid"), rows(its, "valid"), 1e-4)
    small.train(recipe, tmp_path / "some")
    again = tmp_path / "some" / "seed1" / "fold1"
    np.testing.assert_allclose(small.losses(again), small.losses(whole / "seed1" / "fold1"), rtol=1e-5)


def test_all_may_diverge(corpus, tmp_path):
    """A rate so high that the first steps overflow."""
    recipe = robust(corpus, optim__lr=1e3, together=4)
    with pytest.raises(AffectError, match="4 of 4 runs diverged"):
        small.train(recipe, tmp_path / "all")
    assert not any(small.lines(folder, "end") for folder in small.folders(tmp_path / "all"))


def test_the_warning_names_the_run_and_goes_to_its_log(corpus, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "affect"), pytest.raises(AffectError):
        small.train(robust(corpus), tmp_path / "top", seeds=(0,), watch=Poison("seed0/fold2"))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "seed0/fold2" in warned[0] and "the other runs go on" in warned[0]


def test_a_log_holds_its_own_epochs(corpus, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "affect"):
        small.train(robust(corpus), tmp_path / "top", seeds=(0,))
    for folder in small.folders(tmp_path / "top"):
        text = (folder / "train.log").read_text()
        assert [f"epoch {k} of 3: " in text for k in (1, 2, 3, 4)] == [True, True, True, False]
        assert text.count("epoch 1 of 3: ") == 1


def test_finished_runs_are_skipped_and_others_added(corpus, whole, tmp_path):
    recipe = robust(corpus)
    top = small.train(recipe, tmp_path / "top", seeds=(0,))
    before = {path: path.stat().st_mtime_ns for path in top.rglob("*.jsonl")}
    task, units = tasks.make(recipe), [(0, 1), (0, 2)]
    found = folds.run_together("test", task, top, units, Options(), "a command", only=("valid",))
    assert {path: path.stat().st_mtime_ns for path in top.rglob("*.jsonl")} == before
    for (seed, fold), scores in found.items():
        assert scores == small.lines(folds.folder_of(top, seed, fold), "end")[0]["scores"]
    small.train(recipe, top, seeds=(0, 1))
    assert len(small.folders(top)) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    compare(top, whole)


def test_overwrite_runs_again(corpus, tmp_path):
    top = small.train(robust(corpus), tmp_path / "top", seeds=(0,))
    marks = [folder / "mark" for folder in small.folders(top)]
    for mark in marks:
        mark.touch()
    texts = [(folder / "metrics.jsonl").read_text() for folder in small.folders(top)]
    small.train(robust(corpus), top, seeds=(0,), overwrite=True)
    assert not any(mark.exists() for mark in marks), "what was there is gone"
    assert [(folder / "metrics.jsonl").read_text() for folder in small.folders(top)] == texts
    other = robust(corpus, optim__lr=1e-3)
    with pytest.raises(AffectError, match=r"differs in optim\.lr: give --name, or --overwrite"):
        small.train(other, top, seeds=(0,))
    small.train(other, top, seeds=(0,), overwrite=True)
    assert small.lines(small.folders(top)[0], "step")[0]["lr"] == {"all": 1e-3}


def test_never_starts_anew(corpus, whole, tmp_path):
    recipe = robust(corpus)
    with pytest.raises(KeyboardInterrupt):
        small.train(recipe, tmp_path / "top", seeds=(0,), watch=Stop(2))
    small.train(recipe, tmp_path / "top", seeds=(0,), resume="never")
    compare(tmp_path / "top", whole)


def test_a_checkpoint_can_be_of_one_run_alone(corpus, tmp_path):
    top = small.train(robust(corpus), tmp_path / "top", seeds=(0,))
    path = next(small.folders(top)[0].glob("checkpoints/step-*"))
    with pytest.raises(AffectError, match="--resume PATH is of one run alone"):
        small.train(robust(corpus), top, seeds=(0,), resume=str(path))


def test_a_run_that_was_trained_and_not_ended_is_only_ended(corpus, tmp_path):
    top = small.train(robust(corpus), tmp_path / "top", seeds=(0,))
    folder = small.folders(top)[0]
    kept = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text("".join(kept.splitlines(keepends=True)[:-1]))
    (folder / "predictions-valid.jsonl").unlink()
    shutil.rmtree(small.folders(top)[1])
    small.train(robust(corpus), top, seeds=(0,))
    assert (folder / "metrics.jsonl").read_text() == kept
    assert (folder / "predictions-valid.jsonl").exists()


def test_a_watch_sees_every_epoch_of_every_run(corpus, tmp_path):
    seen = []
    small.train(robust(corpus, together=3), tmp_path / "top", watch=lambda runs: seen.append(
        [(place(run), run.state.step) for run in runs]))  # fmt: skip
    assert [len(group) for group in seen] == [3] * 3 + [1] * 3
    assert sorted(pair for group in seen for pair in group) == sorted(
        (f"seed{s}/fold{f}", step) for s in (0, 1) for f in (1, 2) for step in (3, 6, 9)
    )


def test_the_model_decides_how_many_make_a_stack(corpus, monkeypatch):
    """As many as the cache holds with weights, gradients and two moments each; a named number otherwise."""
    task = tasks.make(robust(corpus)).for_fold(0, 1)
    numbers = sum(p.numel() for p in task.build_model().parameters())
    for cache, named, wanted in ((2.5, None, 2), (0.5, None, 1), (1000, None, 60), (0.5, 3, 3)):
        monkeypatch.setattr(stacked_trainer, "_CACHE", cache * numbers)
        task.together = named
        assert stacked_trainer.width(join(), task) == wanted


def test_who_can():
    class Some:
        world, precision = 1, "no"

    def engine(**changes):
        return type("Engine", (Some,), changes)

    task = tasks.make(small.recipe("nowhere"))
    assert stacked_trainer.can_stack(join(), task)
    assert stacked_trainer.can_stack(engine(precision="bf16"), task)
    assert not stacked_trainer.can_stack(engine(world=2), task)
    assert not stacked_trainer.can_stack(engine(precision="fp16"), task)
    watched = small.with_(small.recipe("nowhere"), train__diagnostics_every=3)
    assert not stacked_trainer.can_stack(join(), tasks.make(watched)), "diagnostics are the trainer's"
    from affect.tasks.emotion.config import Emotion

    assert not stacked_trainer.can_stack(join(), tasks.make(Emotion())), "no task of features"
