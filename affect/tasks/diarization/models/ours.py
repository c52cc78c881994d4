"""Ours: slots asked for by embeddings from another block of the conversation, activity as dot products with frames.

Any block's length, any number of slots, and no table of speakers: whom it can find is not limited to whom it has seen.
Slots in another order give the same in that order, and an empty one changes nothing.
Legend: B batch, S samples, T frames, N slots, K speakers, P pseudo-speakers, D channels, M mel bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.models.encoder import SpeechEncoder
from affect.task import LOG_VARIANCE
from affect.tasks.diarization.config import (
    ACTIVITY,
    EMBEDDING,
    EMPTY,
    NON_SPEAKER,
    PSEUDO,
    REFERENCE,
    SPEAKER,
    Model,
    Signature,
)
from affect.tasks.diarization.models.base import Diarizer, decoder_of

_SILENT = -20.0
"""The logit of an empty slot's activity."""
_SHARED = 1e-3
"""The weight of a frame in which others speak, too, beside one that is a speaker's own: 0 would leave those who are
never alone without an embedding."""
_SELDOM = -1.5
"""Where the bias of frames begins: about a fifth of slots and frames is active."""


class OursModel(Diarizer):
    """An extractor, a Conformer, a decoder of slots, and embeddings pooled over the frames of each speaker."""

    def __init__(self, config: Model, data: Signature, encoder: SpeechEncoder | None = None) -> None:
        """Build the model; `encoder`, where not given, is the one that `config` names."""
        super().__init__(config, data, encoder)
        width = config.width
        self.to_pool, self.to_embedding = nn.Linear(width, width), nn.Linear(2 * width, width)
        # One for all slots: what tells them apart is who they are for.
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.pseudo = nn.Parameter(torch.randn(config.pseudo, width))
        self.non_speaker = nn.Parameter(torch.randn(1, width)) if config.padding == "non" else None
        self.meaning = nn.Linear(width, width)
        self.layers = decoder_of(config)
        self.slots_norm = nn.LayerNorm(width)
        self.to_slot, self.to_frame = nn.Linear(width, width), nn.Linear(width, width)
        self.to_bias = nn.Linear(width, 1)
        nn.init.constant_(self.to_bias.bias, _SELDOM)
        self.table = nn.Parameter(torch.randn(data.speakers, width)) if data.speakers else None

    def learn(
        self, *, waveform: Tensor, samples: Tensor, spoken: Tensor, reference: Tensor, reference_samples: Tensor,
        reference_spoken: Tensor, slots: Tensor,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Return logits of activity [B, N, T], and of each speaker the embedding from both blocks [B, K, D].

        Of a block it takes `waveform` [B, S] at 16 kHz, `samples` [B] valid ones, who speaks when, `spoken` [B, K, T],
        and the same of another block of the conversation, the `reference`; `slots` [B, N] are whom each slot is for: a
        speaker by number, whose embedding is from there, or PSEUDO, NON_SPEAKER or EMPTY. One slot at least is not.
        """
        features, mask = self.features(waveform, samples)
        others, other_mask = self.features(reference, reference_samples)
        embeddings = self.represent(others, other_mask, reference_spoken)
        outputs = {
            ACTIVITY: self.detect(self.encode(features, mask), mask, slots, embeddings),
            EMBEDDING: self.represent(features, mask, spoken),
            REFERENCE: embeddings,
        }
        if self.table is not None:
            outputs[SPEAKER] = outputs[EMBEDDING] @ F.normalize(self.table, dim=-1).T
        if self.log_s is not None:
            outputs[LOG_VARIANCE] = self.log_s.expand(len(slots), -1)
        return outputs

    def represent(self, features: Tensor, mask: Tensor, activity: Tensor) -> Tensor:
        """Return an embedding of length 1 of each speaker [B, K, D] (float32).

        `activity` [B, K, T] are probabilities or labels. A frame counts by how sure it is a speaker's and nobody
        else's; one who is never active has an embedding that means nothing.
        """
        pooled = F.gelu(self.to_pool(features))
        # The variance is a small difference of large numbers.
        with torch.autocast(features.device.type, enabled=False):
            weights = own_frames(activity.float() * mask[:, None])
            shares = weights / weights.sum(-1, keepdim=True).clamp(min=_SHARED)
            frames = pooled.float().masked_fill(~mask[..., None], 0)
            mean, square = shares @ frames, shares @ frames.square()
            deviation = (square - mean.square()).clamp(min=1e-5).sqrt()
            vectors: Tensor = self.to_embedding(torch.cat([mean, deviation], dim=-1))
            return F.normalize(vectors, dim=-1)

    def detect(self, encoded: Tensor, mask: Tensor, slots: Tensor, embeddings: Tensor) -> Tensor:
        """Return logits of activity [B, N, T] (float32) of `slots` [B, N], whose speakers have `embeddings` [B, K, D].

        `encoded` [B, T, D] and `mask` [B, T] are frames; an empty slot is silent.
        """
        there = slots != EMPTY
        meaning: Tensor = self.meaning(self._vectors(slots, embeddings).to(encoded.dtype))
        states = self.query + meaning
        for layer in self.layers:
            states = layer(states, meaning, encoded, encoded, mask, there)
        states, frames = self.to_slot(self.slots_norm(states)), self.to_frame(encoded)
        products = states @ frames.transpose(1, 2) / math.sqrt(self.config.width)
        logits: Tensor = products.float() + self.to_bias(encoded).float().transpose(1, 2)
        return logits.masked_fill(~there[..., None], _SILENT)

    def _vectors(self, slots: Tensor, embeddings: Tensor) -> Tensor:
        """Return what stands for each slot [B, N, D], of numbers of about 1."""
        speakers = embeddings.shape[1]
        kinds: list[Tensor] = [self.pseudo] if self.non_speaker is None else [self.pseudo, self.non_speaker]
        learned = torch.cat(kinds).expand(len(slots), -1, -1)
        choices = torch.cat([embeddings * math.sqrt(self.config.width), learned], dim=1)
        place = torch.where(slots >= 0, slots, speakers + (PSEUDO - slots).clamp(min=0))
        place = torch.where(slots == NON_SPEAKER, speakers + self.config.pseudo, place)
        vectors: Tensor = choices.take_along_dim(place[..., None], 1)
        return vectors


def own_frames(activity: Tensor) -> Tensor:
    """Return how sure a frame is a speaker's and nobody else's [B, K, T], of `activity` [B, K, T] in [0, 1].

    It is p times the product of the others' 1 - p, of which none counts as less than a thousandth.
    """
    silent = (1 - activity).clamp(min=_SHARED).log()
    return activity * (silent.sum(1, keepdim=True) - silent).exp()
