"""Modality dropout: whole modalities are left out while training, so that a model learns to do without them.

Legend: B examples, M modalities of the model (at most three).

A draw is one of six numbers, or `NONE`. Each stands for a set of modalities that stay, by what is there:

- of three modalities, the six non-empty incomplete subsets, each with probability 1/6;
- of two, either alone, each with probability 1/2;
- one alone stays: there is nothing to leave out.

So a modality that is left out of a draw's reach is never missed, each stays with probability 1/2 in an example of two
or three, and something that is present always stays.
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
    choices = len(patterns) or CHOICES
    table = torch.zeros(2**modalities, choices + 1, modalities)
    for bits in product((0, 1), repeat=modalities):
        index = sum(bit << place for place, bit in enumerate(bits))
        subsets = [s for s in product((0, 1), repeat=modalities) if any(s) and s != bits and _within(s, bits)]
        for choice in range(choices):
            if patterns:
                left = [bit * int(stays) for bit, stays in zip(bits, patterns[choice], strict=True)]
                table[index, choice] = torch.tensor(left if any(left) else bits).float()
            else:
                table[index, choice] = torch.tensor(subsets[choice % len(subsets)] if subsets else bits).float()
        table[index, choices] = torch.tensor(bits).float()
    return table


def draw(rows: int, probability: float, shares: Sequence[float] = ()) -> Tensor:
    """Return a draw an example [B] (int64): with `probability` one of the six numbers, each alike, else `NONE`.

    With `shares` it is one of as many numbers, each as often as its share, else their count.
    """
    if shares:
        choice = torch.multinomial(torch.tensor(shares), rows, replacement=True)
    else:
        choice = torch.randint(CHOICES, (rows,))
    return torch.where(torch.rand(rows) < probability, choice, len(shares) or NONE)


def keep(table: Tensor, choice: Tensor, present: Tensor) -> Tensor:
    """Return what stays [B, M] (1 or 0) of `present` [B, M] for draws [B], by the table of `kept_sets`."""
    places = 2 ** torch.arange(present.shape[-1], device=present.device)
    index = ((present > 0) * places).sum(-1)
    return table[index, choice]


def _within(subset: tuple[int, ...], bits: tuple[int, ...]) -> bool:
    return all(one <= other for one, other in zip(subset, bits, strict=True))
