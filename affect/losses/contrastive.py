"""Symmetric contrastive alignment of two views (InfoNCE, van den Oord et al. 2018): every pair of the batch counts.

Legend: N examples of the global batch, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets


class Contrastive:
    """InfoNCE between outputs `first` and `second` [N, D], the rest of the global batch as negatives; gathered."""

    def __init__(self, first: str, second: str, *, temperature: float = 0.1, weight: float = 1.0):
        self.needs = (first, second)
        self.temperature = temperature
        self.weights = {"contrastive": weight}

    def terms(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the mean of both directions' cross entropy []."""
        first, second = (F.normalize(outputs[name].float(), dim=-1) for name in self.needs)
        similarity = first @ second.T / self.temperature
        index = torch.arange(len(similarity), device=similarity.device)
        loss = (F.cross_entropy(similarity, index) + F.cross_entropy(similarity.T, index)) / 2
        return {"contrastive": loss}
