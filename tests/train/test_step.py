"""The step's one promise: the gradient of the whole global batch, whatever the cut."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from affect.task import terms_of, total_of
from affect.train import step
from affect.train.engine import Engine
from tests.train import toy

N = 24
CUTS = [(24,), (3, 8, 1, 12), (1,) * 24, (10, 0, 14, 0)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def reference(model: nn.Module, loss, x, targets) -> tuple[torch.Tensor, float]:
    alone = copy.deepcopy(model)
    total = total_of(loss, alone(x), targets)
    total.backward()
    return toy.gradient(alone), float(total.detach())


@pytest.mark.parametrize("mode", ["hold", "replay"])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", sorted(toy.losses()))
def test_gradient_and_value_are_those_of_the_whole_batch(engine, name, cut, mode):
    torch.manual_seed(0)
    model, loss = toy.Toy(), toy.losses()[name]
    x, targets = toy.data(N)
    wanted, value = reference(model, loss, x, targets)
    result = step.accumulate(engine, model, loss, toy.batches(x, targets, cut), mode=mode, key=(0, 0))
    assert toy.relative(toy.gradient(model), wanted) < 1e-5
    assert float(result.loss) == pytest.approx(value, rel=1e-5)


def test_mean_of_micro_batch_losses_would_fail():
    """What the step replaces: the mean of the CCC losses of micro-batches of 4 points elsewhere."""
    torch.manual_seed(0)
    model, loss = toy.Toy(), toy.losses()["ccc"]
    x, targets = toy.data(N)
    wanted, _ = reference(model, loss, x, targets)
    for batch in toy.batches(x, targets, (4,) * 6):
        (total_of(loss, model(**batch.inputs), batch.targets) / 6).backward()
    assert toy.relative(toy.gradient(model), wanted) > 0.3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sampled_from(sorted(toy.losses())), st.booleans())
def test_any_cut_gives_the_same_gradient(sizes, name, hold):
    n = sum(sizes)
    if n < 2:
        return
    engine = Engine()
    torch.manual_seed(1)
    model, loss = toy.Toy(), toy.losses()[name]
    x, targets = toy.data(n + 1, seed=n)
    x, targets = x[: n + 1], {k: t[: n + 1] for k, t in targets.items()}
    wanted, _ = reference(model, loss, x[:n], {k: t[:n] for k, t in targets.items()})
    made = toy.batches(x, targets, sizes)
    step.accumulate(engine, model, loss, made, mode="hold" if hold else "replay", key=(0, 0))
    assert float((toy.gradient(model) - wanted).norm()) <= 1e-5 * float(wanted.norm()) + 1e-7


@pytest.mark.parametrize("name", ["ccc", "mse", "uncertainty", "uncertain_mse", "arcface", "bce", "cross_entropy"])
def test_a_term_without_labels_contributes_nothing(engine, name):
    torch.manual_seed(0)
    model, loss = toy.Toy(), toy.losses()[name]
    x, targets = toy.data(N)
    empty = {k: torch.full_like(t, -100 if t.dtype == torch.int64 else float("nan")) for k, t in targets.items()}
    result = step.accumulate(engine, model, loss, toy.batches(x, empty, (12, 12)), mode="hold", key=(0, 0))
    assert float(result.loss) == 0.0
    assert float(toy.gradient(model).abs().max()) == 0.0


@pytest.mark.parametrize("name", ["ccc", "uncertainty"])
def test_replay_draws_the_same_dropout(engine, name):
    x, targets = toy.data(N)
    found = []
    for mode in ("hold", "replay"):
        torch.manual_seed(0)
        model = toy.Toy(dropout=0.5).train()
        made = toy.batches(x, targets, (5, 7, 12))
        step.accumulate(engine, model, toy.losses()[name], made, mode=mode, key=(3, 1))
        found.append(toy.gradient(model))
    assert toy.relative(found[0], found[1]) < 1e-6
    torch.manual_seed(0)
    other = toy.Toy(dropout=0.5).train()
    step.accumulate(engine, other, toy.losses()[name], toy.batches(x, targets, (5, 7, 12)), mode="hold", key=(3, 2))
    assert toy.relative(toy.gradient(other), found[0]) > 0.1, "another step must draw other masks"


class NumPyMasked(toy.Toy):
    """Masks its input as transformers' SpecAugment does: from NumPy's global state."""

    def forward(self, x):
        return super().forward(x * torch.from_numpy((np.random.rand(*x.shape) > 0.4).astype(np.float32)))


def test_replay_restores_numpy_too(engine, monkeypatch):
    x, targets = toy.data(N)

    def found(mode):
        torch.manual_seed(0)
        model = NumPyMasked()
        step.accumulate(engine, model, toy.losses()["ccc"], toy.batches(x, targets, (9, 15)), mode=mode, key=(0, 7))
        return toy.gradient(model)

    wanted = found("hold")
    assert toy.relative(found("replay"), wanted) < 1e-6
    monkeypatch.setattr(np.random, "seed", lambda *_: None)
    assert toy.relative(found("replay"), wanted) > 0.05, "the test must notice a NumPy state left alone"


def test_terms_carry_no_weight(engine):
    model, loss = toy.Toy(), toy.losses()["mse"]
    x, targets = toy.data(N)
    result = step.accumulate(engine, model, loss, toy.batches(x, targets, (24,)), mode="hold", key=(0, 0))
    wanted = terms_of(loss, model(x), targets)
    assert {k: float(v) for k, v in result.terms.items()} == pytest.approx({k: float(v) for k, v in wanted.items()})


class Bf16(toy.Toy):
    """Runs as Accelerate prepares a model for bf16: autocast inside, float32 outside."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return {name: value.float() for name, value in super().forward(x).items()}


@pytest.mark.parametrize("name", ["ccc", "uncertainty", "mse"])
def test_bf16_gives_float32_losses_and_any_cut_the_same_gradient(engine, name):
    x, targets = toy.data(N)

    def found(cut, mode):
        torch.manual_seed(0)
        model = Bf16()
        result = step.accumulate(engine, model, toy.losses()[name], toy.batches(x, targets, cut), mode=mode, key=(0, 0))
        assert result.loss.dtype in (torch.float32, torch.float64)
        return toy.gradient(model), float(result.loss)

    whole, value = found((24,), "hold")
    # The weights' gradients are rounded to bf16 (steps of 2^-8) once a micro-batch.
    for cut, mode in (((5, 19), "hold"), ((5, 19), "replay")):
        gradient, loss = found(cut, mode)
        assert toy.relative(gradient, whole) < 2**-7
        assert loss == pytest.approx(value, rel=1e-6)
