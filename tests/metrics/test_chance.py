"""Chance levels of losses: by the report's numbers, and by embeddings drawn at random."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from affect.losses.arcface import arcface
from affect.losses.speaker_contrastive import speaker_contrastive
from affect.metrics import chance


def test_entropy_of_the_reports_share_of_active_slots():
    assert chance.entropy(0.039) == pytest.approx(0.165, abs=5e-4)
    assert chance.entropy(0.5) == pytest.approx(math.log(2))
    assert chance.entropy(0.0) == chance.entropy(1.0) == 0.0


def test_arcface_of_the_report():
    """A drop from one to the other is another scale, and no learning."""
    assert chance.random_arcface(481, 32.0, 0.2) == pytest.approx(14.5, abs=0.1)
    assert chance.random_arcface(481, 16.0, 0.1) == pytest.approx(8.2, abs=0.1)


@pytest.mark.parametrize(("scale", "margin"), [(32.0, 0.2), (16.0, 0.1), (64.0, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize(("classes", "width"), [(481, 256), (40, 64), (2, 128)])
def test_it_is_the_loss_of_embeddings_drawn_at_random(scale, margin, classes, width):
    g = torch.Generator().manual_seed(0)
    vectors, table = (F.normalize(torch.randn(n, width, generator=g), dim=-1) for n in (3000, classes))
    cosine = vectors @ table.T
    target = torch.arange(3000) % classes
    term = arcface("s", margin=margin, scale=scale)
    value = float(term.sum({"s": cosine}, {"s": target})) / 3000
    assert chance.random_arcface(classes, scale, margin, width) == pytest.approx(value, rel=0.03)


@pytest.mark.parametrize(("voices", "count"), [(48, 30), (6, 60), (1000, 2)])
def test_contrastive_is_the_loss_of_embeddings_that_are_all_alike(voices, count):
    g = torch.Generator().manual_seed(0)
    term = speaker_contrastive("a", "b", "voices")
    alike = torch.ones(1, count, 8)
    losses = [
        float(term.value({"a": alike, "b": alike}, {"voices": torch.randint(voices, (1, count), generator=g)}))
        for _ in range(200)
    ]
    assert chance.contrastive(count, voices) == pytest.approx(sum(losses) / len(losses), rel=0.01)
    assert chance.contrastive(1, voices) == chance.contrastive(count, 1) == 0.0


def test_one_class_is_always_right():
    assert chance.arcface(1, 32.0, 0.2) == chance.random_arcface(1, 32.0, 0.2) == 0.0


def anybody(table: torch.Tensor, embedding: torch.Tensor, scale: float, margin: float) -> torch.Tensor:
    """Return the ArcFace loss of one embedding [D] that stands for all classes of a table [C, D], each as often."""
    cosine = F.normalize(table, dim=-1) @ F.normalize(embedding, dim=-1)
    count = len(table)
    term = arcface("s", margin=margin, scale=scale)
    return term.sum({"s": cosine.expand(count, -1)}, {"s": torch.arange(count)}) / count


@pytest.mark.parametrize(("classes", "scale", "margin"), [(12, 32.0, 0.2), (3, 8.0, 0.5)])
def test_no_optimisation_finds_a_lower_arcface_of_an_embedding_that_is_the_same_for_all(classes, scale, margin):
    level, g = chance.arcface(classes, scale, margin), torch.Generator().manual_seed(0)
    table, embedding = (torch.randn(*n, 8, generator=g).requires_grad_() for n in ((classes,), ()))
    optimizer = torch.optim.Adam([table, embedding], lr=0.1)
    found = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = anybody(table, embedding, scale, margin)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert min(found) > level - 1e-4
    assert min(found) == pytest.approx(level, rel=0.02)
    assert level < chance.random_arcface(classes, scale, margin, 8)


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5, 1.5, 2.6])
def test_of_cosines_that_are_all_the_same_none_has_a_lower_arcface(margin):
    cosine = torch.linspace(-1, 1, 41)[:, None].expand(-1, 5)
    term = arcface("s", margin=margin, scale=4.0)
    losses = [float(term.sum({"s": row[None]}, {"s": torch.zeros(1, dtype=torch.long)})) for row in cosine]
    assert min(losses) == pytest.approx(chance.arcface(5, 4.0, margin), abs=0.05)
    assert min(losses) > chance.arcface(5, 4.0, margin) - 1e-3


def test_embeddings_that_tell_who_speaks_get_below_chance():
    table = torch.eye(48)
    term = arcface("s", margin=0.2, scale=32.0)
    value = float(term.sum({"s": table @ table.T}, {"s": torch.arange(48)})) / 48
    level = chance.arcface(48, 32.0, 0.2)
    assert value < 1e-6 < level == pytest.approx(math.log(1 + 47 * math.exp(32 * (1 - math.cos(0.2)))))


def test_a_guess_seldom_has_more_right():
    """With 48 classes: four deviations of 2,000 guesses are under what two deviations of 64 are."""
    drawn = torch.randint(48, (1000, 64), generator=torch.Generator().manual_seed(0))
    limit = chance.most_right(48, 64)
    assert 0.94 < float(((drawn == 0).float().mean(1) <= limit).float().mean()) < 1
    assert 1 / 48 < chance.most_right(48, 1e6) < 1.1 / 48
