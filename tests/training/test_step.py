"""The step's one promise: the gradient of the whole global batch, whatever the cut and whatever the terms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from affect.task import Batch, Term
from affect.training import step
from affect.training.distributed import Engine, join
from affect.training.terms import Loss, whole
from tests.training import toy

N = 24
CUTS = [(24,), (3, 8, 1, 12), (10, 0, 14, 0)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return join()


def reference(model: nn.Module, terms, x, targets, factors=None) -> tuple[Tensor, Loss]:
    """Return the gradient of the batch in one piece, and its loss."""
    alone = copy.deepcopy(model)
    loss = whole(terms, alone(x), targets, factors)
    loss.total.backward()
    return toy.gradient(alone), loss


def hold(engine: Engine, terms: list[Term], x, targets, cut, mode, model: nn.Module | None = None, **named) -> None:
    """Hold that the step finds gradient, loss, terms and what is undefined as the batch in one piece does."""
    torch.manual_seed(1)
    model = model or toy.Toy()
    n = sum(cut)
    wanted, loss = reference(model, terms, x[:n], {k: t[:n] for k, t in targets.items()}, named.get("factors"))
    result = step.accumulate(engine, model, terms, toy.batches(x, targets, cut), mode=mode, key=(0, 0), **named)
    assert float((toy.gradient(model) - wanted).norm()) <= 1e-5 * float(wanted.norm()) + 1e-7
    assert float(result.loss) == pytest.approx(float(loss.total.detach()), rel=1e-5, abs=1e-6)
    assert list(result.terms) == [term.name for term in terms]
    for name, value in loss.values.items():
        assert float(result.terms[name]) == pytest.approx(float(value.detach()), rel=1e-5, abs=1e-6), name
    assert result.undefined == tuple(name for name, known in loss.defined.items() if not known)
    there = [name for name, known in loss.defined.items() if known]
    assert step.taking_part(engine, terms, toy.batches(x, targets, cut)) == there


@pytest.mark.parametrize("mode", ["hold", "replay", 2])
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", toy.MIXES)
def test_gradient_and_values_are_those_of_the_whole_batch(engine, name, cut, mode):
    x, targets = toy.data(N + 1)
    hold(engine, toy.terms(toy.MIXES[name]), x, targets, cut, mode)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), toy.ANY_MIX,
    st.sampled_from(["hold", "replay", 1, 2, 3]), st.integers(0, 1000),
)  # fmt: skip
def test_any_mix_of_terms_in_any_cut_is_the_batch_in_one_piece(sizes, chosen, mode, seed):
    x, targets = toy.data(sum(sizes) + 1, seed=seed)
    factors = {name: 0.5 + k / 4 for k, name in enumerate(chosen)}
    hold(join(), toy.terms(chosen), x, targets, sizes, mode, factors=factors)


@settings(max_examples=40, deadline=None)
@given(
    toy.ANY_MIX, st.integers(0, 3), st.sampled_from([None, 1.0]), st.sampled_from([(4,), (1, 0, 3), (1, 1, 1, 1)]),
    st.sampled_from(["hold", "replay", 1, 2]),
)  # fmt: skip
def test_terms_that_a_batch_tells_nothing_take_no_part(chosen, labels, value, cut, mode):
    """Without labels, with one, with the same ones: gradient, log variance and loss are those of the other terms."""
    x, targets = toy.data(5)
    targets = toy.labelled(targets, labels, value)
    terms = toy.terms(chosen)
    torch.manual_seed(1)
    model = toy.Toy()
    hold(join(), terms, x, targets, cut, mode, model)
    few = {*toy.VARIED} if labels < 2 or value is not None else set()
    undefined = {name for name in chosen if name in few or (labels == 0 and name in toy.LABELLED)}
    drift = model.log_variance.grad
    for k, name in enumerate(toy.MAKE):
        moves = chosen.get(name, False) and name not in undefined
        assert moves or drift is None or float(drift[k]) == 0.0, name
    if undefined == set(chosen):
        assert not toy.gradient(model).any()


@pytest.mark.parametrize("mode", ["hold", "replay", 2])
@pytest.mark.parametrize(("labels", "value"), [(0, None), (1, None), (4, 2.0)])
def test_undefined_terms_are_named_and_leave_no_trace(engine, labels, value, mode):
    x, targets = toy.data(N)
    targets = toy.labelled(targets, labels, value)
    terms = toy.terms(dict.fromkeys(toy.VARIED, True))
    model = toy.Toy()
    result = step.accumulate(engine, model, terms, toy.batches(x, targets, (12, 12)), mode=mode, key=(0, 0))
    assert result.undefined == toy.VARIED
    assert float(result.loss) == 0.0
    assert float(toy.gradient(model).abs().max()) == 0.0
    assert all(torch.isfinite(value) for value in result.terms.values())
    beside = toy.terms({"ccc_valence": True, "contrastive": True})
    model.zero_grad()
    result = step.accumulate(engine, model, beside, toy.batches(x, targets, (12, 12)), mode=mode, key=(0, 0))
    assert result.undefined == ("ccc_valence",)
    assert float(model.log_variance.grad[0]) == 0.0
    assert float(model.log_variance.grad[list(toy.MAKE).index("contrastive")]) != 0.0


def test_mean_of_micro_batch_losses_would_fail():
    """What the step replaces: the mean of the CCC losses of micro-batches of 4 points elsewhere."""
    torch.manual_seed(0)
    model, terms = toy.Toy(), toy.terms(toy.MIXES["ccc_valence"])
    x, targets = toy.data(N)
    wanted, _ = reference(model, terms, x, targets)
    for batch in toy.batches(x, targets, (4,) * 6):
        (whole(terms, model(**batch.inputs), batch.targets).total / 6).backward()
    assert toy.relative(toy.gradient(model), wanted) > 0.3


# What it costs


@pytest.mark.parametrize(
    ("name", "mode", "wanted"),
    [("additive", "hold", 3), ("additive", "replay", 3), ("all", "hold", 3), ("all", "replay", 6)],
)
def test_additive_terms_forward_once_and_a_replay_twice(engine, name, mode, wanted):
    model = toy.Toy()
    x, targets = toy.data(N)
    made = toy.batches(x, targets, (5, 7, 12))
    step.accumulate(engine, model, toy.terms(toy.MIXES[name]), made, mode=mode, key=(0, 0))
    assert model.forwards == wanted


READ = {
    "additive": None,
    "ccc_valence": 1 + 1,
    "contrastive": 4 + 4,
    "gathered": 1 + 1 + 4 + 4 + 6 + 6 + 17 + 2 + 2,
    "learned beside fixed": 1 + 1,
    "fixed beside learned": 1 + 17 + 1,
    "all": 1 + 1 + 4 + 4 + 6 + 6 + 2 + 2,
}
"""Columns of what is gathered: outputs and targets of batch terms, log variances where one of them has any."""


@pytest.mark.parametrize("mode", ["hold", "replay", 2])
@pytest.mark.parametrize("name", READ)
def test_only_what_batch_terms_read_is_gathered(engine, monkeypatch, name, mode):
    tables = []
    monkeypatch.setattr(engine, "gather", lambda table: tables.append(tuple(table.shape)) or (table, 0))
    x, targets = toy.data(N + 1)
    made = toy.batches(x, targets, (10, 0, 14))
    step.accumulate(engine, toy.Toy(), toy.terms(toy.MIXES[name]), made, mode=mode, key=(0, 0))
    assert tables == ([] if READ[name] is None else [(N, READ[name])])


def test_every_micro_batch_that_is_no_filler_is_seen_once(engine):
    x, targets = toy.data(N + 1)
    for name in ("additive", "all"):
        for mode in ("hold", "replay", 1):
            seen: list[Batch] = []

            def see(outputs: dict[str, Tensor], batch: Batch, seen: list[Batch] = seen) -> None:
                assert not any(output.requires_grad for output in outputs.values())
                seen.append(batch)

            made = toy.batches(x, targets, (10, 0, 14))
            step.accumulate(engine, toy.Toy(), toy.terms(toy.MIXES[name]), made, mode=mode, key=(0, 0), see=see)
            assert [len(batch.ids) for batch in seen] == [10, 14]


# What is random


@pytest.mark.parametrize("name", ["ccc_valence", "both kinds"])
def test_any_cut_and_a_replay_draw_the_same_dropout(engine, name):
    x, targets = toy.data(N)
    terms, found = toy.terms(toy.MIXES[name]), []
    cuts = [(5, 7, 12), (5, 7, 12), (24,), (10, 0, 14), (5, 7, 12)]
    for cut, mode, now in zip(cuts, ("hold", "replay", "hold", "replay", "hold"), (1, 1, 1, 1, 2), strict=True):
        torch.manual_seed(0)
        model = toy.Toy(dropout=0.5).train()
        step.accumulate(engine, model, terms, toy.batches(x, targets, cut), mode=mode, key=(3, now))
        found.append(toy.gradient(model))
    assert toy.relative(found[1], found[0]) < 1e-6
    assert max(toy.relative(other, found[0]) for other in found[2:4]) < 1e-5
    assert toy.relative(found[4], found[0]) > 0.1, "another step must draw other masks"


class NumPyMasked(toy.Toy):
    """Masks its input as transformers' SpecAugment does: from NumPy's global state."""

    def forward(self, x):
        return super().forward(x * torch.from_numpy((np.random.rand(*x.shape) > 0.4).astype(np.float32)))


def test_replay_restores_numpy_too(engine, monkeypatch):
    x, targets = toy.data(N)
    terms = toy.terms(toy.MIXES["ccc_valence"])

    def found(mode):
        torch.manual_seed(0)
        model = NumPyMasked()
        step.accumulate(engine, model, terms, toy.batches(x, targets, (9, 15)), mode=mode, key=(0, 7))
        return toy.gradient(model)

    wanted = found("hold")
    assert toy.relative(found("replay"), wanted) < 1e-6
    monkeypatch.setattr(np.random, "seed", lambda *_: None)
    assert toy.relative(found("replay"), wanted) > 0.05, "the test must notice a NumPy state left alone"


class Bf16(toy.Toy):
    """Runs as Accelerate prepares a model for bf16: autocast inside, bf16 outside."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


@pytest.mark.parametrize("name", ["ccc_valence", "both kinds", "mse_valence"])
def test_bf16_gives_float32_losses_and_any_cut_the_same_gradient(engine, name):
    x, targets = toy.data(N)
    terms = toy.terms(toy.MIXES[name])

    def found(cut, mode):
        torch.manual_seed(0)
        model = Bf16()
        result = step.accumulate(engine, model, terms, toy.batches(x, targets, cut), mode=mode, key=(0, 0))
        assert result.loss.dtype in (torch.float32, torch.float64)
        return toy.gradient(model), float(result.loss)

    whole_batch, value = found((24,), "hold")
    # The weights' gradients are rounded to bf16 (steps of 2^-8) once a micro-batch.
    for cut, mode in (((5, 19), "hold"), ((5, 19), "replay")):
        gradient, loss = found(cut, mode)
        assert toy.relative(gradient, whole_batch) < 2**-6
        assert loss == pytest.approx(value, rel=1e-6)


# Gradients by term


@pytest.mark.parametrize("mode", ["hold", "replay", 2])
def test_gradients_by_term_are_those_of_each_alone_and_add_up(engine, mode):
    torch.manual_seed(0)
    model, terms = toy.Toy(), toy.terms(toy.MIXES["both kinds"])
    x, targets = toy.data(N)
    factors = {term.name: 0.5 + k / 4 for k, term in enumerate(terms)}
    shared = list(model.body.parameters())
    size = sum(p.numel() for p in shared)
    made = toy.batches(x, targets, (5, 7, 12))
    found = step.by_term(
        engine, model, terms, made, mode=mode, key=(0, 0), factors=factors, parameters=shared
    )  # fmt: skip
    assert all(p.grad is None for p in model.parameters())
    assert list(found) == [term.name for term in terms]
    for term in terms:
        wanted, _ = reference(model, [term], x, targets, factors)
        assert toy.relative(found[term.name], _of(model, wanted, "body")) < 1e-5
    step.accumulate(engine, model, terms, made, mode=mode, key=(0, 0), factors=factors)
    everything = torch.cat([p.grad.flatten() for p in shared])
    assert everything.numel() == size
    assert toy.relative(torch.stack(list(found.values())).sum(0), everything) < 1e-5


def _of(model: nn.Module, gradient: Tensor, prefix: str) -> Tensor:
    """Return the part of a whole gradient that belongs to the parameters whose names begin so."""
    sizes = [(name, p.numel()) for name, p in model.named_parameters()]
    parts = torch.split(gradient, [size for _, size in sizes])
    return torch.cat([part for (name, _), part in zip(sizes, parts, strict=True) if name.startswith(prefix)])
