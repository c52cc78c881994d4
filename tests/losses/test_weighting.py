"""Sums of losses with fixed and with learned weights."""

from __future__ import annotations

import math

import pytest
import torch

from affect.losses.ccc import CCC, ccc
from affect.losses.masked import Masked, squared
from affect.losses.weighting import Sum, Uncertainty, needs_of
from affect.task import AdditiveLoss, GatheredLoss, terms_of, total_of

NAN = float("nan")
V_A = {"valence": 1.0, "arousal": 0.5}


def sample(n: int = 12) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    targets = {name: torch.randn(n, generator=g) for name in V_A}
    outputs = {name: t + torch.randn(n, generator=g) for name, t in targets.items()}
    targets["valence"][2] = targets["arousal"][5] = NAN
    return outputs, targets


def mse(outputs, targets, name) -> float:
    error = (outputs[name] - targets[name]).square()
    return float(error[torch.isfinite(error)].mean())


def test_terms_of_one_whole_batch():
    outputs, targets = sample()
    found = terms_of(Masked(squared, V_A), outputs, targets)
    assert {k: float(v) for k, v in found.items()} == pytest.approx({k: mse(outputs, targets, k) for k in V_A})
    found = terms_of(CCC(V_A), outputs, targets)
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        {k: 1 - float(ccc(outputs[k], targets[k])) for k in V_A}
    )


def test_total_is_the_weighted_sum():
    outputs, targets = sample()
    for loss in (CCC(V_A), Masked(squared, V_A)):
        terms = terms_of(loss, outputs, targets)
        wanted = float(terms["valence"]) + 0.5 * float(terms["arousal"])
        assert float(total_of(loss, outputs, targets)) == pytest.approx(wanted)


def test_a_sum_of_both_kinds_is_gathered_and_names_its_terms():
    outputs, targets = sample()
    loss = Sum({"ccc": CCC(V_A), "mse": Masked(squared, {"valence": 3.0})})
    assert isinstance(loss, GatheredLoss)
    assert not isinstance(loss, AdditiveLoss)
    assert loss.weights == {"ccc_valence": 1.0, "ccc_arousal": 0.5, "mse_valence": 3.0}
    assert loss.needs == needs_of(loss) == ("valence", "arousal")
    wanted = float(total_of(CCC(V_A), outputs, targets)) + 3 * mse(outputs, targets, "valence")
    assert float(total_of(loss, outputs, targets)) == pytest.approx(wanted)


def test_learned_weights_by_hand():
    outputs, targets = sample()
    s = torch.tensor([0.3, -0.7], requires_grad=True)
    loss = Uncertainty(Masked(squared, V_A))
    assert loss.needs == ("valence", "arousal", "log_variance")
    total = total_of(loss, {**outputs, "log_variance": s.expand(12, -1)}, targets)
    total.backward()
    v, a = mse(outputs, targets, "valence"), 0.5 * mse(outputs, targets, "arousal")
    assert float(total.detach()) == pytest.approx(math.exp(-0.3) * v + 0.3 + math.exp(0.7) * a - 0.7, rel=1e-5)
    # d/ds (exp(-s) L + s) = 1 - exp(-s) L, once and not once a copy.
    assert s.grad.tolist() == pytest.approx([1 - math.exp(-0.3) * v, 1 - math.exp(0.7) * a], rel=1e-4)


def test_the_order_says_which_variance_is_whose():
    outputs, targets = sample()
    s = torch.tensor([2.0, 0.0]).expand(12, -1)
    swapped = Uncertainty(Masked(squared, V_A), order=("arousal", "valence"))
    terms = swapped.terms({**outputs, "log_variance": s}, targets)
    assert list(terms) == ["arousal", "valence"]
    assert float(terms["valence"]) == pytest.approx(mse(outputs, targets, "valence"))
    assert float(terms["arousal"]) == pytest.approx(math.exp(-2) * 0.5 * mse(outputs, targets, "arousal") + 2, rel=1e-5)


def test_a_term_without_labels_leaves_its_variance_alone():
    outputs, targets = sample()
    targets["arousal"] = torch.full((12,), NAN)
    s = torch.tensor([0.3, -0.7], requires_grad=True)
    leaves = {name: value.requires_grad_() for name, value in outputs.items()}
    for loss in (Uncertainty(Masked(squared, V_A)), Uncertainty(CCC(V_A))):
        s.grad = leaves["arousal"].grad = None
        total_of(loss, {**leaves, "log_variance": s.expand(12, -1)}, targets).backward()
        assert float(s.grad[1]) == 0.0
        assert float(s.grad[0]) != 0.0
        assert not leaves["arousal"].grad.any()


def test_all_labels_missing_is_0_everywhere():
    outputs, _ = sample()
    targets = {name: torch.full((12,), NAN) for name in V_A}
    leaves = {name: value.requires_grad_() for name, value in outputs.items()}
    for loss in (CCC(V_A), Masked(squared, V_A), Sum({"ccc": CCC(V_A), "mse": Masked(squared, V_A)})):
        total = total_of(loss, leaves, targets)
        total.backward()
        assert float(total.detach()) == 0.0
        assert not any(leaf.grad.any() for leaf in leaves.values())


def test_learned_weights_find_the_optimum():
    """exp(-s) L + s is least at s = log L."""
    outputs, targets = sample()
    s = torch.zeros(2, requires_grad=True)
    loss = Uncertainty(Masked(squared, {"valence": 1.0, "arousal": 1.0}))
    optimizer = torch.optim.Adam([s], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        total_of(loss, {**outputs, "log_variance": s.expand(12, -1)}, targets).backward()
        optimizer.step()
    wanted = [math.log(mse(outputs, targets, name)) for name in V_A]
    assert s.tolist() == pytest.approx(wanted, abs=1e-2)
