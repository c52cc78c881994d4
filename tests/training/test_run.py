"""A run by itself: what a step takes and leaves, what an epoch's end writes, how it goes on and how it ends."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file

from affect import tasks
from affect.errors import AffectError
from affect.task import Evaluation
from affect.training import run as runs_module
from affect.training import run_dir, run_state
from affect.training.distributed import join
from affect.training.run import DivergedError, Run, Start
from affect.training.stacked_trainer import StackedTrainer
from affect.training.step import Result
from tests.tasks.multimodal_emotion import small
from tests.training import toy_task
from tests.training.toy_task import ToyTask


@pytest.fixture
def make(feature_corpus, tmp_path):
    """Return what makes a run of seed 0 and fold 1 in the test's folder, open until the test's end."""
    with contextlib.ExitStack() as stack:

        def made(base=None, *, resume="auto", only=("valid",), **changes) -> Run:
            recipe = small.with_(base or small.recipe(feature_corpus, dropout=0.3), **changes)
            folder = tmp_path / "seed0" / "fold1"
            run_dir.claim(folder, recipe, experiment="test", overwrite=False)
            start = Start(experiment="test", resume=resume, only=only, stacked=True)
            return stack.enter_context(Run(join(folder), tasks.make(recipe).for_fold(0, 1), folder, start))

        yield made


def draw(run: Run):
    return next(StackedTrainer([run])._draws(run, 1))


def step(run: Run) -> Result:
    """Take a step, alone."""
    batch, noise = draw(run)
    line, factors = run.begin_step([batch])
    (result,) = StackedTrainer([run])._stacked([run]).gradient(run.terms, [batch], [noise], [factors])
    run.update(result, [batch], line, dict)
    return result


def epoch(run: Run) -> None:
    for _ in range(run.schedule.per_epoch):
        step(run)
    run.end_epoch()


def result(value: float = 1.0) -> Result:
    return Result(torch.tensor(value), {"ce_emotion": torch.tensor(value)})


def test_an_epoch_takes_every_training_row_once(make):
    run = make()
    valid = set(run.parts["valid"]["id"][:])
    for number in range(2):
        assert run.epoch == number
        seen = []
        for _ in range(run.schedule.per_epoch):
            seen += draw(run)[0].ids
            step(run)
        assert sorted(seen) == sorted(run.parts["train"]["id"][:])
        assert not valid & set(seen)


def test_a_draw_is_a_function_of_the_step(make):
    run = make()
    first, again = draw(run), draw(run)
    torch.randn(7)
    assert first[0].ids == again[0].ids
    torch.testing.assert_close(first[1], again[1], rtol=0, atol=0)
    step(run)
    other = draw(run)
    assert other[0].ids != first[0].ids
    assert any(not torch.equal(other[1][name], mask) for name, mask in first[1].items())


def test_modality_dropout_follows_its_schedule(feature_corpus, make):
    run = make(small.recipe(feature_corpus, epochs=6, modality_dropout=0.4, warmup=2))
    found = []
    for number in range(6):
        run.state.step = number * run.schedule.per_epoch
        found.append(run.begin_step([])[0]["schedule"]["modality_dropout"])
    assert found == pytest.approx([0, 0, 0, 0.2, 0.4, 0.4])


def test_a_step_is_written_as_it_was(make):
    run = make(optim__clip=None)
    found = step(run)
    (line,) = small.lines(run.folder, "step")
    norm = math.hypot(*(float(p.grad.norm()) for p in run.parameters))
    terms = {name: float(value) for name, value in found.terms.items()}
    assert line == {
        "event": "step", "step": 1, "epoch": 0, "loss": pytest.approx(sum(terms.values())), "terms": terms,
        "grad_norm": pytest.approx(norm, rel=1e-5), "lr": {"all": 5e-3},
    }  # fmt: skip


@pytest.mark.parametrize("clip", [1e-3, None])
def test_clipping_by_norm_and_by_value(make, clip):
    run = make(optim__clip=clip, optim__clip_value=1e-4)
    for p in run.parameters:
        p.grad = torch.ones_like(p)
    before = math.sqrt(sum(p.numel() for p in run.parameters))
    run.update(result(), [], run.begin_step([])[0], dict)
    (line,) = small.lines(run.folder, "step")
    assert line["grad_norm"] == pytest.approx(before, rel=1e-5), "the norm is that before it was clipped"
    wanted = min((clip or math.inf) / before, 1e-4)
    assert all(torch.allclose(p.grad, torch.full_like(p, wanted), rtol=1e-3) for p in run.parameters)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_takes_no_step(make, value):
    run = make()
    step(run)
    run.journal.write("metrics", {"event": "mark", "step": 1})
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    batch, _ = draw(run)
    with pytest.raises(DivergedError) as error:
        run.update(result(value), [batch], run.begin_step([])[0], dict)
    assert str(error.value) == (
        f"{run.folder}: step 2: the loss is not a finite number; lower the rates or optim.clip; last good checkpoint: "
        f"none; examples on rank 0: {', '.join(batch.ids)}"
    )
    torch.testing.assert_close(run.model.state_dict(), before, rtol=0, atol=0)
    assert run.state.step == 1
    assert len(small.lines(run.folder, "step")) == 1


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_is_never_saved(make, clip):
    """Weights that are no numbers may not become a checkpoint: the run could never go on."""
    run = make(optim__clip=clip)
    for p in run.parameters:
        p.grad = torch.full_like(p, math.nan)
    with pytest.raises(DivergedError, match="the gradient is not a finite number"):
        run.update(result(), [], run.begin_step([])[0], dict)
    assert all(p.isfinite().all() for p in run.parameters)


def test_the_end_of_an_epoch(make):
    run = make(train__checkpoint_every=2, train__epochs=3)
    epoch(run)
    (line,) = small.lines(run.folder, "eval")
    assert (line["evaluation"], line["step"], line["epoch"]) == ("valid", run.schedule.per_epoch, 0)
    assert list(line["scores"]) == [measure.name for measure in run.task.measures]
    (chosen,) = small.lines(run.folder, "selection")
    wanted = {"event": "selection", "step": 3, "epoch": 0, "score": line["scores"]["emoval"], "kept": True}
    assert chosen == wanted
    assert not list(run.checkpoints.glob("step-*")), "nothing is saved before its time"
    epoch(run)
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["best", "step-0000006"]
    epoch(run)
    assert run.done, "the last epoch is saved though it is no second one"
    assert (run.checkpoints / "step-0000009").is_dir()


def test_evaluations_have_their_own_rhythm(make):
    run = make(train__evaluate_every=2, train__epochs=5)
    for _ in range(5):
        epoch(run)
    for event in ("eval", "selection"):
        assert [line["epoch"] for line in small.lines(run.folder, event)] == [1, 3, 4]


def test_several_evaluations_choose_by_their_mean(make):
    run = make(choose="subsets", only=None)
    epoch(run)
    found = small.lines(run.folder, "eval")
    subsets = [f"valid@subset={letters}" for letters in ("A", "T", "V", "AT", "AV", "TV")]
    assert [line["evaluation"] for line in found] == ["valid", *subsets]
    (chosen,) = small.lines(run.folder, "selection")
    assert chosen["score"] == pytest.approx(np.mean([line["scores"]["emoval"] for line in found]))
    place = json.loads((run.checkpoints / "best" / "place.json").read_text())
    assert place["scores"] == {line["evaluation"]: line["scores"] for line in found}


def test_the_best_weights_are_those_of_their_epoch(make, monkeypatch):
    """And not what was trained since."""
    run = make(train__epochs=4, train__checkpoint_every=4)
    real, scores = run_state.judge, iter([0.1, 0.9, 0.5, 0.2])
    monkeypatch.setattr(run_state, "judge", lambda state, score, *rest: real(state, next(scores), *rest))
    states = []
    for _ in range(4):
        epoch(run)
        states.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})
    best = load_file(str(run.checkpoints / "best" / "model.safetensors"))
    torch.testing.assert_close(best, states[1], rtol=0, atol=0)
    assert any(not torch.equal(best[name], states[3][name]) for name in best)
    assert json.loads((run.checkpoints / "best" / "place.json").read_text())["step"] == 6
    torch.testing.assert_close(run.model.state_dict(), states[3], rtol=0, atol=0)
    run.finish()
    (end,) = small.lines(run.folder, "end")
    assert (end["step"], end["best_step"], end["best_epoch"]) == (12, 6, 1)
    torch.testing.assert_close(run.model.state_dict(), best, rtol=0, atol=0)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_predictions_do_not_depend_on_how_many_are_made_at_once(make, monkeypatch, ema):
    run = make(optim__ema=ema)
    epoch(run)
    valid = next(evaluation for evaluation in run.evaluations if evaluation.name == "valid")
    whole = run.predict(valid)
    assert [row["id"] for row in whole] == run.parts["valid"]["id"][:]
    monkeypatch.setattr(runs_module, "STACK_ROWS", 7.0)
    cut = run.predict(valid)
    np.testing.assert_allclose([row["logits"] for row in cut], [row["logits"] for row in whole], rtol=1e-5, atol=1e-6)
    assert [row["id"] for row in cut] == [row["id"] for row in whole]
    assert run.model.training, "training goes on"


def test_the_average_is_what_is_judged(make):
    run = make(optim__ema=0.9)
    epoch(run)
    (valid,) = run.evaluations
    plain = run.predict(valid)
    with torch.no_grad():
        for p in run.average.model.parameters():
            p.zero_()
    zeros = run.predict(valid)
    assert all(row["logits"] == [0.0] * 6 for row in zeros)
    assert plain != zeros


def test_a_run_goes_on_from_its_checkpoint(make):
    first = make(train__checkpoint_every=1)
    epoch(first)
    weights = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    step(first)
    again = make(train__checkpoint_every=1)
    assert (again.state.step, again.epoch) == (3, 1)
    torch.testing.assert_close(again.model.state_dict(), weights, rtol=0, atol=0)
    assert len(again.optimizer.state_dict()["state"]) == len(first.optimizer.state_dict()["state"])
    assert [line["step"] for line in small.lines(again.folder, "step")] == [1, 2, 3], "what came after is dropped"
    new = make(train__checkpoint_every=1, resume="never")
    assert new.state.step == 0
    assert not list(new.checkpoints.glob("step-*"))


def test_without_best_weights_there_is_no_end(make):
    run = make()
    epoch(run)
    run_dir.discard(run.checkpoints / "best")
    with pytest.raises(AffectError, match="holds no best weights: --resume never trains anew"):
        run.finish()


# Its end


class Plain(ToyTask):
    """Predicts nothing; keeps which evaluations were asked for."""

    def __init__(self, recipe, sizes):
        super().__init__(recipe)
        self.sizes = sizes

    def datasets(self):
        return DatasetDict({
            name: Dataset.from_dict({"id": [f"{name}{k}" for k in range(size)], "place": list(range(size)),
                                     "length": [1.0] * size})
            for name, size in self.sizes.items()
        })  # fmt: skip

    def evaluations(self):
        return [*super().evaluations()[:3], Evaluation(name="second", part="first", kept=False)]

    def baselines(self):
        return {name: {"mean": [{"id": "x", "value": math.nan}], "other": []} for name in ("valid", "first")}


def ended(tmp_path, only=None, sizes=None, main=True):
    """Return a run that is at its end, its scores, the rows it was judged by, and the files that its end wrote."""
    sizes = sizes or {"train": 24, "valid": 5, "first": 3}
    run = toy_task.make(Plain(toy_task.recipe(train={"epochs": 1}), sizes), tmp_path / "run", only=only)
    asked = {}
    real = run.predict
    run.predict = lambda evaluation: asked.setdefault(evaluation.name, real(evaluation))
    with run:
        run.state.best, run.state.best_step = 0.5, 1
        run._write_best(run.engine.weights(run.model), {})
        if not main:
            run.engine.on_main = lambda work: None
        before = set(run.folder.iterdir())
        scores = run.finish()
    return scores, asked, {path.name for path in set(run.folder.iterdir()) - before}


def test_everything_is_predicted_once_and_written(tmp_path):
    scores, asked, written = ended(tmp_path)
    assert list(scores) == list(asked) == ["train", "valid", "first", "second"]
    assert [len(rows) for rows in asked.values()] == [24, 5, 3, 3]
    assert written == {
        "predictions-valid.jsonl", "predictions-first.jsonl",
        *(f"baseline-{name}-{part}.jsonl" for part in ("valid", "first") for name in ("mean", "other")),
    }  # fmt: skip
    folder = tmp_path / "run"
    assert (folder / "baseline-mean-valid.jsonl").read_text() == '{"id": "x", "value": null}\n'
    assert (folder / "baseline-other-valid.jsonl").read_text() == ""


@pytest.mark.parametrize("only", [("valid",), ("train", "valid"), ("valid", "first")])
def test_without_all_evaluations_no_other_is_made(tmp_path, only):
    """A search's trial and a run that is judged by its fold alone never look at a test part."""
    scores, asked, written = ended(tmp_path, only)
    assert list(scores) == list(asked) == list(only)
    assert written == {f"predictions-{name}.jsonl" for name in only if name != "train"}


def test_only_the_main_rank_writes_and_all_predict(tmp_path):
    scores, asked, written = ended(tmp_path, main=False)
    assert list(scores) == list(asked)
    assert not written


def test_rows_under_a_condition_are_packed_and_the_same_bytes_again(tmp_path):
    folder = tmp_path / "run"
    toy_task.train(ToyTask(toy_task.recipe()), folder)
    packed = (folder / run_dir.CONDITIONS).read_bytes()
    with zipfile.ZipFile(folder / run_dir.CONDITIONS) as archive:
        rows = [json.loads(line) for line in archive.read("dark@blind.jsonl").splitlines()]
    assert rows == run_dir.read_rows(folder, "dark@blind")
    plain = run_dir.read_rows(folder, "dark")
    assert [row["id"] for row in rows] == [row["id"] for row in plain]
    assert [row["prediction"] for row in rows] != [row["prediction"] for row in plain]
    assert run_dir.predicted(folder) == ["dark", "dark@blind", "valid"]
    toy_task.train(ToyTask(toy_task.recipe()), tmp_path / "again")
    assert (tmp_path / "again" / run_dir.CONDITIONS).read_bytes() == packed


@pytest.mark.parametrize(("size", "wanted"), [(10, 10), (2000, 2000), (2001, 2000), (9999, 2000)])
def test_training_rows_are_spread_evenly(size, wanted, tmp_path, monkeypatch):
    sizes = {"train": size, "valid": 5, "first": 3}
    run = toy_task.make(Plain(toy_task.recipe(), sizes), tmp_path / "run")
    seen = []
    monkeypatch.setattr(runs_module.prediction, "predict", lambda *given, **_: seen.append(given[3]) or [])
    run.predict(run.evaluations[0])
    places = seen[0]["place"][:]
    assert len(places) == len(set(places)) == wanted
    assert (places[0], places[-1]) == (0, size - 1)
    assert np.diff(places).max() <= -(-size // wanted) + 1
