"""The order of pairs as a term: a statistic of the whole batch.

Source: Wen and Wang 2021, A strong baseline for image and video quality assessment. Legend: N examples of the global
batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from affect.losses.ccc import statistic
from affect.task import Term


def pairwise_rank(prediction: Tensor, target: Tensor) -> Tensor:
    """Return by how much predictions [N] of two examples are too close, or the wrong way round [].

    Of a pair whose targets [N] (NaN: missing) differ by d this is max(0, d - difference of the predictions in the
    targets' order), in their unit; the mean is over such pairs, 0 with a gradient of 0 without any.
    """
    valid = torch.isfinite(target)
    # What is missing is replaced before it is subtracted, else a NaN would reach the gradient.
    x, y = (torch.where(valid, values.float(), 0.0) for values in (prediction, target))
    apart = y[:, None] - y[None, :]
    # Each pair once, with the higher target first.
    pairs = valid[:, None] & valid[None, :] & (apart > 0)
    short = torch.relu(apart - (x[:, None] - x[None, :]))
    return torch.where(pairs, short, 0.0).sum() / pairs.sum().clamp(min=1)


def rank_term(target: str, *, weight: float = 1.0, log_variance: int | None = None) -> Term:
    """Return `pairwise_rank` of the output `target` [N]; fewer than two labels, or equal ones, tell it nothing."""
    return statistic("rank", target, pairwise_rank, weight=weight, log_variance=log_variance)
