"""InfoNCE against a sum over pairs by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from affect.losses.alignment import contrastive


def sample(n: int = 9, d: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(n, d, generator=g)
    return first, first + 0.5 * torch.randn(n, d, generator=g)


def by_hand(first: np.ndarray, second: np.ndarray, temperature: float) -> float:
    """Return the mean of both directions' cross entropy, pair by pair, in float64."""
    first, second = first.astype(np.float64), second.astype(np.float64)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    n, total = len(first), 0.0
    for a, b in ((first, second), (second, first)):
        for i in range(n):
            rest = sum(math.exp(cosine(a[i], b[j]) / temperature) for j in range(n))
            total -= math.log(math.exp(cosine(a[i], b[i]) / temperature) / rest)
    return total / (2 * n)


def value(first: torch.Tensor, second: torch.Tensor, **named: float) -> torch.Tensor:
    return contrastive("a", "b", **named).value({"a": first, "b": second}, {})


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_value_is_that_of_the_pairs(n, temperature):
    first, second = sample(n)
    wanted = by_hand(first.numpy(), second.numpy(), temperature)
    assert float(value(first, second, temperature=temperature)) == pytest.approx(wanted, abs=1e-6)


def test_both_directions_count():
    first, second = sample()
    assert float(value(first, second)) == pytest.approx(float(value(second, first)), rel=1e-6)


def test_scale_of_the_embeddings_does_not_matter():
    first, second = sample()
    assert float(value(first * 1e4, second * 1e-3)) == pytest.approx(float(value(first, second)), rel=1e-4)


def test_alignment_is_rewarded():
    first, second = sample()
    assert float(value(first, first)) < float(value(first, second)) < float(value(first, second.flip(0)))


def test_it_is_no_sum_over_pieces():
    """Why it is gathered: half a batch has half the negatives."""
    first, second = sample(10)
    halves = (float(value(first[:5], second[:5])) + float(value(first[5:], second[5:]))) / 2
    assert abs(halves - float(value(first, second))) > 0.05
    term = contrastive("a", "b")
    assert not term.additive
    assert (term.outputs, term.targets) == (("a", "b"), ())


def test_gradients_are_those_of_the_formula():
    first, second = sample(5)
    first.requires_grad_()
    value(first, second, temperature=0.5).backward()
    plain = first.detach().double().numpy()
    for i, j in ((0, 0), (2, 3), (4, 1)):
        step = np.zeros_like(plain)
        step[i, j] = 1e-6
        slope = (by_hand(plain + step, second.numpy(), 0.5) - by_hand(plain - step, second.numpy(), 0.5)) / 2e-6
        assert float(first.grad[i, j]) == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_constant_embeddings_have_finite_gradients(fill):
    first = torch.full((4, 3), fill, requires_grad=True)
    loss = value(first, torch.full((4, 3), fill))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(4), rel=1e-5)
    assert torch.isfinite(first.grad).all()


def test_half_precision_embeddings_are_widened():
    first, second = (v.to(torch.bfloat16) for v in sample())
    loss = value(first, second)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(by_hand(first.float().numpy(), second.float().numpy(), 0.1), rel=1e-4)
