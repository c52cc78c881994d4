from __future__ import annotations

import pytest
import torch

from affect.errors import AffectError
from affect.losses.consistency import consistency
from affect.training.terms import whole

SCALES = {"a": (1.0, 5.0), "b": (0.0, 100.0), "c": (0.0, 1.0)}


def test_it_is_the_variance_on_one_scale_over_all_examples():
    g = torch.Generator().manual_seed(0)
    parts = torch.rand(7, 3, generator=g)
    outputs = {name: low + (high - low) * parts[:, k] for k, (name, (low, high)) in enumerate(SCALES.items())}
    targets = {"a": torch.full((7,), float("nan"))}
    found = whole([consistency(SCALES, weight=2.0)], outputs, targets)
    assert float(found.total) == pytest.approx(2 * float(parts.var(1, correction=0).mean()), rel=1e-5)
    assert bool(found.defined["consistency"])


def test_scores_that_agree_cost_nothing_and_no_example_adds_nothing():
    term = consistency({"a": (1.0, 5.0), "b": (0.0, 100.0)})
    assert (term.name, term.outputs, term.additive) == ("consistency", ("a", "b"), True)
    assert float(term.sum({"a": torch.tensor([2.0, 5.0]), "b": torch.tensor([25.0, 100.0])}, {})) == 0.0
    empty = torch.zeros(0).requires_grad_()
    value = term.sum({"a": empty, "b": empty}, {})
    value.backward()
    assert float(value) == 0.0
    assert int(term.count({"a": torch.zeros(0)})) == 0
    assert int(term.count({"a": torch.zeros(3)})) == 3


def test_one_score_has_nothing_to_agree_with():
    with pytest.raises(AffectError, match="consistency is one of several scores, not of a"):
        consistency({"a": (1.0, 5.0)})
