"""The activity of slots, of which the first stand for those whom no other slot is for.

Each of these is taught one of the candidates, those that together cost least, or as they arrive: no permutation is
tried, a few slots are assigned by the Hungarian method and one by its minimum. Legend: N examples, S slots, P of them
the first, U candidates, T frames.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from affect.task import Outputs, Targets, Term

Elementwise = Callable[[Tensor, Tensor], Tensor]
"""The loss of each of some logits, by labels of the same shape."""
_NEVER = 1e9
"""The cost of being taught who is no candidate."""


def slot_activity(
    target: str, candidates: str, loss: Elementwise, *, first: int = 1, first_weight: float = 1.0, arrival: float = 0.0,
    per_slot: bool = False, name: str | None = None, weight: float = 1.0, log_variance: int | None = None,
) -> Term:  # fmt: skip
    """Return the mean over slots and frames of `loss`, of logits and labels of 0 or 1.

    Logits are the output `target` [N, S, T], labels the target of that name, NaN where nothing is taught (padding, an
    empty slot). Those of the `first` slots are replaced by the target `candidates` [N, U, T] (NaN where there is none),
    one a slot while there are any, else by silence; they count `first_weight` times. `arrival` is the share of the loss
    in which the k-th slot takes the candidate that is the k-th to begin. `per_slot` divides by the slots that are
    taught in place of their frames.
    """

    def counted(label: Tensor) -> Tensor:
        weights = torch.ones(label.shape[1], device=label.device)
        weights[:first] = first_weight
        return weights[:, None]

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        logits, label = outputs[target].float(), targets[target]
        valid = torch.isfinite(label)
        label = torch.where(valid, label, 0.0)
        label = torch.cat([torch.zeros_like(label[:, :first]), label[:, first:]], dim=1)
        losses = torch.where(valid, loss(logits, label), 0.0) * counted(label)
        gains = _gains(logits[:, :first], valid[:, :first], targets[candidates], loss)
        there = torch.isfinite(targets[candidates]).any(-1)
        taught = (1 - arrival) * _taken(gains, best(gains.detach(), there))
        if arrival:
            taught = taught + arrival * _taken(gains, by_arrival(targets[candidates], first))
        return losses.sum() + first_weight * taught

    def count(targets: Targets) -> Tensor:
        valid = torch.isfinite(targets[target])
        if per_slot:
            valid = valid.any(-1, keepdim=True)
        return (valid * counted(targets[target])).sum()

    return Term(
        name=name or f"slots_{target}", outputs=(target,), targets=(target, candidates), weight=weight,
        log_variance=log_variance, sum=total, count=count,
    )  # fmt: skip


def taught(logits: Tensor, label: Tensor, candidates: Tensor, loss: Elementwise, first: int = 1) -> Tensor:
    """Return the labels [N, S, T] with those of the `first` slots as the candidates that fit best (arrival apart)."""
    valid = torch.isfinite(label[:, :first])
    there = torch.isfinite(candidates).any(-1)
    chosen = best(_gains(logits[:, :first].float(), valid, candidates, loss), there)[..., None]
    own = torch.where(chosen >= 0, candidates.nan_to_num().take_along_dim(chosen.clamp(min=0), 1), 0.0)
    return torch.cat([torch.where(valid, own, torch.nan), label[:, first:]], dim=1)


def best(gains: Tensor, there: Tensor) -> Tensor:
    """Return the candidate of each of the first slots [N, P] that together cost least, -1 for none.

    `gains` [N, P, U] are what each costs more than silence, `there` [N, U] which of them there are. As many slots as
    there are candidates are taught one.
    """
    if not gains.shape[2]:
        return torch.full(gains.shape[:2], -1, device=gains.device)
    costs = torch.where(there[:, None], gains, _NEVER)
    if gains.shape[1] == 1:
        return torch.where(there.any(1, keepdim=True), costs.argmin(-1), -1)
    from scipy.optimize import linear_sum_assignment

    table = costs.double().cpu().numpy()
    chosen = torch.full(gains.shape[:2], -1)
    for row, cost in zip(chosen, table, strict=True):
        slots, candidates = linear_sum_assignment(cost)
        row[torch.from_numpy(slots)] = torch.from_numpy(candidates)
    chosen = chosen.to(gains.device)
    return torch.where(there.take_along_dim(chosen.clamp(min=0), 1), chosen, -1)


def by_arrival(candidates: Tensor, first: int) -> Tensor:
    """Return for each of the `first` slots [N, P] the candidate [N, U, T] that is as many-th to begin, -1 for none."""
    active = candidates.nan_to_num() > 0.5
    begins = torch.where(active.any(-1), active.byte().argmax(-1), candidates.shape[-1])
    order = begins.argsort(dim=1, stable=True)[:, :first]
    chosen = torch.where(active.any(-1).take_along_dim(order, 1), order, -1)
    return torch.nn.functional.pad(chosen, (0, first - chosen.shape[1]), value=-1)


def _gains(logits: Tensor, valid: Tensor, candidates: Tensor, loss: Elementwise) -> Tensor:
    """Return what each candidate costs each of the first slots more than silence does [N, P, U]."""
    active = torch.ones_like(logits)
    slopes = torch.where(valid, loss(logits, active) - loss(logits, torch.zeros_like(logits)), 0.0)
    return slopes @ candidates.nan_to_num().to(slopes.dtype).transpose(1, 2)


def _taken(gains: Tensor, chosen: Tensor) -> Tensor:
    """Return the sum of the gains of those chosen []."""
    if not gains.shape[2]:
        return gains.sum()
    return torch.where(chosen >= 0, gains.take_along_dim(chosen.clamp(min=0)[..., None], 2)[..., 0], 0.0).sum()
