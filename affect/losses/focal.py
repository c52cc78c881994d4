"""The focal loss of logits (Lin et al. 2017), and what its outputs stand for.

It is no proper score: what minimises it is not the probability. At alpha .25 and gamma 2 an output of .5 stands for a
probability of .75. Legend: N examples.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.losses.masked import elementwise
from affect.task import Term


def focal(target: str, *, alpha: float = 0.25, gamma: float = 2.0, **facts: Any) -> Term:
    """Return the mean focal loss of logits over the labels (0 or 1) that are not NaN, of any shape [N, ...].

    `facts` are those of `masked.squared_error`.
    """
    return elementwise(partial(focal_loss, alpha=alpha, gamma=gamma), "focal", target, **facts)


def focal_loss(logits: Tensor, label: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the loss of each label, of the shape of `logits` and `label` (0 or 1)."""
    entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    # 1 - p of what is true, from the logit: as a difference it would round to 0, whose power has no gradient.
    wrong = torch.sigmoid(logits * (1 - 2 * label)).clamp(min=1e-12)
    return (alpha * label + (1 - alpha) * (1 - label)) * wrong**gamma * entropy


def posterior(logits: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return logits of the probability that logits stand for where the focal loss is least, of the same shape.

    Without gamma they are moved by logit(1 - alpha) = log((1 - alpha) / alpha).
    """
    return math.log((1 - alpha) / alpha) + _log_slope(-logits, gamma) - _log_slope(logits, gamma)


def threshold(alpha: float = 0.25, gamma: float = 2.0, probability: float = 0.5) -> float:
    """Return the output, in (0, 1), that stands for a probability."""
    wanted, low, high = math.log(probability / (1 - probability)), -30.0, 30.0
    for _ in range(60):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64)
        if float(posterior(middle, alpha=alpha, gamma=gamma)) < wanted:
            low = float(middle)
        else:
            high = float(middle)
    return 1 / (1 + math.exp(-low))


def _log_slope(x: Tensor, gamma: float) -> Tensor:
    """Return log of -d/dp [-(1 - p)^gamma log p] at p = sigmoid(`x`): how fast the loss falls as p rises."""
    x = x.clamp(-60, 60)
    # ((1 - p)^gamma / p) (1 - gamma p log p / (1 - p)), whose second factor is 1 + gamma e^x log(1 + e^-x).
    soft = F.softplus(-x)
    return gamma * F.logsigmoid(-x) + soft + torch.log1p(gamma * torch.exp(x) * soft)
