"""What both kinds of models share: an extractor, a Conformer, learned weights of the loss, and their description.

Legend: B batch, S samples, T frames, N slots, K speakers, D channels, M mel bins.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from affect.config import to_dict
from affect.models.conformer import ConformerBlock
from affect.models.encoder import SpeechEncoder, backbone_parameters
from affect.models.slot_decoder import SlotDecoderLayer
from affect.tasks.diarization.config import Model, Signature
from affect.tasks.diarization.models.extractor import EncoderExtractor, build_extractor

Stage = Literal["learn", "features", "encode", "detect", "represent"]


class Diarizer(nn.Module):
    """A model whose stages are also taken one by one, as prediction does."""

    called_in_parts = True
    """A recording's windows each take several steps, so ranks call them unlike: no engine may share weights out."""

    def __init__(self, config: Model, data: Signature, encoder: SpeechEncoder | None = None) -> None:
        """Build the front; `encoder`, where not given, is the one that `config` names."""
        super().__init__()
        self.config, self.data = config, data
        self.extractor = build_extractor(config, encoder)
        self.blocks = nn.ModuleList(
            ConformerBlock(config.width, config.heads, config.hidden, config.kernel, config.dropout)
            for _ in range(config.encoder_layers)
        )
        self.log_s = nn.Parameter(torch.tensor(data.log_s)) if data.log_s else None

    def forward(self, *, stage: Stage = "learn", **given: Any) -> Any:
        """Return what a `stage` gives, by its arguments' names; `learn` takes a training batch and gives its outputs.

        Each goes through the module's call so that engines that gather weights there do.
        """
        return getattr(self, stage)(**given)

    def features(self, waveform: Tensor, samples: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return frames [B, T, D] and their mask [B, T] of `waveform` [B, S] at 16 kHz and `samples` [B] valid ones.

        `mean` [B, M] is that of mel bins; a block's own when not given. With model.norm=frame a frame depends on what
        is near it alone, and on the mean.
        """
        frames, mask = self.extractor(waveform, samples, mean)
        return frames, mask

    def encode(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the encoded frames [B, T, D] of `features` [B, T, D] and `mask` [B, T]."""
        for block in self.blocks:
            features = block(features, mask)
        return features

    @abstractmethod
    def detect(self, encoded: Tensor, mask: Tensor, slots: Tensor, embeddings: Tensor) -> Tensor:
        """Return logits of activity [B, N, T] (float32) of `slots` [B, N], whose speakers have `embeddings` [B, K, D].

        `encoded` [B, T, D] and `mask` [B, T] are frames.
        """

    @abstractmethod
    def represent(self, features: Tensor, mask: Tensor, activity: Tensor) -> Tensor:
        """Return an embedding of length 1 for each `activity` [B, N, T], which has probabilities or labels."""

    def describe(self) -> dict[str, Any]:
        """Return what `build` makes it of again, as JSON types."""
        encoder = self.extractor.encoder.to_config() if isinstance(self.extractor, EncoderExtractor) else None
        return {"model": to_dict(self.config), "data": to_dict(self.data), "encoder": encoder}

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of a pretrained encoder, none where there is none."""
        if not isinstance(self.extractor, EncoderExtractor):
            return []
        return [entry for entry in backbone_parameters(self.extractor.encoder) if entry.requires_grad]


def decoder_of(config: Model) -> nn.ModuleList:
    """Return the layers of a decoder of slots."""
    return nn.ModuleList(
        SlotDecoderLayer(config.width, config.heads, config.hidden, config.dropout)
        for _ in range(config.decoder_layers)
    )
