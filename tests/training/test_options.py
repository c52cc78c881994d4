"""Options of a run that its steps or its end follow: each on a whole small run, and through a resume."""

from __future__ import annotations

import copy
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from affect import tasks
from affect.errors import AffectError
from affect.experiments import folds
from affect.losses.weighting import FAMO, DynamicWeightAverage, RandomLossWeighting
from affect.models import saving
from affect.options import Options
from affect.recipe import Train
from affect.task import Weighting
from affect.training import optim, run_logging, step, trainer
from tests.tasks.emotion import small
from tests.training import runs, toy_task
from tests.training.toy_task import ToyTask, lines, make, recipe, train


def same(one, other) -> None:
    """Hold that two runs wrote the same, to the byte."""
    for name in ("metrics.jsonl", "predictions-valid.jsonl", "predictions-dark.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for path in (one / "checkpoints").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path.name


# The mean of the best weights

AVERAGED = {"epochs": 6, "average_best": 3, "keep": 9}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged") / "run"
    train(ToyTask(recipe(optim={"lr": 0.05}, train=AVERAGED)), folder)
    return folder


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_mean_of_the_best_is_kept_and_predicted(tmp_path, better, caplog):
    caplog.set_level(logging.INFO, logger="affect")
    folder = tmp_path / "run"
    scores = train(ToyTask(recipe(better=better, optim={"lr": 0.05}, train=AVERAGED)), folder)
    judged = [(line["score"] * (1 if better == "higher" else -1), line["step"]) for line in lines(folder, "selection")]
    steps = sorted(number for _, number in sorted(judged, reverse=True)[:3])
    models = [load_file(folder / f"checkpoints/step-{number:07d}/model.safetensors") for number in steps]
    kept = load_file(folder / "checkpoints" / "best" / "model.safetensors")
    for name, value in kept.items():
        torch.testing.assert_close(value, torch.stack([model[name] for model in models]).mean(0))
    assert any(not torch.equal(kept[name], value) for name, value in models[-1].items())
    assert f"the mean of the 3 best weights is kept (steps {steps})" in caplog.text
    assert not (folder / "checkpoints" / "candidates").exists(), "nothing reads them any more"
    (end,) = lines(folder, "end")
    assert end["best_step"] == max(judged)[1]
    name = "ccc_valence" if better == "higher" else "mse_arousal"
    assert scores["valid"][name] != pytest.approx(abs(max(judged)[0]), rel=1e-6), "they are predicted anew"


def test_of_one_the_best_is_kept(tmp_path):
    folder = tmp_path / "run"
    train(ToyTask(recipe(train={"epochs": 3})), folder)
    assert not (folder / "checkpoints" / "candidates").exists()


@pytest.mark.parametrize("at", [8, 14])
def test_an_averaged_run_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch, averaged, at):
    task, folder = ToyTask(recipe(optim={"lr": 0.05}, train=AVERAGED)), tmp_path / "run"
    runs.interrupt(make(task, folder), at, monkeypatch)
    train(task, folder)
    same(folder, averaged)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run killed when the mean stood where the best weights were, and before its end was written."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    write = run_logging.Journal.write

    def dying(journal, name, line):
        if line.get("event") == "end":
            raise KeyboardInterrupt
        write(journal, name, line)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_logging.Journal, "write", dying)
        train(ToyTask(recipe(optim={"lr": 0.05}, train=AVERAGED)), folder)
    return folder


def test_a_kill_between_the_mean_and_the_end_loses_nothing(tmp_path, averaged, killed, caplog):
    """The mean is made again from what it is the mean of."""
    caplog.set_level(logging.INFO, logger="affect")
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    train(ToyTask(recipe(optim={"lr": 0.05}, train=AVERAGED)), folder)
    same(folder, averaged)
    assert "resuming" in caplog.text and "step-0000018" in caplog.text
    assert "made again" not in caplog.text


def test_a_candidate_that_is_lost_is_one_line(tmp_path, killed):
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    next(iter((folder / "checkpoints" / "candidates").iterdir())).unlink()
    with pytest.raises(AffectError, match=r"candidates/00000\d\d.safetensors can't be read: .*; --resume never trains"):
        train(ToyTask(recipe(optim={"lr": 0.05}, train=AVERAGED)), folder)


# Clipping by a percentile


def test_clipping_follows_the_norms_of_earlier_steps_through_a_resume(tmp_path, monkeypatch):
    base = recipe(optim={"clip_percentile": 30.0}, train={"epochs": 4})
    seen: list[float | None] = []
    whole = tmp_path / "whole"
    run = toy_task.make(ToyTask(base), whole)
    real = run.engine.update

    def update(*arguments, clip, **named):
        seen.append(clip)
        return real(*arguments, clip=clip, **named)

    monkeypatch.setattr(run.engine, "update", update)
    trainer.train(run)
    norms = [line["grad_norm"] for line in lines(whole, "step")]
    assert seen[0] is None
    assert seen[1:] == [pytest.approx(np.percentile(norms[:k], 30.0)) for k in range(1, 12)]
    state = json.loads((whole / "checkpoints" / "step-0000012" / "state.json").read_text())
    assert state["norms"] == norms
    runs.interrupt(make(ToyTask(base), tmp_path / "run"), 8, monkeypatch)
    train(ToyTask(base), tmp_path / "run")
    same(tmp_path / "run", whole)


# Weights that follow the terms' values


class Weighed(ToyTask):
    kind: type

    def weighting(self) -> Weighting:
        return RandomLossWeighting(self.recipe.seed) if self.kind is RandomLossWeighting else self.kind()


@pytest.mark.parametrize("kind", [DynamicWeightAverage, RandomLossWeighting, FAMO])
@pytest.mark.parametrize("every", [1, 3])
def test_weighed_terms_go_on_to_the_byte(tmp_path, monkeypatch, kind, every):
    """Also where the batches of some steps tell a term nothing."""
    base = recipe(train={"epochs": 5}, every=every)

    def task() -> Weighed:
        made = Weighed(base)
        made.kind = kind
        return made

    train(task(), tmp_path / "whole")
    steps = lines(tmp_path / "whole", "step")
    for line in steps:
        assert list(line["weights"]) == [name for name in base.terms if name not in line.get("undefined", [])]
        assert sum(line["weights"].values()) == pytest.approx(len(line["weights"]))
        weighed = sum(weight * line["terms"][name] * (0.7 if name == "mse_arousal" else 1)
                      for name, weight in line["weights"].items())  # fmt: skip
        assert line["loss"] == pytest.approx(weighed, rel=1e-5)
    assert len({line["weights"].get("ccc_valence") for line in steps}) >= 3, "they follow"
    assert any("undefined" in line for line in steps) == (every > 1)
    runs.interrupt(make(task(), tmp_path / "cut"), 11, monkeypatch)
    train(task(), tmp_path / "cut")
    same(tmp_path / "cut", tmp_path / "whole")


# Rows drawn anew


class Redrawn(ToyTask):
    """Of 24 training rows each epoch takes others, each of them twice."""

    count = 12

    def rows_of_epoch(self, train: Dataset, epoch: int) -> Dataset:
        chosen = np.random.default_rng(epoch).permutation(len(train))[: self.count]
        return train.select(np.repeat(chosen, len(train) // 12))


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_drawn_anew_each_epoch_are_those_that_are_trained_on(tmp_path, monkeypatch, workers):
    task, seen = Redrawn(recipe(train={"epochs": 3, "workers": workers})), []
    real = step.accumulate

    def seeing(engine, model, terms, batches, **named):
        seen.append([name for batch in batches for name in batch.ids])
        return real(engine, model, terms, batches, **named)

    monkeypatch.setattr(trainer.step, "accumulate", seeing)
    train(task, tmp_path / "run")
    part = task.datasets()["train"]
    epochs = [sorted(sum(seen[3 * k : 3 * k + 3], [])) for k in range(3)]
    assert epochs == [sorted(task.rows_of_epoch(part, epoch)["id"]) for epoch in range(3)]
    assert epochs[0] != epochs[1]


def test_rows_drawn_anew_do_not_depend_on_the_cut_or_on_a_resume(tmp_path, monkeypatch):
    base = recipe(train={"epochs": 3})
    train(Redrawn(base), tmp_path / "whole")
    train(Redrawn(toy_task.with_(base, budget=3.0, mode="replay")), tmp_path / "cut")
    wanted = [line["loss"] for line in lines(tmp_path / "whole", "step")]
    np.testing.assert_allclose([line["loss"] for line in lines(tmp_path / "cut", "step")], wanted, rtol=1e-5)
    runs.interrupt(make(Redrawn(base), tmp_path / "run"), 6, monkeypatch)
    train(Redrawn(base), tmp_path / "run")
    same(tmp_path / "run", tmp_path / "whole")


def test_epochs_of_other_sizes_are_one_line(tmp_path):
    class Growing(ToyTask):
        def rows_of_epoch(self, train: Dataset, epoch: int) -> Dataset:
            return train.select(range(len(train) - epoch))

    with pytest.raises(AffectError, match="^epoch 2 has 23 training rows, not 24$"):
        train(Growing(recipe()), tmp_path / "run")


# Other weights to start from


def started(tmp_path, weights, caplog) -> tuple[dict[str, torch.Tensor], str]:
    caplog.set_level(logging.INFO, logger="affect")
    caplog.clear()
    run = toy_task.make(ToyTask(recipe()), tmp_path / "run", weights=weights)
    with run:
        pass
    (said,) = [record.message for record in caplog.records if "starting from" in record.message]
    return {name: value.clone() for name, value in run.model.state_dict().items()}, said


def test_what_fits_is_taken_and_the_rest_named(tmp_path, caplog):
    torch.manual_seed(9)
    other = toy_task.toy.Toy().state_dict()
    plain = toy_task.make(ToyTask(recipe()), tmp_path / "plain").model.state_dict()
    found, said = started(tmp_path, other, caplog)
    assert all(torch.equal(found[name], value) for name, value in other.items())
    assert said == f"starting from other weights: {len(other)} tensors taken, 0 new, 0 of theirs left"
    odd = {k: v for k, v in other.items() if k != "table"} | {"first.bias": torch.ones(9), "theirs": torch.ones(1)}
    found, said = started(tmp_path, odd, caplog)
    assert said == (
        f"starting from other weights: {len(other) - 2} tensors taken, 2 new (table, first.bias), "
        "2 of theirs left (first.bias, theirs)"
    )
    for name in ("table", "first.bias"):
        assert torch.equal(found[name], plain[name]), "as without any"
    assert torch.equal(found["first.weight"], other["first.weight"])
    with pytest.raises(
        AffectError, match=r"^train\.init_from: none of its weights fits this .*: it has theirs, the model "
    ):
        toy_task.make(ToyTask(recipe()), tmp_path / "run", weights={"theirs": torch.ones(1)})


def test_weights_with_a_hole_or_without_numbers_are_refused(tmp_path):
    stack = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
    holed = {name: value for name, value in stack.state_dict().items() if not name.startswith("1.")}
    model = torch.nn.ModuleDict({"layers": copy.deepcopy(stack)})
    with pytest.raises(AffectError, match=r"^train\.init_from: its weights lack layers\.1, and have layers behind$"):
        optim.take_over(model, {f"layers.{name}": value for name, value in holed.items()})
    shorter = {f"layers.{name}": value for name, value in stack[:2].state_dict().items()}
    assert "4 tensors taken, 2 new" in optim.take_over(model, shorter), "a deeper model may start from a shallower one"
    save_file({"a": torch.ones(2), "b": torch.tensor([1, torch.nan])}, tmp_path / "model.safetensors")
    with pytest.raises(AffectError, match=r"^the weights in .* hold NaN or infinite values: b$"):
        folds.initial_weights(recipe(train={"init_from": str(tmp_path)}), 0, 1)


def test_a_trunk_behind_a_prefix_beside_a_head_that_fits_is_refused():
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 3), "head": torch.nn.Linear(3, 1)})
    own = model.state_dict()
    for prefix in ("module.", "backbone.", "module.model."):
        weights = {prefix + name if "encoder" in name else name: value for name, value in own.items()}
        with pytest.raises(AffectError, match=rf"^train\.init_from: 2 of its weights \({prefix}encoder\.[^\n]*$"):
            optim.take_over(model, weights)
    besides = {**own, "module.encoder.weight": own["encoder.weight"], "model.head.bias": torch.ones(7)}
    assert "4 tensors taken, 0 new" in optim.take_over(model, besides), "nothing that it lacks"


def test_a_pretrained_part_that_the_configuration_names_has_to_be_there_whole(tmp_path):
    given = small.model(text="tiny-text")
    small.save(given, tmp_path)
    kind = tasks.task_class("emotion").recipe_class
    start = kind(train=Train(init_from=str(tmp_path)))

    def begun(keep):
        weights = {name: value.contiguous() for name, value in given.state_dict().items() if keep(name)}
        assert len(weights) < len(given.state_dict())
        save_file(weights, tmp_path / saving.WEIGHTS)
        return folds.initial_weights(start, 0, 1)

    def shallow(name):
        return not (name.startswith("speech.encoder.") and ".layers.1." in name)

    assert begun(lambda name: not name.startswith("heads.")), "another head is on top"
    for keep, lacking in (
        (lambda name: not name.startswith("speech.encoder."), r"speech\.encoder\."),
        (lambda name: not name.startswith("text."), r"text\."), (shallow, r"speech\.encoder\..*\.layers\.1\."),
    ):  # fmt: skip
        with pytest.raises(AffectError, match=rf"^the weights in .* lack \d+ of its pretrained parts.*{lacking}.*$"):
            begun(keep)
    config = json.loads((tmp_path / saving.CONFIG).read_text())
    config["encoder"]["architecture"]["num_hidden_layers"] = 1
    (tmp_path / saving.CONFIG).write_text(json.dumps(config))
    assert begun(shallow), "another depth, which is said"
    config["encoder"]["architecture"]["hidden_size"] = "wide"
    (tmp_path / saving.CONFIG).write_text(json.dumps(config))
    with pytest.raises(AffectError, match=r"^the model in [^\n]* cannot be read: [^\n]*$"):
        begun(shallow)


def test_a_folder_of_weights_or_a_run_is_a_place_to_start_from(tmp_path, averaged):
    best = load_file(averaged / "checkpoints" / "best" / "model.safetensors")
    for source in (averaged, averaged / "checkpoints" / "best"):
        found = folds.initial_weights(recipe(train={"init_from": str(source)}), 0, 1)
        assert all(torch.equal(found[name], value) for name, value in best.items())
    assert folds.initial_weights(recipe(), 0, 1) is None
    for nothing in (tmp_path, tmp_path / "none"):
        with pytest.raises(AffectError, match=r"train\.init_from: .* holds no model\.safetensors: name a run's folder"):
            folds.initial_weights(recipe(train={"init_from": str(nothing)}), 0, 1)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(AffectError, match="are damaged") as error:
        folds.initial_weights(recipe(train={"init_from": str(tmp_path / "damaged")}), 0, 1)
    assert "\n" not in str(error.value)


def test_each_fold_starts_from_its_own_fold_which_has_not_seen_its_test_part(tmp_path):
    for seed, fold in ((0, 1), (0, 2), (1, 1)):
        place = folds.folder_of(tmp_path / "before", seed, fold) / "checkpoints" / "best"
        place.mkdir(parents=True)
        save_file({"seen": torch.tensor([seed, fold])}, place / "model.safetensors")
    after = recipe(train={"init_from": str(tmp_path / "before")})
    for seed, fold in ((0, 1), (0, 2), (1, 1)):
        assert folds.initial_weights(after, seed, fold)["seen"].tolist() == [seed, fold]
    with pytest.raises(AffectError, match=r"before has several runs and no seed1/fold2: name one$"):
        folds.initial_weights(after, 1, 2)


def test_a_run_starts_from_what_its_recipe_names_and_goes_on_from_itself(tmp_path, monkeypatch):
    torch.manual_seed(9)
    source = tmp_path / "source"
    source.mkdir()
    save_file(toy_task.toy.Toy().state_dict(), source / "model.safetensors")
    base = recipe(train={"init_from": str(source), "epochs": 3})

    def run_one(folder):
        return folds.run_one("toy", ToyTask(base), folder / "seed0" / "fold1", Options(), "a command")

    run_one(tmp_path / "whole")
    whole = tmp_path / "whole" / "seed0" / "fold1"
    train(ToyTask(recipe(train={"epochs": 3})), tmp_path / "plain")
    losses = [[line["loss"] for line in lines(folder, "step")] for folder in (whole, tmp_path / "plain")]
    assert losses[0] != losses[1]
    with runs.interrupted(5, monkeypatch):
        run_one(tmp_path / "cut")
    run_one(tmp_path / "cut")
    same(tmp_path / "cut" / "seed0" / "fold1", whole)
