"""What ours has and the report's model lacks: slots that are alike, newcomers that are heard, speakers that count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from affect.tasks.diarization.config import ACTIVITY, CANDIDATES, EMBEDDING, EMPTY, NON_SPEAKER, PSEUDO, REFERENCE
from affect.tasks.diarization.losses import terms_of
from affect.tasks.diarization.models.ours import own_frames
from affect.tasks.diarization.slots import assign
from tests.tasks.diarization.blocks import OURS, heard, inputs, made, sections


@pytest.mark.parametrize("name", OURS)
def test_slots_in_another_order_give_the_same_in_that_order(name):
    model = made(name).eval()
    given = inputs(model.config)
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    turned = model(**{**given, "slots": given["slots"][:, order]})[ACTIVITY]
    torch.testing.assert_close(turned, model(**given)[ACTIVITY][:, order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_an_empty_slot_changes_nothing(name):
    model = made(name).eval()
    given = inputs(model.config)
    slots = torch.tensor([[PSEUDO, 1, 0]] * 3)
    more = torch.tensor([[PSEUDO, EMPTY, 1, EMPTY, 0, EMPTY, EMPTY]] * 3)
    three, seven = (model(**{**given, "slots": s})[ACTIVITY] for s in (slots, more))
    torch.testing.assert_close(seven[:, [0, 2, 4]], three, atol=1e-5, rtol=1e-4)
    assert (seven[:, [1, 3, 5, 6]] == -20).all()


def test_speakers_in_another_order_change_no_slot():
    model = made("ours").eval()
    given = inputs(model.config)
    turned = {**given, "slots": torch.where(given["slots"] >= 0, 2 - given["slots"], given["slots"])}
    turned |= {name: given[name].flip(1) for name in ("spoken", "reference_spoken")}
    torch.testing.assert_close(model(**turned)[ACTIVITY], model(**given)[ACTIVITY], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_an_embedding_follows_when_its_speaker_is_active(name):
    model = made(name).eval()
    given = inputs(model.config, [0])
    moved = {**given, "spoken": given["spoken"].roll(3, -1)}
    wanted, moved = (model(**some)[EMBEDDING].detach() for some in (given, moved))
    assert float((moved - wanted).norm(dim=-1).min()) > 1e-3
    torch.testing.assert_close(wanted.norm(dim=-1), torch.ones(1, 3))


def test_an_embedding_is_of_frames_that_are_a_speakers_own():
    activity = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    own = own_frames(activity)
    torch.testing.assert_close(own[0, 0], torch.tensor([1.0, 1e-3, 0.0, 0.0]), atol=1e-5, rtol=1e-4)
    assert not own[0, 2].any()
    torch.testing.assert_close(own_frames(torch.full((1, 2, 1), 0.25)), torch.full((1, 2, 1), 0.25 * 0.75))
    model = made("ours").eval()
    features, mask = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
    active = torch.tensor([[[1.0, 1, 1, 0, 0, 0], [0.0, 0, 1, 1, 0, 0]]])
    before = model.represent(features, mask, active)
    features[:, 2] += 5
    torch.testing.assert_close(model.represent(features, mask, active), before, atol=0.05, rtol=0)
    features[:, 0] += 5
    after = model.represent(features, mask, active)
    own, other = (after - before)[0].norm(dim=-1).tolist()
    assert own > 5 * other


def test_who_is_in_a_slot_counts():
    """By gradient and by exchange: what a slot gives is its embedding's, and nothing is its place's."""
    model = made("ours").eval()
    given = inputs(model.config)
    features, mask = model.features(given["waveform"], given["samples"])
    encoded = model.encode(features, mask)
    embeddings = torch.nn.functional.normalize(torch.randn(3, 2, 16), dim=-1).requires_grad_()
    slots = torch.tensor([[PSEUDO, 0, 1]] * 3)
    logits = model.detect(encoded, mask, slots, embeddings)
    exchanged = model.detect(encoded, mask, slots, embeddings.flip(1))
    torch.testing.assert_close(exchanged[:, [0, 2, 1]], logits, atol=1e-5, rtol=1e-4)
    assert float((exchanged - logits)[:, 1:].abs().mean().detach()) > 0.1 * float(logits.detach().std())
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), embeddings)
    own, other = gradient.norm(dim=-1).mean(0).tolist()
    assert own > other > 0


def gradient(model, targets, given, parameter) -> Tensor:
    """Return the gradient of activity's loss by one parameter."""
    term = terms_of(*sections("ours_two"))[0]
    outputs = model(**given)
    (found,) = torch.autograd.grad(term.sum(outputs, targets) / term.count(targets), parameter)
    return found


def test_the_pseudo_speaker_is_not_taught_silence_where_somebody_is_new():
    """Before any training its logits are asked to rise where the newcomer speaks, and empty slots ask nothing."""
    model, loss = sections("ours")
    spoken = np.zeros((3, 12), np.float32)
    spoken[0, 2:6] = spoken[1, 6:9] = 1
    given = assign(spoken, np.array([False, True, False]), model, loss, np.random.default_rng(0))
    assert (given.slots == PSEUDO).sum() == 1, "no padding is its"
    targets = {
        ACTIVITY: torch.from_numpy(given.activity)[None], CANDIDATES: torch.from_numpy(given.candidates)[None],
    }  # fmt: skip
    logits = torch.zeros(1, 6, 12, requires_grad=True)
    term = terms_of(model, loss)[0]
    (wanted,) = torch.autograd.grad(term.sum({ACTIVITY: logits}, targets), logits)
    newcomer = 0 if 1 in given.slots else int(np.isfinite(given.candidates).any(1).argmax())
    assert (wanted[0, 0, spoken[newcomer] > 0] < 0).all()
    assert not wanted[0, given.slots == EMPTY].any()


def test_the_non_speaker_has_a_gradient_of_activity():
    model = made("ours_two").eval()
    given = inputs(model.config)
    slots, frames = given["slots"], given["spoken"].shape[2]
    assert (slots == NON_SPEAKER).any()
    label = torch.zeros(3, 6, frames)
    targets = {ACTIVITY: label, CANDIDATES: torch.full((3, 3, frames), torch.nan)}
    assert gradient(model, targets, given, model.non_speaker).abs().sum() > 0
    assert gradient(model, targets, given, model.pseudo).abs().sum() > 0


def test_a_frame_is_kept_between_windows():
    """Of a recording's mean, features of a window are those of the recording but for its edges."""
    model = made("ours").eval()
    waveform = 0.1 * torch.randn(1, 30 * 1280)
    levels, steps = model.extractor.mel.levels(waveform, torch.tensor([waveform.shape[1]]), 8)
    mean = levels.sum(1) / steps[:, None]
    whole, _ = model.features(waveform, torch.tensor([waveform.shape[1]]), mean)
    part = waveform[:, 10 * 1280 : 20 * 1280]
    window, _ = model.features(part, torch.tensor([part.shape[1]]), mean)
    torch.testing.assert_close(window[:, 2:-2], whole[:, 12:18], atol=1e-4, rtol=0)


def test_any_length_and_any_number_of_slots_are_taken():
    model = made("ours").eval()
    with torch.no_grad():
        features, mask = model.features(torch.randn(1, 40 * 1280), torch.tensor([40 * 1280]))
        encoded = model.encode(features, mask)
        nobody = model.detect(encoded, mask, torch.tensor([[PSEUDO]]), torch.zeros(1, 0, 16))
        many = model.detect(encoded, mask, torch.tensor([[PSEUDO, *range(11)]]), torch.randn(1, 11, 16))
    assert (nobody.shape, many.shape) == ((1, 1, 40), (1, 12, 40))
    outputs = heard(model)
    assert outputs[EMBEDDING].shape == outputs[REFERENCE].shape == (3, 3, 16)
