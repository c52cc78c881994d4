"""How far predictions of several scores of one example lie apart.

It pulls them together whether or not the labels agree, so what scores tell differently can be lost with it: hold the
correlation of the predictions against that of the labels. Legend: N examples, K scores.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from affect.errors import AffectError
from affect.task import Outputs, Targets, Term


def consistency(scales: Mapping[str, tuple[float, float]], *, weight: float = 1.0) -> Term:
    """Return the mean variance of the outputs [N] that `scales` name, each as a part of its scale (low, high).

    All examples count, with labels or without. Raises AffectError for fewer than two scores.
    """
    names = tuple(scales)
    if len(names) < 2:
        raise AffectError(f"consistency is one of several scores, not of {', '.join(names) or 'none'}")

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        parts = [(outputs[name].float() - low) / (high - low) for name, (low, high) in scales.items()]
        stacked = torch.stack(parts)
        return (stacked - stacked.mean(0)).square().mean(0).sum()

    def count(targets: Targets) -> Tensor:
        return torch.ones_like(targets[names[0]]).sum()

    return Term(name="consistency", outputs=names, targets=names[:1], weight=weight, sum=total, count=count)
