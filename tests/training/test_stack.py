"""Several models as one: terms and gradients against each model on its own, for every fusion model and loss.

Legend: K models, B rows of a batch, S streams.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from affect.task import Batch, Term
from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models import build, terms_of
from affect.training.stack import Stack
from affect.training.step import Result
from affect.training.terms import whole

WIDTHS = {"audio": 7, "text": 11, "video": 5}
CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
DROPPED = {"dropout": 0.3, "modality_dropout": 0.5}
OURS = {**DROPPED, "softmax": "masked", "missing": "token", "dropout_kind": "balanced", "normalise": True}
CASES = {
    "attention": Model(dropout=0.3),
    "attention_robust": Model(name="attention_robust", **DROPPED),
    "ours": Model(**OURS),
    "views": Model(views=0.5, rescale=True, fused_dropout=True, **OURS),
    "imputation": Model(imputation=0.5, **DROPPED),
    "contrastive": Model(contrastive=0.2, **DROPPED),
    "misa": Model(name="misa", **DROPPED),
    "mmim": Model(name="mmim", **DROPPED),
    "lmf": Model(name="lmf", **DROPPED),
    "tfn": Model(name="tfn", **DROPPED),
    "lf_dnn": Model(name="lf_dnn", **DROPPED),
}
UNEVEN = (7, 4, 5)


def make(choice: Model, count: int) -> tuple[list[nn.Module], list[Term]]:
    """Return models with weights (and statistics of features) of their own, and their terms."""
    models = []
    for k in range(count):
        torch.manual_seed(k)
        streams = tuple((name, f"{name}-UTT", width) for name, width in WIDTHS.items())
        model = build(replace(choice, hidden=8), Signature(streams=streams, classes=CLASSES))
        if choice.normalise:
            for name, width in WIDTHS.items():
                model.standardise(name, 2 * torch.randn(9, width) + k, torch.ones(9))
        models.append(model.train())
    return models, terms_of(choice, tuple(WIDTHS))


def batch(rows: int, seed: int) -> Batch:
    """Return a batch in which streams and labels are missing; every row has a stream."""
    drawn = torch.Generator().manual_seed(seed)
    present = (torch.rand(rows, 3, generator=drawn) < 0.7).float()
    present[present.sum(1) == 0, 1] = 1.0
    inputs = {"present": present}
    for s, (name, width) in enumerate(WIDTHS.items()):
        inputs[name] = torch.randn(rows, width, generator=drawn) * present[:, s : s + 1]
    emotion = torch.randint(len(CLASSES), (rows,), generator=drawn)
    valence = torch.randn(rows, generator=drawn)
    emotion[-1], valence[0] = -100, float("nan")
    return Batch(
        ids=tuple(f"{seed}-{k}" for k in range(rows)), inputs=inputs,
        targets={"emotion": emotion, "valence": valence, "present": present.clone()}, rows=[{}] * rows,
    )  # fmt: skip


def drawn(models: Sequence[nn.Module], batches: Sequence[Batch]) -> list[dict[str, Tensor]]:
    torch.manual_seed(11)
    return [model.draw(len(b.ids)) for model, b in zip(models, batches, strict=True)]


def alone(model: nn.Module, terms: Sequence[Term], batch: Batch, noise: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave the gradient in a model and return the terms, without a stack."""
    outputs = model(**batch.inputs, noise=noise)
    model.zero_grad()
    loss = whole(terms, outputs, batch.targets)
    loss.total.backward()
    return {name: value.detach() for name, value in loss.values.items()}


def gradient(
    stack: Stack, terms: Sequence[Term], batches: Sequence[Batch], noises: Sequence[dict[str, Tensor]]
) -> list[Result]:
    """Leave the gradients in the stack's models; the terms have their own weights."""
    return stack.gradient(terms, batches, noises, [{}] * len(stack.models))


ROUNDING = {"misa": 1e-3}
"""Of gradients, against their norm; misa's norms of nearly constant rows are as far from float64 on their own."""


def compare(found: nn.Module, wanted: nn.Module, rounding: float = 1e-4) -> None:
    seen = 0
    whole = float(torch.cat([p.grad.flatten() for p in wanted.parameters() if p.grad is not None]).norm())
    for (name, mine), its in zip(found.named_parameters(), wanted.parameters(), strict=True):
        if its.grad is None:
            assert mine.grad is None or not mine.grad.any(), name
            continue
        error = float((mine.grad - its.grad).norm())
        assert error <= rounding * float(its.grad.norm()) + 1e-7 * whole, name
        seen += bool(its.grad.any())
    assert seen > 5, "the test must see gradients"


@pytest.mark.parametrize("sizes", [UNEVEN, (5, 5, 5)], ids=["uneven", "even"])
@pytest.mark.parametrize("case", CASES)
def test_terms_and_gradients_are_those_of_each_alone(case, sizes):
    models, terms = make(CASES[case], len(sizes))
    copies = copy.deepcopy(models)
    batches = [batch(rows, seed) for seed, rows in enumerate(sizes)]
    noises = drawn(models, batches)
    found = gradient(Stack(models), terms, batches, noises)
    for model, own, b, noise, result in zip(models, copies, batches, noises, found, strict=True):
        wanted = alone(own, terms, b, noise)
        assert list(result.terms) == [term.name for term in terms]
        torch.testing.assert_close(result.terms, wanted, rtol=1e-5, atol=1e-6)
        total = sum(term.weight * wanted[term.name] for term in terms)
        torch.testing.assert_close(result.loss, total, rtol=1e-5, atol=1e-6)
        assert result.undefined == ()
        compare(model, own, ROUNDING.get(case, 1e-4))
    values = torch.stack([torch.stack(list(result.terms.values())) for result in found])
    assert values.isfinite().all()
    assert (values.std(0) > 0).any(), "three models of other weights have other losses"


def test_padding_is_no_example():
    """A batch beside a longer one gives what it gives beside one of its own length."""
    for case in ("ours", "misa", "contrastive"):
        models, terms = make(CASES[case], 2)
        again = copy.deepcopy(models)
        short, twin, long = batch(4, 0), batch(4, 1), batch(9, 2)
        noises = drawn(models, [short, long])
        padded = gradient(Stack(models), terms, [short, long], noises)[0]
        even = gradient(Stack(again), terms, [short, twin], [noises[0], drawn(again, [short, twin])[1]])[0]
        torch.testing.assert_close(padded.terms, even.terms, rtol=1e-5, atol=1e-6)
        compare(models[0], again[0], ROUNDING.get(case, 1e-4))


def test_one_model_is_left_as_it_is():
    (model,), terms = make(CASES["ours"], 1)
    own = copy.deepcopy(model)
    storage = [p.data_ptr() for p in model.parameters()]
    b = batch(6, 0)
    (noise,) = drawn([model], [b])
    stack = Stack([model])
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    (found,) = gradient(stack, terms, [b], [noise])
    torch.testing.assert_close(found.terms, alone(own, terms, b, noise), rtol=0, atol=0)
    compare(model, own)
    stack.release()
    assert [p.data_ptr() for p in model.parameters()] == storage


def optimizers(models: Sequence[nn.Module], *, fused: bool) -> list[torch.optim.Optimizer]:
    return [torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=0.1, fused=fused, foreach=False) for m in models]


@pytest.mark.parametrize("case", ["attention_robust", "ours", "mmim"])
def test_steps_of_fused_optimisers_move_the_stack(case):
    """Against models apart, with torch's plain AdamW: a stale stack or a misread gradient would go elsewhere."""
    models, terms = make(CASES[case], 3)
    copies = copy.deepcopy(models)
    stack = Stack(models)
    mine, its = optimizers(models, fused=True), optimizers(copies, fused=False)
    for step in range(4):
        batches = [batch(rows, 10 * step + rows) for rows in UNEVEN]
        noises = drawn(models, batches)
        gradient(stack, terms, batches, noises)
        for k, own in enumerate(copies):
            alone(own, terms, batches[k], noises[k])
            mine[k].step()
            its[k].step()
    for model, own in zip(models, copies, strict=True):
        torch.testing.assert_close(model.state_dict(), own.state_dict(), rtol=1e-3, atol=1e-4)


def test_gradients_lie_in_memory_as_their_parameters_do():
    """torch's fused AdamW reads a gradient of another order as if it were in the parameter's, and says nothing."""
    models, terms = make(CASES["attention"], 3)
    batches = [batch(rows, rows) for rows in UNEVEN]
    gradient(Stack(models), terms, batches, drawn(models, batches))
    found = [(p.grad, p) for model in models for p in model.parameters() if p.grad is not None]
    assert len(found) > 30
    assert all(grad.is_contiguous() and p.is_contiguous() for grad, p in found)


class Turned(nn.Module):
    """Uses its weight [a, b] turned round, so that the gradient comes in the order [b, a]."""

    training = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor, noise: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        return {"y": x @ self.weight.T}


def square(outputs, targets) -> Tensor:
    """Return the mean square of `y`."""
    valid = torch.isfinite(targets["label"])[:, None]
    return torch.where(valid, outputs["y"].square(), 0.0).sum() / valid.sum()


SQUARE = [Term(name="square", outputs=("y",), targets=("label",), value=square)]


def test_a_gradient_in_another_order_is_put_right_before_a_fused_step():
    torch.manual_seed(0)
    models = [Turned(), Turned()]
    copies = copy.deepcopy(models)
    x = torch.randn(5, 3)
    plain = [
        Batch(ids=("a",) * 5, inputs={"x": x * k}, targets={"label": torch.zeros(5)}, rows=[{}] * 5) for k in (1, 2)
    ]
    raw = torch.autograd.grad(square(copies[0](x), plain[0].targets), copies[0].weight)[0]
    gradient(Stack(models), SQUARE, plain, [{}, {}])
    for k, (model, own) in enumerate(zip(models, copies, strict=True)):
        alone(own, SQUARE, plain[k], {})
        assert model.weight.grad.is_contiguous()
        torch.testing.assert_close(model.weight.grad, own.weight.grad)
    torch.testing.assert_close(raw, copies[0].weight.grad)
    for optimizer in (*optimizers(models, fused=True), *optimizers(copies, fused=False)):
        optimizer.step()
    for model, own in zip(models, copies, strict=True):
        torch.testing.assert_close(model.weight, own.weight)


def test_release_leaves_models_of_their_own():
    models, terms = make(CASES["ours"], 3)
    objects = [list(model.parameters()) for model in models]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    stack = Stack(models)
    batches = [batch(rows, rows) for rows in UNEVEN]
    gradient(stack, terms, batches, drawn(models, batches))
    stack.release()
    for model, its, values in zip(models, objects, before, strict=True):
        assert all(a is b for a, b in zip(model.parameters(), its, strict=True)), "an optimiser still knows them"
        torch.testing.assert_close(model.state_dict(), values, rtol=0, atol=0)
        assert all(p.grad is None for p in its)
        assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in its), "no slice of a stack"
    with torch.no_grad():
        for p in objects[0]:
            p.add_(1.0)
    for model, values in zip(models[1:], before[1:], strict=True):
        torch.testing.assert_close(model.state_dict(), values, rtol=0, atol=0)


def test_what_is_not_trained_gets_no_gradient():
    models, terms = make(CASES["attention"], 2)
    for model in models:
        model.heads.valence.weight.requires_grad_(False)
    batches = [batch(5, 0), batch(5, 1)]
    gradient(Stack(models), terms, batches, drawn(models, batches))
    for model in models:
        assert model.heads.valence.weight.grad is None
        assert model.heads.emotion.weight.grad.any()


def test_factors_and_undefined_terms_are_each_models_own():
    """A factor multiplies a term's weight; a batch that tells a term nothing leaves the others' gradients alone."""
    models, terms = make(CASES["contrastive"], 3)
    copies = copy.deepcopy(models)
    batches = [batch(rows, rows) for rows in UNEVEN]
    batches[1].targets["valence"][:] = float("nan")
    batches[2].targets["present"][:] = 0.0
    noises = drawn(models, batches)
    factors = [{term.name: 0.5 + k + place / 3 for place, term in enumerate(terms)} for k in range(3)]
    found = Stack(models).gradient(terms, batches, noises, factors)
    assert [result.undefined for result in found] == [(), ("mse_valence",), ("alignment",)]
    for model, own, b, noise, mine, result in zip(models, copies, batches, noises, factors, found, strict=True):
        wanted = whole(terms, own(**b.inputs, noise=noise), b.targets, mine)
        own.zero_grad()
        wanted.total.backward()
        torch.testing.assert_close(result.loss, wanted.total.detach(), rtol=1e-5, atol=1e-6)
        compare(model, own)
