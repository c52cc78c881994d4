"""Dropout whose masks are a function of the example, the place and the index."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from affect import keyed
from affect.models import dropout
from affect.models.dropout import Dropout, factors, replace_dropout


def keys(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(count, dtype=torch.int64).random_(-(1 << 63), None, generator=generator)


@pytest.mark.parametrize("probability", [0.0001, 0.1, 0.5, 0.9])
def test_rate_mean_and_gradient(probability):
    torch.manual_seed(0)
    x = torch.ones(301, 997, requires_grad=True)
    y = Dropout(probability)(x)
    zeros = float((y == 0).float().mean().detach())
    assert abs(zeros - probability) < 5 * (probability * (1 - probability) / x.numel()) ** 0.5 + 1 / 65536
    assert set(y.detach().unique().tolist()) == {0.0, float(y.detach().max())}
    assert abs(float(y.detach().mean()) - 1) < 0.02
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_a_scale_in_bf16_keeps_the_mean():
    torch.manual_seed(0)
    y = Dropout(0.1)(torch.full((1000, 1000), 1.0, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16
    wanted = float((torch.tensor(1.0) / 0.9).bfloat16()) * 0.9
    assert float(y.double().mean()) == pytest.approx(wanted, abs=2e-3)


@pytest.mark.parametrize("shape", [(1, 400_000), (400, 1000), (20, 50, 400), (5, 4, 200, 100)])
def test_neighbours_along_every_axis_are_independent(shape):
    kept = factors(keys(shape[0]), shape, 0.5, scaled=False) - 0.5
    assert abs(float(kept.mean())) < 5 * 0.5 / kept.numel() ** 0.5
    for axis in range(len(shape)):
        for lag in range(1, min(5, shape[axis])):
            count = shape[axis] - lag
            both = kept.narrow(axis, lag, count) * kept.narrow(axis, 0, count)
            assert abs(float(both.mean()) * 4) < 5 / both.numel() ** 0.5, (axis, lag)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_a_value_depends_on_its_key_and_index_alone(shape, more):
    """Neither on the other examples and their order, nor on how much is drawn of any axis."""
    mine = keys(shape[0])
    small = factors(mine, shape, 0.4)
    order = torch.randperm(shape[0] + more[0])
    others = torch.cat([mine, keys(more[0], seed=1)])[order]
    larger = [shape[0] + more[0], *(size + extra for size, extra in zip(shape[1:], more[1:], strict=False))]
    found = factors(others, larger, 0.4)[order.argsort()]
    assert torch.equal(found[tuple(slice(0, size) for size in shape)], small)


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 2, 9, 9), (2, 6), (5,), (3, 4, 1), (2, 300, 514), (0, 3), (3, 0)])
def test_tensors_and_arrays_give_the_same_mask(monkeypatch, shape):
    """What a device draws by tensor operations is what a CPU draws by NumPy's."""
    mine = keys(shape[0])
    wanted = factors(mine, shape, 0.3)
    monkeypatch.setattr(dropout, "_as_arrays", lambda device: False)
    assert torch.equal(factors(mine, shape, 0.3), wanted)


def test_the_numbers_stay_what_they_are():
    """A checkpoint is resumed by another version: its masks may not change."""
    found = factors(torch.tensor([1, -(2**62)]), (2, 2, 5), 0.5, scaled=False).int().flatten().tolist()
    assert found == [int(digit) for digit in "01101111010110001001"]


def test_without_keys_it_follows_torchs_seed_and_is_off_in_evaluation():
    x = torch.randn(50, 7)
    layer = Dropout(0.3)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert layer.eval()(x) is x
    assert Dropout(0.5)(torch.empty(0)).shape == (0,)


def test_a_table_that_all_examples_read_has_one_mask_a_step():
    network = nn.ModuleDict({"pos_dropout": nn.Dropout(0.5), "dropout": nn.Dropout(0.5)})
    replace_dropout(network)
    keyed.name_places(network)
    table, found = torch.ones(3, 40), []
    for step, ids in ((1, "abc"), (1, "ab"), (1, "xyz"), (2, "abc")):
        with keyed.examples(0, step, list(ids)):
            found.append(network["pos_dropout"](table))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


def test_replaces_every_dropout():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.Sequential(nn.Dropout(0.4)))
    replace_dropout(network)
    assert [m.p for m in network.modules() if isinstance(m, Dropout)] == [0.2, 0.4]
    assert not any(isinstance(m, nn.Dropout) for m in network.modules())
