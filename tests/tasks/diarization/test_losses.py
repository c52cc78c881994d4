"""Terms of diarization: any cut of a batch is the batch in one piece, with dropout on; rates and calibration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from affect.losses.focal import threshold
from affect.recipe import Optim
from affect.task import Batch
from affect.tasks.diarization.config import (
    ACTIVITY,
    CANDIDATES,
    SPEAKER,
    VOICES,
    Loss,
    Model,
    check_together,
    signature,
)
from affect.tasks.diarization.losses import calibrated, param_groups, terms_of
from affect.tasks.diarization.slots import assign
from affect.training import step
from affect.training.distributed import join
from tests.tasks.diarization.blocks import EVERY, FRAMES, IDS, VARIANTS, inputs, made, sections
from tests.training.toy import gradient, relative


def examples(name: str, places=EVERY, filler: bool = False) -> Batch:
    """Return a micro-batch of the blocks at `places`."""
    model, loss = sections(name)
    given = inputs(model, places)
    parts = []
    for k, place in enumerate(places):
        spoken, enrollable = given["spoken"][k].numpy(), np.array([True, False, True])
        slots = assign(spoken, enrollable, model, loss, np.random.default_rng(place))
        # Padding has no labels.
        for labels in (slots.activity, slots.candidates):
            labels[:, FRAMES[place] :] = np.nan
        parts.append(slots)
    stacked = {what: torch.from_numpy(np.stack([getattr(part, what) for part in parts])) for what in vars(parts[0])}
    targets = {ACTIVITY: stacked["activity"], CANDIDATES: stacked["candidates"]}
    given |= {"slots": stacked["slots"]}
    numbers = torch.tensor([[0, 3, 6], [1, 4, 6], [2, 5, 6]])[list(places)]
    targets[VOICES] = torch.where(torch.tensor([True, True, False]), numbers, -100)
    targets[SPEAKER] = numbers
    if model.name != "ours":
        owner = given["owner"] = stacked["owner"]
        targets[SPEAKER] = torch.where(owner >= 0, numbers.take_along_dim(owner.clamp(min=0), 1), -100)
    ids = tuple(IDS[place] for place in places)
    return Batch(ids=ids, inputs=given, targets=targets, rows=[{}] * len(ids), filler=filler)


CUT = [(2,), (0, 1)]
# Without terms of the batch there is nothing to replay.
MODES = [*((name, "hold") for name in VARIANTS), ("ours", "replay"), ("ours_encoder", "replay")]


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_a_cut_batch_is_the_batch_in_one_piece(name, mode):
    engine = join()

    def taken(cut) -> tuple[Tensor, float, dict[str, float]]:
        model = made(name).train()
        batches = [examples(name, places) for places in cut] + [examples(name, [1], filler=True)] * (cut is CUT)
        terms = terms_of(model.config, VARIANTS_LOSS[name])
        result = step.accumulate(engine, model, terms, batches, mode=mode, key=(0, 4))
        assert result.undefined == ()
        return gradient(model), float(result.loss), {k: float(v) for k, v in result.terms.items()}

    wanted, loss, values = taken([EVERY])
    found, other, others = taken(CUT)
    assert relative(found, wanted) < 1e-4
    assert other == pytest.approx(loss, rel=1e-5)
    assert others == pytest.approx(values, rel=1e-4)


VARIANTS_LOSS = {name: sections(name)[1] for name in VARIANTS}


def test_terms_are_those_that_the_loss_names():
    model, loss = sections("before")
    activity, speakers = terms_of(model, loss)
    assert (activity.name, activity.log_variance, speakers.log_variance) == ("bce", 0, 1)
    activity, speakers = terms_of(model, replace(loss, learned=False))
    assert (activity.weight, speakers.weight) == (1.0, pytest.approx(0.1, rel=1e-4))
    focal, speakers = terms_of(*sections("improved"))
    assert (focal.name, speakers.weight) == ("focal", 1.0)
    assert [term.name for term in terms_of(*sections("ours"))] == ["bce", "speakers"]
    assert [term.name for term in terms_of(Model(), Loss(contrastive=0.0))] == ["bce"]


def test_learned_weights_have_their_own_rate_and_no_decay():
    optim = Optim(lr=1e-3, weight_decay=0.1, encoder_lr=1e-5)
    model = made("before")
    loss = replace(sections("before")[1], weights_lr=0.05)
    groups = {group["name"]: group for group in param_groups(model, optim, loss)}
    assert (groups["loss_weights"]["lr"], groups["loss_weights"]["weight_decay"]) == (0.05, 0.0)
    assert [id(entry) for entry in groups["loss_weights"]["params"]] == [id(model.log_s)]
    assert (groups["decayed"]["weight_decay"], groups["not_decayed"]["weight_decay"]) == (0.1, 0.0)
    listed = [id(entry) for group in groups.values() for entry in group["params"]]
    assert sorted(listed) == sorted(id(entry) for entry in model.parameters())
    groups = {group["name"]: group for group in param_groups(made("ours_encoder"), optim, Loss())}
    assert groups["encoder_decayed"]["lr"] == 1e-5
    assert "loss_weights" not in groups


@pytest.mark.parametrize(("loss", "rate"), [({"weights_lr": None}, 5e-5), ({}, 1e-2)])
def test_at_the_models_rate_the_weights_barely_move_and_at_their_own_they_do(loss, rate):
    """From 4.6 to ln 13 it takes some 41,000 steps of Adam at 5e-5; at the rate that they have by default, some 200."""
    assert (4.6052 - math.log(13)) / 5e-5 == pytest.approx(41_000, rel=0.01)
    model = made("improved")
    optimizer = torch.optim.Adam(param_groups(model, Optim(lr=5e-5), Loss(arcface=True, learned=True, **loss)))
    for _ in range(20):
        optimizer.zero_grad()
        # What an ArcFace loss of 13 asks of its s.
        (torch.exp(-model.log_s[1]) * 13 + model.log_s[1] + model.log_s[0]).backward()
        optimizer.step()
    assert 4.6052 - float(model.log_s[1].detach()) == pytest.approx(20 * rate, rel=0.05)


def test_logits_stand_for_probabilities():
    model, loss = sections("improved")
    focal = signature(model, loss, frames=10, speakers=3).focal
    logits = torch.tensor([0.0, 1.0])
    assert float(calibrated(logits, focal)[0].sigmoid()) == pytest.approx(0.75, abs=1e-6)
    assert torch.equal(calibrated(logits, signature(model, Loss(), frames=10, speakers=3).focal), logits)
    assert float(calibrated(torch.logit(torch.tensor(threshold(0.25, 2.0))), focal)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_one_that_goes_together(name):
    check_together(*sections(name))
