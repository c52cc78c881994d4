"""Symmetric contrastive alignment of two views (InfoNCE, van den Oord et al. 2018): every pair of the batch counts.

Legend: N examples of the global batch, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets, Term


def contrastive(first: str, second: str, *, temperature: float = 0.1, weight: float = 1.0) -> Term:
    """Return InfoNCE between the outputs `first` and `second` [N, D], the rest of the global batch as negatives."""

    def value(outputs: Outputs, targets: Targets) -> Tensor:
        one, other = (F.normalize(outputs[name].float(), dim=-1) for name in (first, second))
        similarity = one @ other.T / temperature
        index = torch.arange(len(similarity), device=similarity.device)
        return (F.cross_entropy(similarity, index) + F.cross_entropy(similarity.T, index)) / 2

    return Term(name="contrastive", outputs=(first, second), weight=weight, value=value)
