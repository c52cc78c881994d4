"""ArcFace against angles by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from affect.losses.arcface import arcface
from affect.training.terms import whole

N, C = 12, 5


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    cosine = torch.rand(N, C, generator=g) * 1.9 - 0.95
    target = torch.randint(C, (N,), generator=g)
    target[3] = target[7] = -100
    return cosine, target


def by_hand(cosine: np.ndarray, target: np.ndarray, margin: float, scale: float) -> float:
    """Return the mean loss over valid examples, angle by angle, in float64."""
    losses = []
    for row, true in zip(cosine.astype(np.float64), target, strict=True):
        if true == -100:
            continue
        angle = math.acos(row[true])
        logits = row.copy()
        # Past pi the cosine would rise again; the straight line of the authors' own code goes on instead.
        logits[true] = math.cos(angle + margin) if angle + margin < math.pi else row[true] - margin * math.sin(margin)
        logits *= scale
        losses.append(-(logits[true] - logits.max() - math.log(np.exp(logits - logits.max()).sum())))
    return float(np.mean(losses))


@pytest.mark.parametrize(("margin", "scale"), [(0.2, 30.0), (0.5, 64.0), (0.05, 1.0)])
def test_value_is_that_of_the_angles(margin, scale):
    cosine, target = sample()
    term = arcface("speaker", margin=margin, scale=scale)
    value = whole([term], {"speaker": cosine}, {"speaker": target}).values["arcface_speaker"]
    assert float(value) == pytest.approx(by_hand(cosine.numpy(), target.numpy(), margin, scale), rel=1e-5)


def test_past_pi_the_loss_keeps_rising():
    """The true class on the far side of the sphere: a plain cos(angle + margin) would reward it."""
    angles = torch.linspace(math.pi - 0.6, math.pi - 0.01, 30)
    cosine = torch.stack([angles.cos(), torch.zeros(30)], dim=1)
    term = arcface("s", margin=0.5, scale=1.0)
    values = [float(term.sum({"s": row[None]}, {"s": torch.tensor([0])})) for row in cosine]
    assert (np.diff(values) > 0).all()


def test_no_margin_is_cross_entropy_of_scaled_cosines():
    cosine, target = sample()
    value = arcface("s", margin=0.0, scale=10.0).sum({"s": cosine}, {"s": target})
    wanted = F.cross_entropy(10 * cosine, target, ignore_index=-100, reduction="sum")
    assert float(value) == pytest.approx(float(wanted), rel=1e-5)


def test_the_margin_makes_it_harder():
    cosine, target = sample()
    easy, hard = (float(arcface("s", margin=m).sum({"s": cosine}, {"s": target})) for m in (0.0, 0.3))
    assert hard > easy


def test_gradient_is_the_finite_difference():
    cosine, target = sample()
    term = arcface("s", margin=0.2, scale=4.0)
    cosine.requires_grad_()
    term.sum({"s": cosine}, {"s": target}).backward()

    def mean(values: np.ndarray) -> float:
        return by_hand(values, target.numpy(), 0.2, 4.0) * 10

    plain = cosine.detach().double().numpy()
    for i, j in ((0, 0), (1, int(target[1])), (5, 2), (11, int(target[11])), (3, 1)):
        step = np.zeros_like(plain)
        step[i, j] = 1e-6
        slope = (mean(plain + step) - mean(plain - step)) / 2e-6
        assert float(cosine.grad[i, j]) == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("value", [1.0, -1.0, 1.0000001, -1.0000001, 0.0])
def test_the_ends_of_the_cosine_have_finite_gradients(value):
    cosine = torch.full((3, C), value, requires_grad=True)
    loss = arcface("s").sum({"s": cosine}, {"s": torch.tensor([0, 1, -100])})
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(cosine.grad).all()
    assert not cosine.grad[2].any()


def test_no_valid_speaker_is_0_with_a_gradient_of_0():
    for rows in (4, 0):
        cosine = torch.rand(rows, C, requires_grad=True)
        target = torch.full((rows,), -100)
        value = arcface("s").sum({"s": cosine}, {"s": target})
        value.backward()
        assert float(value.detach()) == 0.0
        assert not cosine.grad.any()
        assert int(arcface("s").count({"s": target})) == 0


def test_pieces_add_up_to_the_whole():
    cosine, target = sample()
    term = arcface("s")
    cuts = [0, 1, 4, 4, 9, N]
    parts = [({"s": cosine[a:b]}, {"s": target[a:b]}) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    total = sum(float(term.sum(o, t)) for o, t in parts)
    assert total == pytest.approx(float(term.sum({"s": cosine}, {"s": target})), rel=1e-6)
    assert sum(int(term.count(t)) for _, t in parts) == 10


def test_half_precision_cosines_are_widened():
    cosine, target = sample()
    half = cosine.to(torch.bfloat16)
    value = whole([arcface("s")], {"s": half}, {"s": target}).total
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(by_hand(half.float().numpy(), target.numpy(), 0.2, 30.0), rel=1e-5)


def test_several_embeddings_an_example_count_as_so_many():
    cosine, target = sample()
    term = arcface("s", log_variance=1)
    value = term.sum({"s": cosine.view(3, 4, C)}, {"s": target.view(3, 4)})
    assert float(value) == pytest.approx(float(term.sum({"s": cosine}, {"s": target})), rel=1e-6)
    assert int(term.count({"s": target.view(3, 4)})) == 10
    assert term.log_variance == 1
