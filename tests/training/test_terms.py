"""The loss of a whole batch by hand: fixed and learned weights, factors, and terms that the batch tells nothing."""

from __future__ import annotations

import math

import pytest
import torch

from affect.losses.ccc import ccc, ccc_term
from affect.losses.masked import squared_error
from affect.training.terms import whole

NAN = float("nan")
WEIGHTS = {"valence": 1.0, "arousal": 0.5}
MAKE = {"ccc": ccc_term, "mse": squared_error}
each = pytest.mark.parametrize("kind", sorted(MAKE))


def sample(n: int = 12) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    targets = {name: torch.randn(n, generator=g) for name in WEIGHTS}
    outputs = {name: t + torch.randn(n, generator=g) for name, t in targets.items()}
    targets["valence"][2] = targets["arousal"][5] = NAN
    return outputs, targets


def by_hand(kind: str, outputs, targets, name: str) -> float:
    if kind == "ccc":
        return 1 - float(ccc(outputs[name], targets[name]))
    error = (outputs[name] - targets[name]).square()
    return float(error[torch.isfinite(error)].mean())


@each
def test_the_total_is_the_weighted_sum(kind):
    outputs, targets = sample()
    terms = [MAKE[kind](name, weight=weight) for name, weight in WEIGHTS.items()]
    found = whole(terms, outputs, targets)
    v, a = (by_hand(kind, outputs, targets, name) for name in WEIGHTS)
    assert {k: float(value) for k, value in found.values.items()} == pytest.approx(
        {f"{kind}_valence": v, f"{kind}_arousal": a}
    )
    assert float(found.total) == pytest.approx(v + 0.5 * a)
    assert all(found.defined.values())
    factored = whole(terms, outputs, targets, {f"{kind}_valence": 3.0, f"{kind}_arousal": 0.2})
    assert float(factored.total) == pytest.approx(3 * v + 0.1 * a)
    assert {k: float(value) for k, value in factored.values.items()} == {k: float(v) for k, v in found.values.items()}


@each
def test_learned_weights_by_hand(kind):
    """exp(-s) w L + s, and its slope 1 - exp(-s) w L; a column is named, so their order is free."""
    outputs, targets = sample()
    s = torch.tensor([9.0, -0.7, 0.3], requires_grad=True)
    columns = {"valence": 2, "arousal": 1}
    terms = [MAKE[kind](name, weight=weight, log_variance=columns[name]) for name, weight in WEIGHTS.items()]
    found = whole(terms, {**outputs, "log_variance": s.expand(12, -1)}, targets)
    found.total.backward()
    v, a = by_hand(kind, outputs, targets, "valence"), 0.5 * by_hand(kind, outputs, targets, "arousal")
    assert float(found.total.detach()) == pytest.approx(math.exp(-0.3) * v + 0.3 + math.exp(0.7) * a - 0.7, rel=1e-5)
    # Once, and not once a copy.
    assert s.grad.tolist() == pytest.approx([0, 1 - math.exp(0.7) * a, 1 - math.exp(-0.3) * v], rel=1e-4)


@each
@pytest.mark.parametrize("labels", [[], [1.0], [1.0, 1.0, 1.0]])
def test_a_term_that_the_batch_tells_nothing_adds_exactly_0(kind, labels):
    """And leaves its log variance where it is; a squared error is told something by any label."""
    outputs, targets = sample()
    targets["arousal"] = torch.full((12,), NAN)
    targets["arousal"][: len(labels)] = torch.tensor(labels)
    told = kind == "mse" and bool(labels)
    s = torch.tensor([0.3, -0.7], requires_grad=True)
    leaves = {name: value.clone().requires_grad_() for name, value in outputs.items()}
    terms = [MAKE[kind](name, log_variance=k) for k, name in enumerate(WEIGHTS)]
    found = whole(terms, {**leaves, "log_variance": s.expand(12, -1)}, targets)
    found.total.backward()
    assert [bool(known) for known in found.defined.values()] == [True, told]
    assert float(s.grad[0]) != 0.0
    assert (float(s.grad[1]) != 0.0) is told
    assert bool(leaves["arousal"].grad.any()) is told
    assert torch.isfinite(leaves["arousal"].grad).all()
    alone = whole(terms[:1], {**outputs, "log_variance": s.detach().expand(12, -1)}, targets).total
    assert told or float(found.total.detach()) == float(alone)


def test_learned_weights_find_the_optimum():
    """exp(-s) L + s is least at s = log L."""
    outputs, targets = sample()
    s = torch.zeros(2, requires_grad=True)
    terms = [squared_error(name, log_variance=k) for k, name in enumerate(WEIGHTS)]
    optimizer = torch.optim.Adam([s], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        whole(terms, {**outputs, "log_variance": s.expand(12, -1)}, targets).total.backward()
        optimizer.step()
    wanted = [math.log(by_hand("mse", outputs, targets, name)) for name in WEIGHTS]
    assert s.tolist() == pytest.approx(wanted, abs=1e-2)
