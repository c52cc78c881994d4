"""SpecAugment's random spans, drawn on the device."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_spans(lengths: Tensor, size: int, *, probability: float, span: int, least: int) -> Tensor:
    """Return a mask [B, size] of random spans of `span` steps inside the first `lengths` [B] steps.

    Each row gets floor(probability * length / span + u) spans, u uniform in [0, 1), at least `least`, at
    distinct places; spans may overlap, so `probability` bounds the share that is masked. A row depends on
    its own length and the draw alone, not on how far the batch is padded. Source: SpecAugment (Park et al.
    2019) as wav2vec 2.0 applies it. Draws from torch's generator of the device of `lengths`.
    """
    device = lengths.device
    places = (lengths - span + 1).clamp(min=0)
    wanted = (probability * lengths / span + torch.rand(lengths.shape, device=device)).floor()
    wanted = torch.minimum(wanted.clamp(min=least), places)
    scores = torch.rand(len(lengths), size, device=device)
    scores = scores.masked_fill(torch.arange(size, device=device) >= places[:, None], 2.0)
    starts = scores.argsort(-1).argsort(-1) < wanted[:, None]
    total = starts.cumsum(-1)
    before = torch.nn.functional.pad(total, (span, 0))[:, :size]
    return total > before
