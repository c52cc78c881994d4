"""What a loss's terms come to: values of a whole batch, which of them are defined, and their weighed total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from affect.task import LOG_VARIANCE, Outputs, Targets, Term


@dataclass(frozen=True)
class Loss:
    """The loss [] of a global batch, its terms' values [] and which of them took part [], by name."""

    total: Tensor
    values: dict[str, Tensor]
    defined: dict[str, Tensor]


def wide(device: torch.device) -> torch.dtype:
    """Return float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def whole(
    terms: Sequence[Term], outputs: Outputs, targets: Targets, factors: Mapping[str, float | Tensor] | None = None
) -> Loss:
    """Return the loss of one whole batch on one machine: the reference that every cut must equal.

    `factors`, of some or all, multiply the terms' own weights. A term that is not defined adds exactly 0: its log
    variance must not drift either.
    """
    values: dict[str, Tensor] = {}
    defined: dict[str, Tensor] = {}
    weighed = []
    for term in terms:
        value, takes_part = _evaluated(term, outputs, targets)
        values[term.name], defined[term.name] = value, takes_part
        share = term.weight * (1.0 if factors is None else factors.get(term.name, 1.0)) * value
        if term.log_variance is not None:
            s = outputs[LOG_VARIANCE][:, term.log_variance].float().mean()
            share = torch.exp(-s) * share + s
        weighed.append(torch.where(takes_part, share, 0.0))
    return Loss(torch.stack(weighed).sum(), values, defined)


def _evaluated(term: Term, outputs: Outputs, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return a term's value [] of a whole batch, and whether it is defined []."""
    if term.sum is not None and term.count is not None:
        count = term.count(targets)
        return term.sum(outputs, targets) / count.clamp(min=1), count > 0
    assert term.value is not None
    value = term.value(outputs, targets)
    return value, torch.ones_like(value, dtype=torch.bool) if term.defined is None else term.defined(targets)
