"""The learning rate of each step, and the moving average against one by hand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from affect.recipe import Optim
from affect.training import optim


def factors(steps: int, **named) -> np.ndarray:
    return np.array([optim.factor(Optim(**named), step, steps) for step in range(steps)])


def test_warm_up_rises_in_even_steps_to_one():
    found = factors(100, schedule="constant", warmup=0.1)
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10)
    assert (found[10:] == 1.0).all()


def test_cosine_by_hand():
    found = factors(100, schedule="cosine", warmup=0.1)
    wanted = [0.5 * (1 + math.cos(math.pi * k / 90)) for k in range(90)]
    np.testing.assert_allclose(found[10:], wanted)
    assert found[9] == found[10] == 1.0
    assert 0 < found[-1] < 1e-3, "the last step still moves, by little"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.floats(0, 0.99), st.sampled_from(["cosine", "constant", "plateau"]))
def test_every_schedule_stays_in_range(steps, warmup, schedule):
    found = factors(steps, schedule=schedule, warmup=warmup)
    assert (found > 0).all()
    assert (found <= 1).all()
    warm = round(warmup * steps)
    assert (np.diff(found[:warm]) > 0).all()
    assert (np.diff(found[warm:]) <= 1e-12).all()


def test_no_warm_up_starts_at_the_peak():
    assert factors(7, schedule="cosine", warmup=0.0)[0] == 1.0
    assert factors(1, schedule="cosine", warmup=0.9)[0] == 1.0


def groups(model: nn.Module) -> list[dict]:
    weights = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"name": "encoder", "params": weights, "lr": 1e-3, "weight_decay": 0.1},
        {"name": "head", "params": rest, "lr": 1e-2, "weight_decay": 0.0},
    ]


def test_rates_are_the_peaks_times_the_factor():
    optimizer = optim.make(groups(nn.Linear(2, 2)), Optim(betas=(0.8, 0.9)))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    for multiple in (0.5, 0.25, 1.0):
        rates = optim.set_rates(optimizer, multiple)
        assert rates == {"encoder": 1e-3 * multiple, "head": 1e-2 * multiple}
        assert [group["lr"] for group in optimizer.param_groups] == list(rates.values())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_a_step_is_adamws_by_hand():
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    before = {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}
    optimizer = optim.make(groups(model), Optim())
    optim.set_rates(optimizer, 0.5)
    for p in model.parameters():
        p.grad = torch.full_like(p, 0.3)
    optimizer.step()
    # The first step: both moments are corrected to g and g^2, so the update is lr * g / (|g| + eps).
    update = 0.3 / (0.3 + 1e-8)
    np.testing.assert_allclose(model.bias.detach(), before["bias"] - 5e-3 * update, rtol=1e-5)
    decayed = before["weight"] * (1 - 5e-4 * 0.1)
    np.testing.assert_allclose(model.weight.detach(), decayed - 5e-4 * update, rtol=1e-5)


class Counted(nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value, -value]))
        self.register_buffer("mean", torch.tensor(value))
        self.register_buffer("seen", torch.tensor(0))


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_average_by_hand(decay):
    model = Counted(1.0)
    average = optim.Average(model, decay)
    wanted = 1.0
    for k in range(1, 8):
        with torch.no_grad():
            model.weight.copy_(torch.tensor([k * 2.0, -k * 2.0]))
            model.mean.fill_(k * 2.0)
            model.seen.fill_(k)
        average.update(model.state_dict().items())
        share = min(decay, (1 + k) / (10 + k))
        wanted = share * wanted + (1 - share) * k * 2.0
        assert average.model.weight.tolist() == pytest.approx([wanted, -wanted])
        assert float(average.model.mean) == pytest.approx(wanted)
        assert int(average.model.seen) == k, "what can't be averaged is copied"
    assert average.count == 7


def test_average_is_a_model_of_its_own():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    before = copy.deepcopy(model.state_dict())
    average = optim.Average(model, 0.9)
    assert not average.model.training
    assert model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    assert torch.equal(average.model.state_dict()["0.weight"], before["0.weight"])


def trained(optimizer: torch.optim.Optimizer, model: nn.Module, *, direct: bool = False) -> torch.Tensor:
    """Return the weights after a few steps of gradients drawn by a seed."""
    drawn = torch.Generator().manual_seed(3)
    for _ in range(6):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=drawn)
        if direct:
            optim.take_step(optimizer)
        else:
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("algorithm", ["adam", "adamw"])
def test_the_algorithm_is_torchs(algorithm, direct):
    """adam adds the decay to the gradient (L2), adamw takes it from the weights."""
    torch.manual_seed(0)
    first = nn.Linear(5, 4)
    second, other = copy.deepcopy(first), copy.deepcopy(first)
    named = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    found = trained(optim.make([{"name": "all", "params": list(first.parameters()), "lr": 1e-2, "weight_decay": 0.5}],
                               Optim(algorithm=algorithm)), first, direct=direct)  # fmt: skip
    wanted = trained(named.pop(algorithm)(second.parameters(), lr=1e-2, weight_decay=0.5, foreach=False), second)
    unlike = trained(named.popitem()[1](other.parameters(), lr=1e-2, weight_decay=0.5), other)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert float((found - unlike).abs().max()) > 1e-3


# One cycle


def torchs(share: float, steps: int) -> list[float]:
    """Return the rates of torch's OneCycleLR, as parts of the peak."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    wanted = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=share)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < steps:
            wanted.step()
    return found


@pytest.mark.parametrize(
    ("share", "steps"),
    [(0.3, 10), (0.1, 100), (0.1, 11), (0.25, 9), (0.5, 7), (0.9, 13), (0.05, 21), (0.999, 50)],
)  # fmt: skip
def test_one_cycle_is_torchs(share, steps):
    np.testing.assert_allclose(factors(steps, schedule="onecycle", warmup=share), torchs(share, steps), atol=1e-12)


@pytest.mark.parametrize(
    ("share", "steps"), [(0.1, 10), (0.2, 5), (0.25, 4), (0.05, 20), (0.5, 2), (0.3, 3), (0.0, 5), (0.01, 30)]
)
def test_a_rise_of_one_step_or_none_begins_at_the_peak(share, steps):
    """Where torch divides by zero for one step, and begins below the peak for none."""
    if share * steps == 1:
        with pytest.raises(ZeroDivisionError):
            torchs(share, steps)
    else:
        assert torchs(share, steps)[0] < 1.0
    found = factors(steps, schedule="onecycle", warmup=share)
    assert found[0] == 1.0
    assert (np.diff(found) < 0).all()
    assert found[-1] == pytest.approx(1 / 250_000)


def test_a_single_step_is_taken_at_the_peak():
    """Where torch takes it at a 250,000th of it."""
    for share in (0.0, 0.3, 0.9):
        assert factors(1, schedule="onecycle", warmup=share).tolist() == [1.0]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.floats(0, 0.999))
def test_one_cycle_rises_and_falls_once(steps, share):
    found = factors(steps, schedule="onecycle", warmup=share)
    assert (found > 0).all() and (found <= 1).all()
    top = int(found.argmax())
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()


# Clipping by a percentile


@pytest.mark.parametrize("share", [1.0, 10.0, 50.0, 100.0])
def test_the_limit_is_a_percentile_of_the_norms_so_far(share):
    norms = np.random.default_rng(0).exponential(size=40).tolist()
    assert optim.limit([], Optim(clip_percentile=share)) is None
    assert optim.limit(norms, Optim()) is None
    assert optim.limit(norms, Optim(clip_percentile=share)) == pytest.approx(np.percentile(norms, share))
    assert optim.limit([3.0], Optim(clip_percentile=share)) == 3.0
