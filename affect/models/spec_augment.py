"""SpecAugment's random spans, drawn on the device from a number an example and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from affect.errors import AffectError


def require_seeds(seeds: Tensor | None) -> Tensor:
    """Return `seeds` [B] int64; raises AffectError where there are none."""
    if seeds is None:
        raise AffectError("spec_augment is on: training needs `seeds`, a number for each example")
    return seeds


def draw_spans(
    lengths: Tensor, size: int, *, probability: float, span: int, least: int, seeds: Tensor, stream: int
) -> Tensor:
    """Return a mask [B, size] of random spans of `span` steps inside the first `lengths` [B] steps.

    Each row gets floor(probability * length / span + u) spans, u uniform in [0, 1), at least `least`, at
    distinct places; spans may overlap, so `probability` bounds the share that is masked. A row depends on
    its own length, its number in `seeds` [B] int64 and on `stream` (which tells the masks of one example
    apart), not on the batch, the padding, the device or any generator. Source: SpecAugment (Park et al. 2019)
    as wav2vec 2.0 applies it.
    """
    keys = _scramble(seeds.to(lengths.device) + _wrap(_STREAM * (stream + 1)))
    # Number 0 of a row's sequence rounds its count, number t + 1 is the score of place t.
    counters = torch.arange(size + 1, device=lengths.device) * _wrap(_GOLDEN)
    numbers = _scramble(keys[:, None] + counters)
    uniform = _shift(numbers[:, 0], 40).float() * 2.0**-24
    places = (lengths - span + 1).clamp(min=0)
    wanted = (probability * lengths.float() / span + uniform).floor()
    wanted = torch.minimum(wanted.clamp(min=least), places)
    # Whole numbers of 62 bits: floats would tie, and ties fall differently on another device.
    scores = _shift(numbers[:, 1:], 2)
    scores = scores.masked_fill(torch.arange(size, device=lengths.device) >= places[:, None], _LARGEST)
    starts = scores.argsort(-1).argsort(-1) < wanted[:, None]
    total = starts.cumsum(-1)
    before = torch.nn.functional.pad(total, (span, 0))[:, :size]
    return total > before


_GOLDEN, _STREAM = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
_LARGEST = (1 << 63) - 1


def _wrap(number: int) -> int:
    """Return the int64 that has the last 64 bits of `number`."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(numbers: Tensor, bits: int) -> Tensor:
    """Shift int64 to the right, with zeros moving in whatever the sign."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _scramble(numbers: Tensor) -> Tensor:
    """Return int64 numbers scrambled by the last step of splitmix64 (Steele, Lea and Flood 2014)."""
    numbers = (numbers ^ _shift(numbers, 30)) * _wrap(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ _shift(numbers, 27)) * _wrap(0x94D049BB133111EB)
    return numbers ^ _shift(numbers, 31)
