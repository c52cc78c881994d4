"""What a run says of itself: numbers that add up over any cut, chance beside them, and flags."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from affect.metrics import chance
from affect.tasks.diarization.config import ACTIVITY, CANDIDATES, SPEAKER, VOICES, Diarization, Loss, Model
from affect.tasks.diarization.diagnostics import (
    THRESHOLDS,
    best_threshold,
    chances,
    conclusions,
    deviation,
    flags,
    random_arcface,
    sums,
)

MODEL = Model(slots=3)
PLAIN = Loss()
RECIPE = Diarization()
SLOTS = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0]]).float()


def means(logits, targets, loss=PLAIN, rows=(slice(None),), **outputs) -> dict[str, float]:
    """Return the means of what pieces of a batch add up to."""
    totals: dict[str, list[float]] = {}
    for piece in rows:
        given = {name: value[piece] for name, value in {ACTIVITY: logits, **outputs}.items()}
        for name, (total, count) in sums(given, {k: v[piece] for k, v in targets.items()}, MODEL, loss).items():
            held = totals.setdefault(name, [0.0, 0.0])
            held[0] += float(total)
            held[1] += float(count)
    return {name: total / count if count else 0.0 for name, (total, count) in totals.items()}


def block(strength: float = 20.0) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return two blocks: the pseudo-speaker stands for one, another is enrolled, one slot is empty."""
    activity = torch.stack([torch.zeros(4), SLOTS[1], torch.full((4,), torch.nan)]).expand(2, -1, -1)
    candidates = torch.stack([SLOTS[0], torch.full((4,), torch.nan)]).expand(2, -1, -1)
    logits = strength * (torch.stack([SLOTS[0], SLOTS[1], torch.ones(4)]) - 0.5).expand(2, -1, -1)
    return logits, {ACTIVITY: activity, CANDIDATES: candidates, VOICES: torch.tensor([[3, 5], [7, -100]])}


def test_a_perfect_block_is_told_as_one():
    found = means(*block(60.0))
    assert found["positive_rate"] == found["predicted_mean"] == pytest.approx(0.5)
    assert (found["active_slots"], found["taught_slots"]) == (2, 2)
    assert found["compared_speakers"] == 1.5
    assert found["bce"] == pytest.approx(0, abs=1e-6)
    assert (found["predicted_active"], found["predicted_silent"]) == (pytest.approx(1), pytest.approx(0))
    assert all(found[f"der_{100 * t:.0f}"] == 0 for t in THRESHOLDS)
    assert deviation(found) == pytest.approx(0.5)
    assert flags(found, RECIPE, 0, "step 1") == []


def test_errors_of_frames_by_hand():
    """Of four seconds of speech: one missed, one falsely heard, one given to the other speaker."""
    logits, targets = block()
    logits = logits.clone()
    logits[:, 0] = 9 * torch.tensor([-1.0, 1, -1, -1])
    logits[:, 1] = 9 * torch.tensor([1.0, 1, -1, 1])
    found = means(logits, targets)
    assert found["der_50"] == pytest.approx(3 / 4)


def test_pieces_add_up():
    logits, targets = block(1.0)
    whole, cut = means(logits, targets), means(logits, targets, rows=(slice(1), slice(1, 1), slice(1, 2)))
    assert cut == pytest.approx(whole)


def test_silence_is_flagged():
    logits, targets = block()
    base = torch.full_like(logits, math.log(0.5 / 0.5))
    found = means(base, targets)
    level = chances(found, RECIPE, 0)["bce"]
    assert level == chance.entropy(found["positive_rate"]) == pytest.approx(found["bce"])
    signs = {flag.kind: flag for flag in flags(found, RECIPE, 0, "step 9")}
    assert set(signs) >= {"a loss at chance", "constant output"}
    assert signs["a loss at chance"].evidence == "bce 0.693, chance 0.693"


def test_arcface_beside_chance_is_of_its_scale():
    g = torch.Generator().manual_seed(0)
    vectors, table = (torch.nn.functional.normalize(torch.randn(*n, 64, generator=g), dim=-1) for n in ((40, 5), (30,)))
    speaker = torch.randint(30, (40, 5), generator=g)
    speaker[:, 4] = -100
    logits, targets = block(9.0)
    rows = {ACTIVITY: logits[:1].expand(40, -1, -1), SPEAKER: vectors @ table.T}
    labels = {k: v[:1].expand(40, *v.shape[1:]) for k, v in targets.items()} | {SPEAKER: speaker}
    for scale, margin in ((32.0, 0.2), (16.0, 0.1)):
        loss = Loss(arcface=True, scale=scale, margin=margin)
        found = means(rows[ACTIVITY], labels, loss, **{SPEAKER: rows[SPEAKER]})
        assert found["valid_speakers"] == 4
        assert found["speakers_right"] < 0.15
        recipe = Diarization(model=Model(width=64), loss=loss)
        assert found["arcface"] == pytest.approx(random_arcface(recipe, 30), rel=0.08)
        assert [flag.evidence.split()[0] for flag in flags(found, recipe, 30, "step 1")] == ["arcface"]


@pytest.mark.parametrize(
    ("value", "right", "flagged"), [(10.5, 0.02, True), (10.5, 0.041, True), (10.5, 0.5, False), (3.0, 0.02, False)]
)
def test_arcface_far_below_random_is_flagged_where_nobody_is_told_apart(value, right, flagged):
    """`before` ends at 10.5, 66 % of what random embeddings have, and names 2 to 4 % of 48 speakers."""
    loss = Loss(arcface=True)
    recipe = Diarization(model=Model(width=64), loss=loss)
    found = means(*block(60.0)) | {"arcface": value, "speakers_right": right, "valid_speakers": 1.0}
    signs = flags(found, recipe, 48, "step 1")
    assert [flag.kind for flag in signs] == ["a loss at chance"] * flagged
    for flag in signs:
        assert flag.evidence == f"arcface 10.500, chance 4.499 to 15.758; {100 * right:.1f} % right, one of 48"


def test_chance_is_recorded_with_a_step_and_what_looks_wrong_is_told_once_it_is_news():
    logits, targets = block()
    found = means(torch.zeros_like(logits), targets) | {"arcface": 12.0, "speakers_right": 0.1, "valid_speakers": 1.0}
    recipe = Diarization(loss=Loss(arcface=True))
    for share, kinds in ((0.1, []), (0.5, ["a loss at chance", "a loss at chance", "constant output"])):
        numbers, signs = conclusions(found | {"speakers": 3.0}, recipe, 10, share)
        assert numbers == {
            "chance_bce": pytest.approx(found["bce"]), "chance_arcface": chance.arcface(10, 32.0, 0.2),
            "chance_arcface_random": random_arcface(recipe, 10), "chance_speakers_right": 0.1,
            "chance_speakers": chance.contrastive(1.5 * recipe.train.batch, 10),
        }  # fmt: skip
        assert [flag.kind for flag in signs] == kinds


def test_the_focal_loss_is_looked_at_as_probabilities():
    logits, targets = block(0.0)
    loss = Loss(activity="focal")
    found = means(logits, targets, loss)
    assert found["predicted_mean"] == pytest.approx(0.75, abs=1e-6)


def test_another_threshold_is_told():
    logits, targets = block(4.0)
    found = means(logits - 3.5, targets)
    assert best_threshold(found) == (pytest.approx(0.1), 0.0)
    assert found["der_50"] == 1.0
    signs = flags(found, RECIPE, 0, "step 2")
    assert [flag.kind for flag in signs] == ["a loss at chance", "another threshold is better"]


def test_what_each_loss_is_multiplied_by():
    logits, targets = block()
    s = torch.tensor([0.0, 2.3026]).expand(2, -1)
    found = means(logits, targets, replace(Loss(), learned=True), log_variance=s)
    assert (found["weight_bce"], found["weight_arcface"]) == (pytest.approx(1.0), pytest.approx(0.1, rel=1e-4))
