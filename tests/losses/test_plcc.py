"""PLCC against NumPy's and finite differences, where labels are missing and where it is undefined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.losses.plcc import plcc, plcc_term
from affect.training.terms import whole
from tests.losses.correlations import hold_finite_differences, sample

NAN = float("nan")


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60), st.integers(0, 10**6), st.floats(-100, 100), st.floats(0.01, 100))
def test_value_is_numpys(n, seed, offset, scale):
    x, y = sample(n, seed, offset, scale)
    assert float(plcc(x, y)) == pytest.approx(np.corrcoef(x.double(), y.double())[0, 1], abs=1e-6)
    # In float64: far from 0 a product in float32 rounds small differences away.
    assert float(plcc(3 * x.double() - 7, y)) == pytest.approx(float(plcc(x, y)), abs=1e-5)


def test_gradient_is_the_finite_difference():
    hold_finite_differences(plcc)


@pytest.mark.parametrize(("offset", "scale"), [(1e4, 1.0), (-3e5, 1.0), (1e-4, 1e-6)])
def test_large_offsets_lose_nothing(offset, scale):
    x, y = sample(64, 2, offset, scale)
    assert float(plcc(x, y)) == pytest.approx(np.corrcoef(x.double(), y.double())[0, 1], abs=1e-6)


def test_half_precision_predictions_are_widened():
    x, y = sample(64, 2)
    half = x.to(torch.bfloat16).requires_grad_()
    value = plcc(half, y)
    value.backward()
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(float(plcc(half.detach().float(), y)), abs=1e-6)
    assert half.grad.dtype == torch.bfloat16


def test_missing_labels_are_left_out():
    x, y = sample(20, 3)
    hole = torch.arange(20) % 3 == 0
    x.requires_grad_()
    value = plcc(x, torch.where(hole, NAN, y))
    value.backward()
    alone = x.detach()[~hole].requires_grad_()
    wanted = plcc(alone, y[~hole])
    wanted.backward()
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(x.grad[~hole], alone.grad)
    assert not x.grad[hole].any()


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]), ([2.0, 2.0], [2.0, 2.0]),
        ([1.0, 2.0], [NAN, NAN]), ([1.0, 2.0], [1.0, NAN]), ([1.0], [1.0]), ([], []),
        ([1.0, 1.0 + 1e-7, 1.0], [1.0, 2.0, 4.0]),
    ],
)  # fmt: skip
def test_undefined_is_0_with_a_gradient_of_0(x, y):
    prediction = torch.tensor(x).requires_grad_()
    value = plcc(prediction, torch.tensor(y))
    value.backward()
    assert float(value) == 0.0
    assert not prediction.grad.any()


def test_the_term_is_half_of_1_less_it():
    x, y = sample(20, 4)
    term = plcc_term("t", weight=0.5, log_variance=1)
    assert not term.additive
    assert (term.name, term.outputs, term.targets, term.weight, term.log_variance) == ("plcc_t", ("t",), ("t",), 0.5, 1)
    found = whole([plcc_term("t")], {"t": x}, {"t": y})
    assert float(found.total) == pytest.approx((1 - float(plcc(x, y))) / 2)
    assert float(whole([plcc_term("t")], {"t": -y}, {"t": y}).total) == pytest.approx(1.0)
    assert not whole([plcc_term("t")], {"t": x}, {"t": torch.full_like(y, 3.0)}).defined["plcc_t"]
