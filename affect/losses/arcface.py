"""ArcFace (Deng et al. 2019): an additive angular margin on cosine logits.

The table of class centres lives in the model and reaches the loss as cosines, so that every engine shards and
reduces it like any other parameter. Legend: N examples, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets


class ArcFace:
    """Cross entropy of scaled cosines with the margin added to the true class's angle; additive.

    Reads the output `name` [N, C], cosines between embeddings and class centres, and the target `name` [N]
    (class index, -100 where the speaker is not valid).
    """

    def __init__(self, name: str, *, margin: float = 0.2, scale: float = 30.0, weight: float = 1.0):
        self.name, self.margin, self.scale = name, margin, scale
        self.weights = {name: weight}
        self.needs = (name,)

    def sums(self, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
        """Return the summed loss [] over valid examples."""
        cosine, target = outputs[self.name].float(), targets[self.name]
        valid = target != -100
        index = torch.where(valid, target, 0)[:, None]
        true = cosine.gather(1, index)
        # Clamped away from 1, where the square root's slope is infinite.
        sine = (1.0 - true.square()).clamp(min=1e-7).sqrt()
        margined = true * math.cos(self.margin) - sine * math.sin(self.margin)
        # Past pi - margin the cosine would rise again: continue with a straight line.
        straight = true - math.sin(math.pi - self.margin) * self.margin
        margined = torch.where(true > math.cos(math.pi - self.margin), margined, straight)
        logits = self.scale * cosine.scatter(1, index, margined)
        return {self.name: F.cross_entropy(logits, target, reduction="sum", ignore_index=-100)}

    def counts(self, targets: Targets) -> dict[str, Tensor]:
        """Return the number of valid examples []."""
        return {self.name: (targets[self.name] != -100).sum()}
