"""SpecAugment's random spans, drawn on the device from a key an example and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from affect.keyed import fractions, scramble, sequence, shift, wrap

_STREAM = 0xD1342543DE82EF95
_LARGEST = (1 << 63) - 1


def draw_spans(
    lengths: Tensor, size: int, *, probability: float, span: int, least: int, keys: Tensor, stream: int
) -> Tensor:
    """Return a mask [B, size] of random spans of `span` steps inside the first `lengths` [B] steps.

    Each row gets floor(probability * length / span + u) spans, u uniform in [0, 1), at least `least`, at
    distinct places; spans may overlap, so `probability` bounds the share that is masked. A row depends on
    its own length, its key in `keys` [B] int64 and on `stream` (which tells the masks of one example
    apart), not on the batch, the padding, the device or any generator. Source: SpecAugment (Park et al. 2019)
    as wav2vec 2.0 applies it.
    """
    rows: Tensor = scramble(keys.to(lengths.device) + wrap(_STREAM * (stream + 1)))
    # Number 0 of a row's sequence rounds its count, number t + 1 is the score of place t.
    numbers = sequence(rows, size + 1)
    uniform = fractions(numbers[:, 0])
    places = (lengths - span + 1).clamp(min=0)
    wanted = (probability * lengths.float() / span + uniform).floor()
    wanted = torch.minimum(wanted.clamp(min=least), places)
    # Whole numbers of 62 bits: floats would tie, and ties fall differently on another device.
    scores: Tensor = shift(numbers[:, 1:], 2)
    scores = scores.masked_fill(torch.arange(size, device=lengths.device) >= places[:, None], _LARGEST)
    starts = scores.argsort(-1).argsort(-1) < wanted[:, None]
    total = starts.cumsum(-1)
    before = torch.nn.functional.pad(total, (span, 0))[:, :size]
    return total > before
