"""The Gaussian NLL against torch's distribution, over what is labelled."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from affect.losses.gaussian import gaussian
from affect.training.terms import whole

NAN = float("nan")


def sample() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    """Return outputs, targets and which are there."""
    g = torch.Generator().manual_seed(0)
    target = 3 + torch.randn(20, generator=g)
    there = torch.rand(20, generator=g) > 0.3
    outputs = {"t": 3 + torch.randn(20, generator=g), "t_spread": 0.2 + torch.rand(20, generator=g)}
    return outputs, {"t": torch.where(there, target, NAN)}, there


def test_value_and_gradient_are_those_of_the_normal_distribution():
    outputs, targets, there = sample()
    for output in outputs.values():
        output.requires_grad_()
    total = whole([gaussian("t", weight=0.7)], outputs, targets).total
    total.backward()
    alone = [outputs[name].detach()[there].requires_grad_() for name in ("t", "t_spread")]
    wanted = -0.7 * Normal(*alone).log_prob(targets["t"][there]).mean()
    wanted.backward()
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    for name, part in zip(("t", "t_spread"), alone, strict=True):
        torch.testing.assert_close(outputs[name].grad[there], part.grad)
        assert not outputs[name].grad[~there].any()


def test_with_beta_an_example_weighs_by_its_spread_which_has_no_gradient_of_it():
    """At beta 1 the gradient of the mean is that of half the squared error, whatever the spread."""
    outputs, targets, there = sample()
    outputs["t"].requires_grad_()
    whole([gaussian("t", beta=1.0)], outputs, targets).total.backward()
    wanted = (outputs["t"].detach() - targets["t"])[there] / there.sum()
    torch.testing.assert_close(outputs["t"].grad[there], wanted)
    outputs["t_spread"].requires_grad_()
    outputs["t"].grad = None
    whole([gaussian("t", beta=0.5)], outputs, targets).total.backward()
    error = (outputs["t"].detach() - targets["t"])[there]
    spread = outputs["t_spread"].detach()[there]
    by_spread = (1 / spread - error**2 / spread**3) * spread / there.sum()
    torch.testing.assert_close(outputs["t_spread"].grad[there], by_spread)


def test_the_best_spread_is_the_error():
    def value(spread: float) -> float:
        outputs = {"t": torch.zeros(2), "t_spread": torch.full((2,), spread)}
        return float(whole([gaussian("t")], outputs, {"t": torch.tensor([0.5, -0.5])}).total)

    assert value(0.5) < min(value(0.45), value(0.55))


def test_it_is_additive_and_reads_what_it_says():
    outputs, targets, there = sample()
    term = gaussian("t", log_variance=2)
    assert (term.name, term.outputs, term.targets, term.log_variance) == ("nll_t", ("t", "t_spread"), ("t",), 2)
    assert int(term.count(targets)) == int(there.sum())
    none = term.sum(outputs, {"t": torch.full((20,), NAN)})
    assert float(none) == 0.0
