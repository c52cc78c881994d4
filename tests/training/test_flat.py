"""What an optimiser walks through, in other memory: it takes the same steps."""

from __future__ import annotations

import copy

import torch
from torch import nn

from affect.recipe import Optim
from affect.training import flat, optim


def model_and_optimizer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(37, 5), nn.Linear(5, 3))
    groups = [{"params": list(layer.parameters()), "lr": 1e-2, "weight_decay": 0.1} for layer in model]
    return model, optim.make(groups, Optim(algorithm="adam"))


def step(model, optimizer, seed):
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        parameter.grad = drawn if parameter.grad is None else parameter.grad.copy_(drawn)
    optim.take_step(optimizer)


def test_steps_are_the_same_to_the_bit_and_end_in_one_stretch():
    model, optimizer = model_and_optimizer()
    other, its = model_and_optimizer()
    assert not flat.usable(optimizer), "no moments yet"
    for seed in range(4):
        step(model, optimizer, seed)
        step(other, its, seed)
        if seed == 1:
            assert flat.usable(optimizer)
            flat.lay_out(optimizer)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() % 64 == 0 and mine.grad.data_ptr() % 64 == 0
        for kind, value in optimizer.state[mine].items():
            assert torch.equal(value, its.state[theirs][kind])
    first, *_, last = model.parameters()
    assert 0 < last.data_ptr() - first.data_ptr() < 4 * 1024


def test_a_parameter_without_a_gradient_is_left_where_it_is():
    model, optimizer = model_and_optimizer()
    step(model, optimizer, 0)
    copied = copy.deepcopy(model[0].bias)
    model[0].bias.grad = None
    assert not flat.usable(optimizer)
    optim.take_step(optimizer)
    assert torch.equal(model[0].bias, copied)
