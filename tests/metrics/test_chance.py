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
    assert chance.arcface(481, 32.0, 0.2) == pytest.approx(14.5, abs=0.1)
    assert chance.arcface(481, 16.0, 0.1) == pytest.approx(8.2, abs=0.1)


@pytest.mark.parametrize(("scale", "margin"), [(32.0, 0.2), (16.0, 0.1), (64.0, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize(("classes", "width"), [(481, 256), (40, 64), (2, 128)])
def test_it_is_the_loss_of_embeddings_drawn_at_random(scale, margin, classes, width):
    g = torch.Generator().manual_seed(0)
    vectors, table = (F.normalize(torch.randn(n, width, generator=g), dim=-1) for n in (3000, classes))
    cosine = vectors @ table.T
    target = torch.arange(3000) % classes
    term = arcface("s", margin=margin, scale=scale)
    value = float(term.sum({"s": cosine}, {"s": target})) / 3000
    assert chance.arcface(classes, scale, margin, width) == pytest.approx(value, rel=0.03)


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
    assert chance.arcface(1, 32.0, 0.2) == 0.0
