"""A run that trains beside others: what a step takes and leaves, what an epoch's end writes, how it ends."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
import torch

from affect import tasks
from affect.errors import AffectError
from affect.train import folder as folders
from affect.train import member as members
from affect.train import plan
from affect.train.engine import Engine
from affect.train.member import Member
from affect.train.stack import Stack
from affect.train.watch import DivergedError
from tests.tasks.multimodal_emotion import small


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small.corpus(tmp_path_factory.mktemp("corpus") / "generated")


@pytest.fixture
def make(corpus, tmp_path):
    """Return what makes a member of seed 0 and fold 1 in the test's folder, its journal open until the test's end."""
    with contextlib.ExitStack() as stack:

        def made(base=None, *, resume="auto", ends=("valid",), **changes) -> Member:
            recipe = small.with_(base or small.recipe(corpus, dropout=0.3), **changes)
            folder = tmp_path / "seed0" / "fold1"
            folders.claim(folder, recipe, experiment="test", overwrite=False)
            engine = Engine(folder, ())
            stack.callback(engine.end)
            member = Member(engine, tasks.make(recipe).at(0, 1), folder, experiment="test", resume=resume, ends=ends)
            stack.enter_context(member.journal)
            return member

        yield made


def orders(member):
    return plan.draw(len(member.places), member.recipe.train.batch, member.recipe.seed, member.epoch)


def step(member: Member) -> dict[str, float]:
    """Take a step, alone; return the terms."""
    loss = member.task.loss()
    batch, noise, follows = member.draw(orders(member))
    (terms,) = Stack([member.model]).gradient(loss, [batch], [noise])
    found = {name: float(value) for name, value in terms.items()}
    member.apply(found, dict(loss.weights), follows)
    return found


def epoch(member: Member) -> None:
    for _ in range(member.schedule.per_epoch):
        step(member)
    member.end_epoch(0.5, 1)


def test_an_epoch_takes_every_training_row_once(make):
    member = make()
    valid = set(member.parts["valid"]["id"][:])
    for number in range(2):
        assert member.epoch == number
        seen = []
        for batch in orders(member):
            drawn, _, _ = member.draw(orders(member))
            assert len(drawn.ids) == len(batch)
            seen += drawn.ids
            step(member)
        assert sorted(seen) == sorted(member.parts["train"]["id"][:])
        assert not valid & set(seen)


def test_a_draw_is_a_function_of_the_step(make):
    member = make()
    first, again = member.draw(orders(member)), member.draw(orders(member))
    torch.randn(7)
    assert first[0].ids == again[0].ids
    torch.testing.assert_close(first[1], again[1], rtol=0, atol=0)
    step(member)
    other = member.draw(orders(member))
    assert other[0].ids != first[0].ids
    assert any(not torch.equal(other[1][name], mask) for name, mask in first[1].items())


def test_modality_dropout_follows_its_schedule(corpus, make):
    member = make(small.recipe(corpus, epochs=6, modality_dropout=0.4, warmup=2))
    found = []
    for number in range(6):
        member.state.step = number * member.schedule.per_epoch
        found.append(member.draw(orders(member))[2]["modality_dropout"])
    assert found == pytest.approx([0, 0, 0, 0.2, 0.4, 0.4])


def test_a_step_is_written_as_it_was(make):
    member = make(optim__clip=None)
    terms = step(member)
    (line,) = small.lines(member.folder, "step")
    assert line == {
        "event": "step", "step": 1, "epoch": 0, "loss": pytest.approx(sum(terms.values())), "terms": terms,
        "grad_norm": None, "lr": {"all": 5e-3},
    }  # fmt: skip


def test_the_norm_is_there_once_an_epoch_and_wherever_it_clips(make):
    member = make()
    epoch(member)
    norms = [line["grad_norm"] for line in small.lines(member.folder, "step")]
    assert norms[:-1] == [None] * (member.schedule.per_epoch - 1)
    assert norms[-1] == pytest.approx(math.hypot(*(float(p.grad.norm()) for p in member.parameters)), rel=1e-5)


def test_clipping_by_norm_and_by_value(make):
    member = make(optim__clip=1e-3, optim__clip_value=1e-4)
    for p in member.parameters:
        p.grad = torch.ones_like(p)
    before = math.sqrt(sum(p.numel() for p in member.parameters))
    member.apply({"emotion": 1.0, "valence": 2.0}, {"emotion": 1.0, "valence": 1.0}, {})
    (line,) = small.lines(member.folder, "step")
    assert line["grad_norm"] == pytest.approx(before, rel=1e-5), "the norm is that before it was clipped"
    wanted = min(1e-3 / before, 1e-4)
    assert all(torch.allclose(p.grad, torch.full_like(p, wanted), rtol=1e-3) for p in member.parameters)


def test_clipping_by_value_alone(make):
    member = make(optim__clip=None, optim__clip_value=0.25)
    for p in member.parameters:
        p.grad = torch.linspace(-1, 1, p.numel()).reshape(p.shape)
    member.apply({"emotion": 1.0}, {"emotion": 1.0}, {})
    for p in member.parameters:
        assert torch.equal(p.grad, torch.linspace(-1, 1, p.numel()).reshape(p.shape).clamp(-0.25, 0.25))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_takes_no_step(make, value):
    member = make()
    before = {name: tensor.clone() for name, tensor in member.model.state_dict().items()}
    with pytest.raises(DivergedError, match=r"fold1: step 1: the loss is not a finite number; lower optim\.lr"):
        member.apply({"emotion": value}, {"emotion": 1.0}, {})
    torch.testing.assert_close(member.model.state_dict(), before, rtol=0, atol=0)
    assert member.state.step == 0
    assert not small.lines(member.folder, "step")


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_is_never_saved(make, clip):
    """Weights that are no numbers may not become a checkpoint: the run could never go on."""
    member = make(optim__clip=clip)
    for _ in range(member.schedule.per_epoch - 1):
        step(member)
    member.draw(orders(member))
    for p in member.parameters:
        p.grad = torch.full_like(p, math.nan)
    with pytest.raises(DivergedError, match="the gradient is not a finite number"):
        member.apply({"emotion": 1.0}, {"emotion": 1.0}, {})
    assert all(p.isfinite().all() for p in member.parameters)


def test_the_end_of_an_epoch(make):
    member = make(train__checkpoint_every=2, train__epochs=3)
    epoch(member)
    (line,) = small.lines(member.folder, "eval")
    assert (line["split"], line["step"], line["epoch"]) == ("valid", member.schedule.per_epoch, 0)
    assert set(line["scores"]) == {"f1", "acc", "mse", "emoval", "macro_f1", "ccc_valence"}
    assert not list(member.checkpoints.glob("step-*")), "nothing is saved before its time"
    timing = small.read(member.folder / "timing.jsonl")
    assert timing[0]["seconds"] == 0.5
    assert timing[0]["units_per_second"] == 2 * len(member.places)
    epoch(member)
    assert [path.name for path in sorted(member.checkpoints.iterdir())] == ["best", "step-0000006"]
    epoch(member)
    assert member.done, "the last epoch is saved though it is no second one"
    assert (member.checkpoints / "step-0000009").is_dir()


def test_evaluations_have_their_own_rhythm(make):
    member = make(train__evaluate_every=2, train__epochs=5)
    for _ in range(5):
        epoch(member)
    assert [line["epoch"] for line in small.lines(member.folder, "eval")] == [1, 3, 4]


def test_the_best_weights_are_those_of_their_epoch(make, monkeypatch):
    """And not what was trained since."""
    member = make(train__epochs=4, train__checkpoint_every=4)
    scores = iter([0.1, 0.9, 0.5, 0.2])
    monkeypatch.setattr(member.task, "validate", lambda predict: {"emoval": next(scores)})
    states = []
    for _ in range(4):
        epoch(member)
        states.append({name: tensor.clone() for name, tensor in member.model.state_dict().items()})
    from safetensors.torch import load_file

    best = load_file(str(member.checkpoints / "best" / "model.safetensors"))
    torch.testing.assert_close(best, states[1], rtol=0, atol=0)
    assert any(not torch.equal(best[name], states[3][name]) for name in best)
    place = json.loads((member.checkpoints / "best" / "place.json").read_text())
    assert place == {"step": 6, "scores": {"emoval": 0.9}, "checksums": "SHA256SUMS"}
    torch.testing.assert_close(member.model.state_dict(), states[3], rtol=0, atol=0)
    monkeypatch.undo()
    member.finish()
    (end,) = small.lines(member.folder, "end")
    assert (end["step"], end["best_step"], end["best_epoch"]) == (12, 6, 1)
    torch.testing.assert_close(member.model.state_dict(), best, rtol=0, atol=0)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_predictions_do_not_depend_on_how_many_are_made_at_once(make, monkeypatch, ema):
    member = make(optim__ema=ema)
    epoch(member)
    whole = member.predict(member.parts["valid"])
    assert [row["id"] for row in whole] == member.parts["valid"]["id"][:]
    monkeypatch.setattr(members, "_ROWS", 7)
    cut = member.predict(member.parts["valid"])
    np.testing.assert_allclose([row["logits"] for row in cut], [row["logits"] for row in whole], rtol=1e-5, atol=1e-6)
    assert [row["id"] for row in cut] == [row["id"] for row in whole]
    assert member.model.training, "training goes on"


def test_the_average_is_what_is_judged(make):
    member = make(optim__ema=0.9)
    epoch(member)
    plain = member.predict(member.parts["valid"])
    with torch.no_grad():
        for p in member.average.model.parameters():
            p.zero_()
    zeros = member.predict(member.parts["valid"])
    assert all(row["logits"] == [0.0] * 6 for row in zeros)
    assert plain != zeros


def test_a_run_goes_on_from_its_checkpoint(make):
    first = make(train__checkpoint_every=1)
    epoch(first)
    weights = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    moments = first.optimizer.state_dict()["state"]
    step(first)
    again = make(train__checkpoint_every=1)
    assert (again.state.step, again.epoch) == (3, 1)
    torch.testing.assert_close(again.model.state_dict(), weights, rtol=0, atol=0)
    assert len(again.optimizer.state_dict()["state"]) == len(moments)
    assert [line["step"] for line in small.lines(again.folder, "step")] == [1, 2, 3], "what came after is dropped"
    new = make(train__checkpoint_every=1, resume="never")
    assert new.state.step == 0
    assert not list(new.checkpoints.glob("step-*"))


def test_without_best_weights_there_is_no_end(make):
    member = make()
    with pytest.raises(AffectError, match="holds no best weights: --resume never trains anew"):
        member.finish()
