"""Slots whose speaker is chosen: the best fitting, as they arrive, or silence; against every assignment by hand."""

from __future__ import annotations

from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from affect.losses.focal import focal_loss
from affect.losses.slots import best, by_arrival, slot_activity, taught

BCE = partial(F.binary_cross_entropy_with_logits, reduction="none")
N, S, U, T = 4, 5, 3, 6
NEW = (2, 0, 3, 1)
"""Candidates of each example."""


def sample(seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(N, S, T, generator=g)
    label = (torch.rand(N, S, T, generator=g) > 0.6).float()
    label[1, 4], label[2, :, 4:] = torch.nan, torch.nan
    candidates = (torch.rand(N, U, T, generator=g) > 0.5).float()
    for row, count in zip(candidates, NEW, strict=True):
        row[count:] = torch.nan
        row[:count, 0] = 1.0
    return logits, {"a": label, "new": candidates}


def by_hand(logits: Tensor, targets: dict[str, Tensor], first: int, weight: float, loss=BCE) -> Tensor:
    """Return the sum over examples of the least over all assignments."""
    total = torch.zeros(())
    for row, label, candidates, count in zip(logits, targets["a"], targets["new"], NEW, strict=True):
        valid = torch.isfinite(label)
        plain = torch.where(valid, loss(row, label.nan_to_num()), 0.0)
        total = total + plain[first:].sum()
        sums = []
        # Which slots take a candidate: as many as there are.
        for slots in permutations(range(first), min(first, count)):
            for chosen in permutations(range(count), min(first, count)):
                labels = torch.zeros(first, T)
                for slot, candidate in zip(slots, chosen, strict=True):
                    labels[slot] = candidates[candidate]
                sums.append(torch.where(valid[:first], loss(row[:first], labels), 0.0).sum())
        total = total + weight * torch.stack(sums).min()
    return total


@pytest.mark.parametrize("loss", [BCE, focal_loss])
@pytest.mark.parametrize("first", [1, 2, 4])
def test_value_and_gradient_are_those_of_the_best_of_all_assignments(first, loss):
    logits, targets = sample()
    logits.requires_grad_()
    term = slot_activity("a", "new", loss, first=first, first_weight=2.5)
    value, wanted = term.sum({"a": logits}, targets), by_hand(logits, targets, first, 2.5, loss)
    torch.testing.assert_close(value, wanted)
    one, other = (torch.autograd.grad(v, logits)[0] for v in (value, wanted))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    valid = torch.isfinite(targets["a"])
    assert float(term.count(targets)) == 2.5 * valid[:, :first].sum() + valid[:, first:].sum()


def test_one_slot_is_taught_who_fits_and_not_who_comes_first():
    late = torch.tensor([0.0, 0.0, 1.0, 1.0])
    early = torch.tensor([1.0, 1.0, 0.0, 0.0])
    targets = {"a": torch.zeros(1, 1, 4), "new": torch.stack([early, late])[None]}
    logits = (6 * late - 3)[None, None]
    terms = {share: slot_activity("a", "new", BCE, arrival=share) for share in (0, 1)}
    value = {share: float(term.sum({"a": logits}, targets)) for share, term in terms.items()}
    assert value[0] == pytest.approx(float(BCE(logits[0, 0], late).sum()))
    assert value[1] == pytest.approx(float(BCE(logits[0, 0], early).sum()))
    half = float(slot_activity("a", "new", BCE, arrival=0.5).sum({"a": logits}, targets))
    assert half == pytest.approx((value[0] + value[1]) / 2, rel=1e-6)
    assert torch.equal(taught(logits, targets["a"], targets["new"], BCE)[0, 0], late)


def test_arrival_is_by_the_first_active_frame():
    new = torch.full((2, 3, 5), torch.nan)
    new[0, 0], new[0, 2] = torch.tensor([0.0, 0, 0, 1, 0]), torch.tensor([0.0, 1, 0, 0, 1])
    assert by_arrival(new, 2).tolist() == [[2, 0], [-1, -1]]
    assert by_arrival(new, 4).tolist() == [[2, 0, -1, -1], [-1] * 4]
    assert by_arrival(new[:, :0], 1).tolist() == [[-1], [-1]]


def test_without_candidates_the_slot_is_taught_silence():
    logits, targets = sample()
    for new in (torch.full((N, U, T), torch.nan), torch.empty(N, 0, T)):
        value = slot_activity("a", "new", BCE).sum({"a": logits}, {**targets, "new": new})
        silent = targets["a"].clone()
        silent[:, 0] = torch.where(torch.isfinite(silent[:, 0]), 0.0, torch.nan)
        valid = torch.isfinite(silent)
        assert float(value) == pytest.approx(float(BCE(logits, silent.nan_to_num())[valid].sum()), rel=1e-5)
        assert best(torch.zeros(N, 2, new.shape[1]), torch.isfinite(new).any(-1)).eq(-1).all()


@pytest.mark.parametrize("first", [1, 2])
def test_a_block_twice_as_long_has_the_same_loss_and_gradient_in_sum(first):
    logits, targets = sample()
    twice = {name: torch.cat([target, target], dim=-1) for name, target in targets.items()}
    term = slot_activity("a", "new", BCE, first=first)

    def mean(x: Tensor, labels: dict[str, Tensor]) -> float:
        return float(term.sum({"a": x}, labels) / term.count(labels))

    assert mean(torch.cat([logits, logits], dim=-1), twice) == pytest.approx(mean(logits, targets), rel=1e-5)
    per_slot = slot_activity("a", "new", BCE, first=first, per_slot=True)
    counts = per_slot.count(targets), per_slot.count(twice)
    assert counts[0] == counts[1] == 19, "one slot of the 20 is taught nothing"


def test_pieces_add_up_to_the_whole():
    logits, targets = sample()
    term = slot_activity("a", "new", BCE, first=2, first_weight=2.0, arrival=0.3)
    parts = [
        (float(term.sum({"a": logits[a:b]}, t)), float(term.count(t)))
        for a, b in ((0, 1), (1, 1), (1, 4))
        for t in [{name: target[a:b] for name, target in targets.items()}]
    ]
    assert sum(part[0] for part in parts) == pytest.approx(float(term.sum({"a": logits}, targets)), rel=1e-6)
    assert sum(part[1] for part in parts) == float(term.count(targets))
