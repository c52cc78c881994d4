"""A contrastive loss of speakers' embeddings from two views of them, against all other speakers of the global batch.

Legend: N examples of the global batch, K speakers of an example, D dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from affect.losses.alignment import info_nce
from affect.task import Outputs, Targets, Term


def speaker_contrastive(first: str, second: str, voices: str, *, temperature: float = 0.1, weight: float = 1.0) -> Term:
    """Return InfoNCE, both ways, between the outputs `first` and `second` [N, K, D].

    The target `voices` [N, K] is a number a voice, -100 where an embedding is missing. Other embeddings of the same
    voice are no negatives. Fewer than two different voices tell it nothing.
    """

    def value(outputs: Outputs, targets: Targets) -> Tensor:
        voice = targets[voices].flatten()
        valid = voice != -100
        views = (torch.where(valid[:, None], outputs[name].float().flatten(0, 1), 0.0) for name in (first, second))
        one, other = (F.normalize(view, dim=-1) for view in views)
        same = (voice[:, None] == voice) & ~torch.eye(len(voice), dtype=torch.bool, device=voice.device)
        # A finite number, as where a column is not valid.
        similarity = (one @ other.T / temperature).masked_fill(same, -1e9)
        return (info_nce(similarity, valid) + info_nce(similarity.T, valid)) / (2 * valid.sum().clamp(min=1))

    def defined(targets: Targets) -> Tensor:
        voice = targets[voices]
        valid = voice != -100
        low = torch.where(valid, voice, torch.iinfo(voice.dtype).max).min()
        return (valid & (voice != low)).any()

    return Term(
        name="speakers", outputs=(first, second), targets=(voices,), weight=weight, value=value, defined=defined
    )
