"""Dropout by shared random numbers."""

import pytest
import torch
from torch import nn

from affect.models.dropout import Dropout, drop, replace_dropout


@pytest.mark.parametrize("probability", [0.0001, 0.1, 0.5, 0.9])
def test_rate_mean_and_gradient(probability):
    torch.manual_seed(0)
    x = torch.ones(301, 997, requires_grad=True)
    y = drop(x, probability, True)
    zeros = float((y == 0).float().mean().detach())
    assert abs(zeros - probability) < 5 * (probability * (1 - probability) / x.numel()) ** 0.5 + 1 / 65536
    assert set(y.detach().unique().tolist()) == {0.0, float(y.detach().max())}
    assert abs(float(y.detach().mean()) - 1) < 0.02
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (drop(torch.ones(400_000), 0.5, True) != 0).float() - 0.5
    for lag in range(1, 9):
        assert abs(float((kept[lag:] * kept[:-lag]).mean()) * 4) < 0.01


def test_follows_torch_seed_and_is_off_in_evaluation():
    x = torch.randn(50, 7)
    layer = Dropout(0.3)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert layer.eval()(x) is x
    assert drop(torch.empty(0), 0.5, True).shape == (0,)


def test_replaces_every_dropout():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.4)))
    replace_dropout(network)
    assert [m.p for m in network.modules() if isinstance(m, Dropout)] == [0.2, 0.4]
    assert not any(isinstance(m, nn.Dropout) for m in network.modules())
