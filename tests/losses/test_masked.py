"""Masked losses against torch's own, over labels that are there; sums over pieces are the sum over the whole."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from affect.losses.masked import absolute_error, binary_cross_entropy, cross_entropy, huber, squared_error
from affect.task import Term
from affect.training.terms import whole

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


TERMS = {
    "squared": (squared_error, F.mse_loss),
    "absolute": (absolute_error, F.l1_loss),
    "huber": (partial(huber, delta=0.7), partial(F.huber_loss, delta=0.7)),
    "binary": (binary_cross_entropy, F.binary_cross_entropy_with_logits),
    "cross_entropy": (cross_entropy, F.cross_entropy),
}
names = pytest.mark.parametrize("name", sorted(TERMS))


@names
def test_value_and_gradient_are_torchs_over_what_is_there(name):
    make, reference = TERMS[name]
    output, target, there = sample(name)
    output.requires_grad_()
    total = whole([make("t", weight=0.7)], {"t": output}, {"t": target}).total
    total.backward()
    alone = output.detach()[there].requires_grad_()
    wanted = 0.7 * reference(alone, target[there])
    wanted.backward()
    assert float(total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    torch.testing.assert_close(output.grad[there], alone.grad)
    assert not output.grad[~there].any()


@names
def test_it_is_additive_and_reads_what_it_says(name):
    make = TERMS[name][0]
    short = {"squared": "mse", "absolute": "mae", "huber": "huber", "binary": "bce", "cross_entropy": "ce"}[name]
    term = make("t")
    assert term.additive
    assert (term.name, term.outputs, term.targets, term.weight) == (f"{short}_t", ("t",), ("t",), 1.0)
    named = make("t", output="o", name="n", log_variance=2)
    assert (named.name, named.outputs, named.targets, named.log_variance) == ("n", ("o",), ("t",), 2)


@names
def test_counts_come_from_the_targets_alone(name):
    _, target, there = sample(name)
    assert int(TERMS[name][0]("t").count({"t": target})) == int(there.sum())


@names
@settings(max_examples=30, deadline=None)
@given(bounds=st.lists(st.integers(0, N), max_size=6))
def test_pieces_add_up_to_the_whole(name, bounds):
    term = TERMS[name][0]("t")
    output, target, _ = sample(name)
    cuts = [0, *sorted(bounds), N]
    pieces = [({"t": output[a:b]}, {"t": target[a:b]}) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    total = sum(float(term.sum(o, t)) for o, t in pieces)
    assert total == pytest.approx(float(term.sum({"t": output}, {"t": target})), rel=1e-5)
    count = sum(int(term.count(t)) for _, t in pieces)
    assert count == int(term.count({"t": target}))


@names
@pytest.mark.parametrize("rows", [N, 0])
def test_nothing_there_is_0_with_a_gradient_of_0(name, rows):
    term = TERMS[name][0]("t")
    output, target, _ = sample(name)
    output = output[:rows].requires_grad_()
    none = torch.full_like(target[:rows], -100 if target.dtype == torch.int64 else NAN)
    value = term.sum({"t": output}, {"t": none})
    value.backward()
    assert float(value.detach()) == 0.0
    assert int(term.count({"t": none})) == 0
    assert output.grad is not None
    assert not output.grad.any()


@names
@pytest.mark.parametrize("constant", [0.0, 40.0, -40.0])
def test_constant_and_extreme_outputs_have_finite_gradients(name, constant):
    term = TERMS[name][0]("t")
    output, target, _ = sample(name)
    output = torch.full_like(output, constant).requires_grad_()
    value = term.sum({"t": output}, {"t": target})
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("make", [squared_error, absolute_error, huber])
def test_labels_may_weigh_and_are_counted_all_the_same(make):
    """As the public code of label-distribution smoothing: the mean of weight times error."""
    output, target = torch.tensor([1.0, 2.0, 5.0, 4.0]), torch.tensor([2.0, 4.0, NAN, 4.5])
    term = make("t", weigh=lambda label: label**2)
    plain = torch.stack([make("t").sum({"t": output[k : k + 1]}, {"t": target[k : k + 1]}) for k in range(4)])
    found = whole([term], {"t": output}, {"t": target}).total
    assert float(found) == pytest.approx(float(plain @ torch.tensor([4.0, 16.0, 0.0, 20.25])) / 3)
    assert int(term.count({"t": target})) == 3


def test_each_target_has_its_own_count():
    """Masked means of different targets: not one mean over all labels."""
    both = [squared_error("a"), squared_error("b")]
    outputs = {"a": torch.zeros(4), "b": torch.zeros(4)}
    targets = {"a": torch.tensor([2.0, 2.0, 2.0, 2.0]), "b": torch.tensor([1.0, NAN, NAN, NAN])}
    found = whole(both, outputs, targets)
    assert {k: float(v) for k, v in found.values.items()} == {"mse_a": 4.0, "mse_b": 1.0}
    assert float(found.total) == 5.0


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_give_float32_losses(kind):
    outputs = {"t": torch.full((3,), 200.0, dtype=kind)}
    value = squared_error("t").sum(outputs, {"t": torch.zeros(3)})
    assert value.dtype == torch.float32
    assert float(value) == 120_000.0  # past float16's largest number
    logits = torch.zeros(3, 4, dtype=kind)
    assert cross_entropy("t").sum({"t": logits}, {"t": torch.zeros(3, dtype=torch.int64)}).dtype == torch.float32


def test_large_offsets_keep_the_error():
    target = torch.full((8,), 1e4)
    value = whole([squared_error("t")], {"t": target + 0.5}, {"t": target}).total
    assert float(value) == 0.25


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
def test_labels_of_any_shape_are_elements(shape):
    g = torch.Generator().manual_seed(2)
    output, target = torch.randn(shape, generator=g), torch.rand(shape, generator=g)
    target[torch.rand(shape, generator=g) < 0.4] = NAN
    valid = torch.isfinite(target)
    found = whole([squared_error("t")], {"t": output}, {"t": target}).total
    assert float(found) == pytest.approx(float(F.mse_loss(output[valid], target[valid])))
    assert int(squared_error("t").count({"t": target})) == int(valid.sum())


def test_shares_of_classes_are_labels():
    """A class is the share of 1 that it has; a row with a share that is not there is none."""
    output, index, there = sample("cross_entropy")
    shares = torch.where(there[:, None], F.one_hot(index.clamp(min=0), C).float(), 0.0)
    shares[~there, 1] = NAN
    leaf = output.clone().requires_grad_()
    found = whole([cross_entropy("t")], {"t": leaf}, {"t": shares}).total
    found.backward()
    assert float(found.detach()) == pytest.approx(float(F.cross_entropy(output, index)), rel=1e-6)
    assert int(cross_entropy("t").count({"t": shares})) == int(there.sum())
    assert not leaf.grad[~there].any()
    soft = torch.rand(N, C).softmax(-1)
    mine = whole([cross_entropy("t")], {"t": output}, {"t": soft}).total
    assert float(mine) == pytest.approx(float(F.cross_entropy(output, soft)), rel=1e-6)


def nothing(*_: object) -> torch.Tensor:
    return torch.zeros(())


@pytest.mark.parametrize(
    "kind",
    [{}, {"sum": nothing}, {"count": nothing}, {"sum": nothing, "count": nothing, "value": nothing},
     {"value": nothing, "count": nothing}],
)  # fmt: skip
def test_a_term_of_neither_kind_is_refused(kind):
    with pytest.raises(ValueError, match="the term t needs sum and count, or value"):
        Term(name="t", outputs=("t",), **kind)
