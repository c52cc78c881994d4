"""Attention over streams: a weight each, from all of them, and the weighted sum of their hidden vectors.

Legend: B examples, S streams, H hidden width, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from affect.tasks.multimodal_emotion.config import Model, Signature
from affect.tasks.multimodal_emotion.models.fusion import Fusion, Heads, Hidden, Noise

MASKED = -1e9
"""The score of a stream that is not there: finite, so that a row without any has a gradient."""


def weigh(scores: Tensor, kept: Tensor, softmax: str) -> Tensor:
    """Return the weights [B, S] of streams from their `scores` [B, S], by the section's `score_softmax`.

    Masked, a stream whose `kept` [B, S] is 0 weighs exactly 0, and so do all where none is kept.
    """
    if softmax == "none":
        return scores
    if softmax == "masked":
        scores = torch.where(kept > 0, scores, MASKED)
        return torch.softmax(scores, dim=-1) * (kept > 0)
    return torch.softmax(scores, dim=-1)


class Attention(Fusion):
    """The public toolkit's attention over utterance features; with the configuration's switches the robust one.

    An MLP encoder a stream; the same kind of MLP over all of them side by side and a linear layer give a score a
    stream; the sum of the hidden vectors by their weights goes to the two heads (MERTools, `attention`; as `topn` over
    up to 18 streams, any number of them a modality, which modality dropout leaves out together).
    """

    def __init__(self, config: Model, data: Signature) -> None:
        super().__init__(config, data)
        streams, hidden = len(data.streams), config.hidden
        self.scorer = self.encoder("scorer", streams * hidden)
        self.score = nn.Linear(hidden, streams)
        if config.drops_fused:
            self.site("fused", hidden)
        self.heads = Heads(hidden, len(data.classes))

    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the heads' outputs, `attention` [B, S], and the modalities' own hidden vectors."""
        joined = self.drop(torch.cat(hidden.vectors, dim=-1), "scorer", noise)
        weights = weigh(self.score(self.scorer(joined)), kept, self.config.score_softmax)
        if self.config.rescale:
            weights = weights * kept.sum(-1, keepdim=True)
        fused = (torch.stack(hidden.vectors, dim=-2) * weights[..., None]).sum(-2)
        if self.config.drops_fused:
            fused = self.drop(fused, "fused", noise)
        return {**self.heads(fused), "attention": weights.float(), **hidden.outputs}
