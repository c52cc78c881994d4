"""What the tests of correlations as losses share: correlated pairs, and the gradient by finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor


def sample(n: int, seed: int, offset: float = 0.0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return correlated predictions and targets [N] in float32."""
    random = np.random.default_rng(seed)
    y = random.normal(size=n)
    x = 0.6 * y + 0.5 * random.normal(size=n) + 0.3
    return tuple(torch.tensor(offset + scale * v, dtype=torch.float32) for v in (x, y))


def hold_finite_differences(value: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Hold that the gradient of a value by its predictions is the finite difference."""
    x, y = (v.double() for v in sample(12, 1))
    x.requires_grad_()
    value(x, y).backward()
    for i in range(12):
        step = torch.zeros(12, dtype=torch.float64)
        step[i] = 1e-3
        with torch.no_grad():
            slope = (float(value(x + step, y)) - float(value(x - step, y))) / 2e-3
        assert float(x.grad[i]) == pytest.approx(slope, abs=2e-4), i  # the value is rounded to float32
