"""Masked losses against torch's own, over labels that are there; sums over pieces are the sum over the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from affect.losses.masked import CrossEntropy, Masked, binary, squared
from affect.task import AdditiveLoss, GatheredLoss, terms_of, total_of

NAN = float("nan")
N, C = 30, 5


def sample(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return outputs, targets with a third missing, and which are there."""
    g = torch.Generator().manual_seed(0)
    there = torch.rand(N, generator=g) > 0.3
    if kind == "cross_entropy":
        index = torch.randint(C, (N,), generator=g)
        return torch.randn(N, C, generator=g), torch.where(there, index, -100), there
    output = torch.randn(N, generator=g)
    target = torch.rand(N, generator=g)
    return output, torch.where(there, target, NAN), there


LOSSES = {
    "squared": (lambda w: Masked(squared, {"t": w}), F.mse_loss),
    "binary": (lambda w: Masked(binary, {"t": w}), F.binary_cross_entropy_with_logits),
    "cross_entropy": (lambda w: CrossEntropy({"t": w}), F.cross_entropy),
}
names = pytest.mark.parametrize("name", sorted(LOSSES))


@names
def test_value_and_gradient_are_torchs_over_what_is_there(name):
    make, reference = LOSSES[name]
    output, target, there = sample(name)
    output.requires_grad_()
    total = total_of(make(0.7), {"t": output}, {"t": target})
    total.backward()
    alone = output.detach()[there].requires_grad_()
    wanted = 0.7 * reference(alone, target[there])
    wanted.backward()
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    torch.testing.assert_close(output.grad[there], alone.grad)
    assert not output.grad[~there].any()


@names
def test_only_counts_and_sums_say_what_kind_it_is(name):
    loss = LOSSES[name][0](1.0)
    assert isinstance(loss, AdditiveLoss)
    assert not isinstance(loss, GatheredLoss)
    assert loss.needs == ("t",)


@names
def test_counts_come_from_the_targets_alone(name):
    _, target, there = sample(name)
    assert int(LOSSES[name][0](1.0).counts({"t": target})["t"]) == int(there.sum())


@names
@settings(max_examples=30, deadline=None)
@given(bounds=st.lists(st.integers(0, N), max_size=6))
def test_pieces_add_up_to_the_whole(name, bounds):
    loss = LOSSES[name][0](1.0)
    output, target, _ = sample(name)
    cuts = [0, *sorted(bounds), N]
    pieces = [({"t": output[a:b]}, {"t": target[a:b]}) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    total = sum(float(loss.sums(o, t)["t"]) for o, t in pieces)
    assert total == pytest.approx(float(loss.sums({"t": output}, {"t": target})["t"]), rel=1e-5)
    count = sum(int(loss.counts(t)["t"]) for _, t in pieces)
    assert count == int(loss.counts({"t": target})["t"])


@names
@pytest.mark.parametrize("rows", [N, 0])
def test_nothing_there_is_0_with_a_gradient_of_0(name, rows):
    loss = LOSSES[name][0](1.0)
    output, target, _ = sample(name)
    output = output[:rows].requires_grad_()
    none = torch.full_like(target[:rows], -100 if target.dtype == torch.int64 else NAN)
    value = terms_of(loss, {"t": output}, {"t": none})["t"]
    value.backward()
    assert float(value.detach()) == 0.0
    assert output.grad is not None
    assert not output.grad.any()


@names
@pytest.mark.parametrize("constant", [0.0, 40.0, -40.0])
def test_constant_and_extreme_outputs_have_finite_gradients(name, constant):
    loss = LOSSES[name][0](1.0)
    output, target, _ = sample(name)
    output = torch.full_like(output, constant).requires_grad_()
    value = loss.sums({"t": output}, {"t": target})["t"]
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(output.grad).all()


def test_each_target_has_its_own_count():
    """Masked means of different targets: not one mean over all labels."""
    loss = Masked(squared, {"a": 1.0, "b": 1.0})
    outputs = {"a": torch.zeros(4), "b": torch.zeros(4)}
    targets = {"a": torch.tensor([2.0, 2.0, 2.0, 2.0]), "b": torch.tensor([1.0, NAN, NAN, NAN])}
    assert {k: float(v) for k, v in terms_of(loss, outputs, targets).items()} == {"a": 4.0, "b": 1.0}
    assert float(total_of(loss, outputs, targets)) == 5.0


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_float32_losses(kind):
    outputs = {"t": torch.full((3,), 200.0, dtype=kind)}
    value = Masked(squared, {"t": 1.0}).sums(outputs, {"t": torch.zeros(3)})["t"]
    assert value.dtype == torch.float32
    assert float(value) == 120_000.0  # past float16's largest number
    logits = torch.zeros(3, 4, dtype=kind)
    assert CrossEntropy({"t": 1.0}).sums({"t": logits}, {"t": torch.zeros(3, dtype=torch.int64)})["t"].dtype == (
        torch.float32
    )


def test_large_offsets_keep_the_error():
    target = torch.full((8,), 1e4)
    value = terms_of(Masked(squared, {"t": 1.0}), {"t": target + 0.5}, {"t": target})["t"]
    assert float(value) == 0.25


@pytest.mark.parametrize("elementwise", [squared, binary])
def test_elementwise_gradients(elementwise):
    g = torch.Generator().manual_seed(1)
    output = torch.randn(6, generator=g, dtype=torch.float64, requires_grad=True)
    target = torch.rand(6, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda o: elementwise(o, target), (output,))
