"""A traced step against the step that it was traced from."""

from __future__ import annotations

import copy

import pytest
import torch

from affect.training.stack import Stack
from tests.training.test_stack import CASES, alone, batch, drawn, gradient, make


@pytest.mark.parametrize("case", ["views"])
def test_its_terms_and_gradients_are_the_same_to_the_bit(case):
    """Of batches of two sizes, weights that were moved between them, and the first size again."""
    (model,), terms = make(CASES[case], 1)
    own = copy.deepcopy(model)
    stack = Stack([model])
    gradient(stack, terms, [batch(6, 9)], drawn([model], [batch(6, 9)]))
    assert all(parameter.grad is not None for parameter in model.parameters())
    stack.traces = True
    before = None
    for seed, rows in enumerate((6, 5, 6)):
        b = batch(rows, seed)
        (noise,) = drawn([model], [b])
        (found,) = gradient(stack, terms, [b], [noise])
        torch.testing.assert_close(found.terms, alone(own, terms, b, noise), rtol=0, atol=0)
        for (name, mine), its in zip(model.named_parameters(), own.named_parameters(), strict=True):
            assert torch.equal(mine.grad, its[1].grad), name
        assert before is None or found.terms[terms[0].name] != before
        before = found.terms[terms[0].name]
        for one in (model, own):
            with torch.no_grad():
                for parameter in one.parameters():
                    parameter -= 0.1 * parameter.grad
    assert len(stack._traced) == 2
