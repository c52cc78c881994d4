"""The focal loss against its formula, and what its outputs stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from affect.losses.focal import focal, focal_loss, posterior, threshold


def by_hand(p: float, y: int, alpha: float, gamma: float) -> float:
    return -alpha * (1 - p) ** gamma * math.log(p) if y else -(1 - alpha) * p**gamma * math.log(1 - p)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 2.0), (0.5, 0.5), (0.3, 0.0)])
def test_value_is_the_formulas_and_missing_labels_count_nowhere(alpha, gamma):
    logits = torch.tensor([[-3.0, 0.5, 9.0], [2.0, -0.1, 0.0]])
    label = torch.tensor([[0.0, 1.0, torch.nan], [1.0, 0.0, 0.0]])
    term = focal("x", alpha=alpha, gamma=gamma)
    pairs = zip(logits.flatten().tolist(), label.flatten().tolist(), strict=True)
    wanted = [by_hand(1 / (1 + math.exp(-x)), int(y), alpha, gamma) for x, y in pairs if not math.isnan(y)]
    assert float(term.sum({"x": logits}, {"x": label})) == pytest.approx(sum(wanted), rel=1e-5)
    assert int(term.count({"x": label})) == 5


def test_without_focus_it_is_half_the_cross_entropy():
    logits, label = torch.linspace(-4, 4, 9), (torch.arange(9) % 2).float()
    bce = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    torch.testing.assert_close(focal_loss(logits, label, alpha=0.5, gamma=0.0), bce / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_far_logits_have_finite_gradients(gamma):
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    focal_loss(logits, torch.tensor([0.0, 1.0, 1.0, 0.0]), gamma=gamma).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(posterior(logits.detach(), gamma=gamma)).all()


def test_one_half_stands_for_three_quarters():
    """Of the report's alpha; of the one it turned to later for a quarter."""
    for alpha, wanted in ((0.25, 0.75), (0.75, 0.25), (0.5, 0.5)):
        assert float(posterior(torch.tensor(0.0), alpha=alpha).sigmoid()) == pytest.approx(wanted, abs=1e-6)
    assert float(posterior(torch.tensor(0.7), alpha=0.25, gamma=0.0)) == pytest.approx(0.7 + math.log(3), rel=1e-5)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.75, 2.0), (0.4, 0.0), (0.25, 5.0)])
@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9])
def test_the_output_that_costs_least_stands_for_the_probability(alpha, gamma, probability):
    x = np.linspace(-12, 12, 24001)
    p = 1 / (1 + np.exp(-x))
    cost = -probability * alpha * (1 - p) ** gamma * np.log(p)
    cost -= (1 - probability) * (1 - alpha) * p**gamma * np.log(1 - p)
    least = float(x[cost.argmin()])
    stood = posterior(torch.tensor(least, dtype=torch.float64), alpha=alpha, gamma=gamma).sigmoid()
    assert float(stood) == pytest.approx(probability, abs=2e-3)
    assert threshold(alpha, gamma, probability) == pytest.approx(1 / (1 + math.exp(-least)), abs=1e-3)


def test_pieces_add_up_to_the_whole():
    g = torch.Generator().manual_seed(0)
    logits, label = torch.randn(9, 4, generator=g), (torch.rand(9, 4, generator=g) > 0.5).float()
    term = focal("x")
    parts = [({"x": logits[a:b]}, {"x": label[a:b]}) for a, b in ((0, 2), (2, 2), (2, 9))]
    assert sum(float(term.sum(*part)) for part in parts) == pytest.approx(
        float(term.sum({"x": logits}, {"x": label})), rel=1e-6
    )
