"""ArcFace (Deng et al. 2019): an additive angular margin on cosine logits.

The table of class centres lives in the model and reaches the loss as cosines, so that every engine shards and
reduces it like any other parameter. Legend: N examples, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.task import Outputs, Targets, Term


def arcface(
    name: str, *, margin: float = 0.2, scale: float = 30.0, weight: float = 1.0, log_variance: int | None = None
) -> Term:
    """Return the mean cross entropy of scaled cosines with the margin added to the true class's angle.

    Reads the output `name` [N, ..., C], cosines between embeddings and class centres, and the target `name` [N, ...]
    (class index, -100 where the speaker is not valid): several embeddings an example count as so many. A learned weight
    is the output `log_variance`'s column `log_variance`.
    """

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        cosine, target = outputs[name].float().flatten(0, -2), targets[name].flatten()
        valid = target != -100
        index = torch.where(valid, target, 0)[:, None]
        true = cosine.gather(1, index)
        # Clamped away from 1, where the square root's slope is infinite.
        sine = (1.0 - true.square()).clamp(min=1e-7).sqrt()
        margined = true * math.cos(margin) - sine * math.sin(margin)
        # Past pi - margin the cosine would rise again: continue with a straight line.
        straight = true - math.sin(math.pi - margin) * margin
        margined = torch.where(true > math.cos(math.pi - margin), margined, straight)
        logits = scale * cosine.scatter(1, index, margined)
        return F.cross_entropy(logits, target, reduction="sum", ignore_index=-100)

    return Term(
        name=f"arcface_{name}", outputs=(name,), targets=(name,), weight=weight,
        log_variance=log_variance, sum=total, count=lambda targets: (targets[name] != -100).sum(),
    )  # fmt: skip
