"""Modality dropout: whole modalities are left out while training, so that a model learns to do without them.

Legend: B examples, M modalities of the model (at most three).

A draw is one of six numbers, or `NONE`. Each stands for a set of modalities that stay, by what is there: of three one
of the six non-empty incomplete subsets, of two either alone, each as often; one alone stays. So each modality stays
with probability 1/2 in an example of two or three, and something that is present always stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

CHOICES = 6
"""Numbers of a draw; a multiple of the incomplete subsets of two modalities and of three."""

NONE = CHOICES
"""The draw that leaves nothing out."""


def effective(p: float, warmup: int, epoch: int) -> float:
    """Return the probability in force: 0 before epoch `warmup`, then a ramp to the full `p` at twice `warmup`.

    Without a warm-up it is `p` from the first epoch (epochs count from 0).
    """
    if warmup == 0:
        return p
    return p * min(1.0, max(0.0, (epoch - warmup) / warmup))


def kept_sets(modalities: int, patterns: Sequence[Sequence[bool]] = ()) -> Tensor:
    """Return what stays [2^M, choices + 1, M] (1 or 0) of each set of present modalities, for each draw.

    A set's index is the sum of 2^m over its modalities m. With `patterns` [choices, M] a draw leaves what is in one of
    them, or all that is there where that would be nothing; the last choice leaves out nothing.
    """
    table = []
    for index in range(2**modalities):
        whole = [index >> place & 1 for place in range(modalities)]
        if patterns:
            left = [[bit * int(stays) for bit, stays in zip(whole, pattern, strict=True)] for pattern in patterns]
            drawn = [part if any(part) else whole for part in left]
        else:
            subsets = [list(part) for part in product(*(range(bit + 1) for bit in whole)) if any(part)]
            # The last is the whole set, which stays where there is no other.
            subsets = subsets[:-1] or [whole]
            drawn = [subsets[choice % len(subsets)] for choice in range(CHOICES)]
        table.append([*drawn, whole])
    return torch.tensor(table).float()


def draw(uniform: Tensor, probability: float, shares: Sequence[float] = ()) -> Tensor:
    """Return a draw an example [B] (int64): with `probability` one of the six numbers, each alike, else `NONE`.

    With `shares` it is one of as many numbers, each as often as its share, else their count. `uniform` [B, 2] are
    numbers in [0, 1) that decide both.
    """
    ends = torch.tensor(shares or [1.0] * CHOICES, dtype=torch.float64, device=uniform.device).cumsum(0)
    choice = torch.searchsorted(ends / ends[-1], uniform[:, 0].double().contiguous(), right=True)
    return torch.where(uniform[:, 1] < probability, choice, len(ends))


def keep(table: Tensor, choice: Tensor, present: Tensor) -> Tensor:
    """Return what stays [B, M] (1 or 0) of `present` [B, M] for draws [B], by the table of `kept_sets`."""
    places = 2 ** torch.arange(present.shape[-1], device=present.device)
    index = ((present > 0) * places).sum(-1)
    return table[index, choice]
