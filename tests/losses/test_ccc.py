"""CCC against audmetric and its gradient against the formula, where labels are missing and where it is undefined."""

from __future__ import annotations

import audmetric
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.losses.ccc import ccc, ccc_term, varied
from tests.losses.correlations import hold_finite_differences, sample

NAN = float("nan")


def gradient_by_formula(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dCCC/dx: the quotient rule on Lin's definition with biased moments."""
    n, mx, my = len(x), x.mean(), y.mean()
    covariance = ((x - mx) * (y - my)).mean()
    spread = x.var() + y.var() + (mx - my) ** 2
    return 2 * (y - my) / n / spread - 2 * covariance / spread**2 * 2 * ((x - mx) + (mx - my)) / n


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6), st.floats(-100, 100), st.floats(0.01, 100))
def test_value_is_audmetrics(n, seed, offset, scale):
    x, y = sample(n, seed, offset, scale)
    wanted = audmetric.concordance_cc(y.double().numpy(), x.double().numpy())
    assert float(ccc(x, y)) == pytest.approx(wanted, abs=1e-6)


def test_known_values():
    y = torch.tensor([1.0, 2.0, 3.0])
    assert float(ccc(y, y)) == pytest.approx(1.0)
    assert float(ccc(-y, y)) == pytest.approx(-2 * (2 / 3) / (4 / 3 + 16))
    assert float(ccc(y + 1, y)) == pytest.approx((4 / 3) / (4 / 3 + 1))
    assert ccc(y, y).shape == ()
    assert ccc(y, y).dtype == torch.float32


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e4])
def test_gradient_is_the_formulas(offset):
    x, y = sample(24, 0, offset)
    x.requires_grad_()
    ccc(x, y).backward()
    wanted = gradient_by_formula(x.detach().double().numpy(), y.double().numpy())
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-4, atol=1e-7)


def test_gradient_is_the_finite_difference():
    hold_finite_differences(ccc)


@pytest.mark.parametrize(("offset", "scale"), [(1e4, 1.0), (1e4, 0.1), (-3e5, 1.0), (1e-4, 1e-6)])
def test_large_offsets_lose_nothing(offset, scale):
    """E[x^2] - E[x]^2 in float32 would be noise here."""
    x, y = sample(64, 2, offset, scale)
    wanted = audmetric.concordance_cc(y.double().numpy(), x.double().numpy())
    assert float(ccc(x, y)) == pytest.approx(wanted, abs=1e-6)
    if offset == 1e4 and scale == 0.1:
        naive = 2 * ((x * y).mean() - x.mean() * y.mean())
        naive /= x.square().mean() - x.mean() ** 2 + y.square().mean() - y.mean() ** 2 + (x.mean() - y.mean()) ** 2
        assert not abs(float(naive) - wanted) < 0.01, "the test must notice a naive float32 sum"


def test_missing_labels_are_left_out():
    x, y = sample(20, 3)
    hole = torch.arange(20) % 3 == 0
    with_holes = torch.where(hole, NAN, y)
    x.requires_grad_()
    value = ccc(x, with_holes)
    value.backward()
    alone = x.detach()[~hole].requires_grad_()
    wanted = ccc(alone, y[~hole])
    wanted.backward()
    assert torch.equal(value.detach(), wanted.detach())
    assert torch.equal(x.grad[~hole], alone.grad)
    assert torch.equal(x.grad[hole], torch.zeros(int(hole.sum())))


@pytest.mark.parametrize(
    ("x", "y", "wanted"),
    [
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], 0.0),
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0], 0.0),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0], 0.0),
        ([2.0, 2.0, 2.0], [3.0, 3.0, 3.0], 0.0),
        ([1.0, 2.0], [NAN, NAN], 0.0),
        ([1.0, 2.0], [1.0, NAN], 0.0),
        ([1.0], [1.0], 0.0),
        ([], [], 0.0),
    ],
)
def test_undefined_is_0_with_a_finite_gradient(x, y, wanted):
    prediction = torch.tensor(x).requires_grad_()
    value = ccc(prediction, torch.tensor(y))
    value.backward()
    assert float(value) == wanted
    assert torch.isfinite(prediction.grad).all()


def test_constant_predictions_have_a_way_out():
    """At a constant prediction the CCC is 0, its gradient is not."""
    prediction = torch.full((4,), 2.0, requires_grad=True)
    ccc(prediction, torch.tensor([1.0, 2.0, 3.0, 2.0])).backward()
    assert float(prediction.grad.abs().max()) > 0


def test_the_term_is_one_minus_ccc_of_its_target():
    x, y = sample(16, 4)
    term = ccc_term("valence", weight=1.5)
    assert float(term.value({"valence": x}, {"valence": y})) == pytest.approx(1 - float(ccc(x, y)))
    assert (term.name, term.weight, term.additive) == ("ccc_valence", 1.5, False)
    assert (term.outputs, term.targets) == (("valence",), ("valence",))


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([], False), ([NAN, NAN], False), ([2.0], False), ([2.0, NAN, NAN], False), ([2.0, 2.0, NAN, 2.0], False),
        ([2.0, NAN, 2.5], True), ([0.0, 1e-30], True),
    ],
)  # fmt: skip
def test_two_labels_that_differ_define_it(labels, wanted):
    """Whatever is predicted; its value and its gradient are finite there, too."""
    target = torch.tensor(labels)
    assert bool(varied(target)) is bool(ccc_term("v").defined({"v": target})) is wanted if labels else not wanted
    x = torch.linspace(0.0, 1.0, len(labels)).requires_grad_()
    value = ccc_term("v").value({"v": x}, {"v": target})
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(x.grad).all()


def test_half_precision_outputs_are_computed_wide():
    x, y = sample(32, 7, offset=3.0)
    for kind in (torch.bfloat16, torch.float16):
        wanted = audmetric.concordance_cc(y.double().numpy(), x.to(kind).double().numpy())
        assert float(ccc(x.to(kind), y)) == pytest.approx(wanted, abs=1e-6)
