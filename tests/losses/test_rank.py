"""The order of pairs against the formula pair by pair, where labels are missing and where there is no pair."""

from __future__ import annotations

import itertools

import pytest
import torch

from affect.losses.rank import pairwise_rank, rank_term
from affect.training.terms import whole

NAN = float("nan")


def sample(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and targets [N] with ties and missing ones."""
    g = torch.Generator().manual_seed(0)
    target = torch.randint(1, 6, (n,), generator=g).float()
    target[::5] = NAN
    return 3 + torch.randn(n, generator=g), target


def by_formula(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the mean of max(0, |yi - yj| - e (xi - xj)), e = 1 where yi >= yj else -1 (Wen and Wang 2021)."""
    there = [k for k in range(len(y)) if not torch.isnan(y[k])]
    short = []
    for i, j in itertools.combinations(there, 2):
        if y[i] != y[j]:
            e = 1 if y[i] >= y[j] else -1
            short.append(torch.relu((y[i] - y[j]).abs() - e * (x[i] - x[j])))
    return torch.stack(short).mean()


def test_value_and_gradient_are_the_formulas():
    x, y = sample()
    x.requires_grad_()
    value = pairwise_rank(x, y)
    value.backward()
    other = x.detach().clone().requires_grad_()
    wanted = by_formula(other, y)
    wanted.backward()
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(x.grad, other.grad)
    assert not x.grad[torch.isnan(y)].any()


def test_known_values():
    y = torch.tensor([1.0, 2.0, 4.0])
    assert float(pairwise_rank(y + 7, y)) == 0.0, "an offset is no order"
    assert float(pairwise_rank(2 * y, y)) == 0.0
    assert float(pairwise_rank(torch.zeros(3), y)) == pytest.approx((1 + 3 + 2) / 3)
    assert float(pairwise_rank(-y, y)) == pytest.approx(2 * (1 + 3 + 2) / 3)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(kind):
    y = torch.tensor([100.0, 101.0, 300.0])
    value = pairwise_rank(torch.full((3,), 200.0, dtype=kind), y)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx((1 + 200 + 199) / 3)


@pytest.mark.parametrize("y", [[], [1.0], [2.0, 2.0, 2.0], [NAN, 1.0], [NAN, NAN]])
def test_without_a_pair_it_is_0_with_a_gradient_of_0(y):
    x = torch.arange(len(y), dtype=torch.float32).requires_grad_()
    value = pairwise_rank(x, torch.tensor(y))
    value.backward()
    assert float(value) == 0.0
    assert not x.grad.any()


def test_the_term_takes_part_where_two_labels_differ():
    x, y = sample()
    term = rank_term("t", weight=0.5, log_variance=1)
    assert not term.additive
    assert (term.name, term.outputs, term.targets, term.weight, term.log_variance) == ("rank_t", ("t",), ("t",), 0.5, 1)
    found = whole([rank_term("t")], {"t": x}, {"t": y})
    assert float(found.total) == pytest.approx(float(pairwise_rank(x, y)))
    assert bool(found.defined["rank_t"])
    assert not whole([rank_term("t")], {"t": x}, {"t": torch.full_like(y, 3.0)}).defined["rank_t"]
