"""The reports' models, before and improved, with the causes of their failure as they were.

Speakers are rows of a table of the training speakers, and a linear layer gives a slot's activity over the whole block.
Legend: B batch, S samples, T frames of a block, N slots, K speakers, C training speakers, D channels, M mel bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.models.encoder import SpeechEncoder
from affect.task import LOG_VARIANCE
from affect.tasks.diarization.config import ACTIVITY, EMPTY, NON_SPEAKER, SPEAKER, Model, Signature
from affect.tasks.diarization.models.base import Diarizer, decoder_of


class ReportModel(Diarizer):
    """An extractor, a Conformer, a detection decoder with a linear head, and a representation decoder."""

    def __init__(self, config: Model, data: Signature, encoder: SpeechEncoder | None = None) -> None:
        """Build the model; `encoder`, where not given, is the one that `config` names."""
        super().__init__(config, data, encoder)
        width, frames = config.width, data.frames
        self.positions = nn.Parameter(0.02 * torch.randn(frames, width))
        self.table = nn.Parameter(torch.empty(data.speakers, width))
        self.pseudo, self.non_speaker = (nn.Parameter(torch.empty(1, width)) for _ in range(2))
        for vectors in (self.table, self.pseudo, self.non_speaker):
            # What Glorot's rule gives the table.
            nn.init.normal_(vectors, std=(2 / (data.speakers + width)) ** 0.5)
        self.detection, self.representation = decoder_of(config), decoder_of(config)
        self.head = nn.Linear(width, frames)
        self.from_activity = nn.Linear(1 if config.activity_query == "mean" else frames, width)
        # One a slot: what it knows of its number is no speaker's.
        learned = config.name == "improved"
        self.detection_query = nn.Parameter(torch.randn(config.slots, width)) if learned else None
        self.representation_query = nn.Parameter(torch.randn(config.slots, frames)) if learned else None

    def learn(
        self, *, waveform: Tensor, samples: Tensor, spoken: Tensor, speaker: Tensor, owner: Tensor, slots: Tensor
    ) -> dict[str, Tensor]:
        """Return logits of activity [B, N, T], and cosines of each slot's embedding with the table [B, N, C].

        Of a block it takes `waveform` [B, S] at 16 kHz, `samples` [B] valid ones, who speaks when, `spoken` [B, K, T],
        and which row of the table each is, `speaker` [B, K]. `slots` [B, N] are whom each slot is for, a speaker by
        number or PSEUDO, NON_SPEAKER or EMPTY, and `owner` [B, N] whose activity it bears, -1 for nobody's.
        """
        features, mask = self.features(waveform, samples)
        embeddings = self.table[speaker.clamp(min=0)]
        activity = spoken.take_along_dim(owner.clamp(min=0)[..., None], 1) * (owner >= 0)[..., None]
        vectors = self.represent(features, mask, activity)
        outputs = {
            ACTIVITY: self.detect(self.encode(features, mask), mask, slots, embeddings),
            SPEAKER: vectors @ F.normalize(self.table, dim=-1).T,
        }
        if self.log_s is not None:
            outputs[LOG_VARIANCE] = self.log_s.expand(len(slots), -1)
        return outputs

    def features(self, waveform: Tensor, samples: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what `Diarizer.features` does: a block is as long as the model is for, padded where it is shorter."""
        size = self.data.frames * self.config.frame
        return super().features(F.pad(waveform, (0, size - waveform.shape[1])), samples, mean)

    def detect(self, encoded: Tensor, mask: Tensor, slots: Tensor, embeddings: Tensor) -> Tensor:
        """Return what `Diarizer.detect` does, of model.slots slots at most."""
        count, speakers = slots.shape[1], embeddings.shape[1]
        learned = torch.cat([self.pseudo, self.non_speaker]).expand(len(slots), -1, -1)
        place = torch.where(slots >= 0, slots, speakers + (slots == NON_SPEAKER))
        vectors = torch.cat([embeddings, learned], dim=1).take_along_dim(place[..., None], 1)
        meaning = (vectors / self.config.embedding_divisor).to(encoded.dtype)
        query = torch.zeros_like(meaning)
        if self.detection_query is not None:
            query = query + self.detection_query[:count]
        states = self._decoded(self.detection, query, meaning, encoded, mask, slots != EMPTY)
        logits: Tensor = self.head(states)
        return logits.float()

    def represent(self, features: Tensor, mask: Tensor, activity: Tensor) -> Tensor:
        """Return an embedding of length 1 of each slot [B, N, D] (float32), by its `activity` [B, N, T]."""
        query = activity.to(features.dtype)
        if self.representation_query is not None:
            query = query + self.representation_query[: activity.shape[1]]
        if self.config.activity_query == "mean":
            query = query.mean(-1, keepdim=True)
        states = self.from_activity(query)
        there = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        decoded = self._decoded(self.representation, states, torch.zeros_like(states), features, mask, there)
        return F.normalize(decoded.float(), dim=-1)

    def _decoded(
        self, layers: nn.ModuleList, states: Tensor, meaning: Tensor, frames: Tensor, mask: Tensor, there: Tensor
    ) -> Tensor:
        for layer in layers:
            states = layer(states, meaning, frames + self.positions, frames, mask, there)
        return states
