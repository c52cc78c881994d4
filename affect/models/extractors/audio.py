"""Speech to frames: the sum of an encoder's last hidden layers, as MER2023's features are made.

Legend: S samples, T frames of 20 ms, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.models.extractors.loading import check_layers, drawn_alike, frozen, located
from affect.models.tiny import NAMES


class AudioExtractor(nn.Module):
    """A frozen speech encoder (WavLM, HuBERT, wav2vec2, Whisper); recordings are padded and masked in batches.

    The last state is the one after the encoder's final norm, as in transformers 4, which MER2023's features were made
    with; transformers 5 leaves `hidden_states[-1]` of the large encoders before that norm.
    """

    def __init__(self, encoder: SpeechEncoder, layers: int, name: str) -> None:
        super().__init__()
        # The states are those before the first layer and after each one.
        check_layers(layers, len(encoder.backbone.layers), name)
        self.encoder = encoder
        self.layers = layers
        self.width: int = encoder.width
        self.rate = encoder.sampling_rate
        """The sampling rate in Hz that it takes."""
        self.facts = asdict(encoder.preprocessing)
        frozen(self)

    @classmethod
    def build(cls, name: str, revision: str | None, layers: int) -> AudioExtractor:
        """Read the encoder `name` (a hub name, a folder, or one of `tiny.NAMES`); raises AffectError."""
        if name not in NAMES:
            located(name, revision)
        config = EncoderConfig(name=name, revision=revision, train="none", layers="weighted")
        with drawn_alike():
            return cls(SpeechEncoder.build(config), layers, name)

    def cost(self, samples: NDArray[np.float32]) -> float:
        """Return the seconds of a recording [S]."""
        return len(samples) / self.rate

    @torch.inference_mode()
    def forward(self, recordings: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the frames [T, D] of each recording [S] at `rate` Hz."""
        device = next(self.parameters()).device
        waves = [torch.from_numpy(samples) for samples in recordings]
        lengths = torch.tensor([len(wave) for wave in waves], device=device)
        padded = nn.utils.rnn.pad_sequence(waves, batch_first=True).to(device)
        states, mask = self.encoder.states(padded, lengths)
        summed = torch.stack([state.float() for state in states[-self.layers :]]).sum(0).cpu().numpy()
        return [row[:count] for row, count in zip(summed, mask.sum(1).tolist(), strict=True)]
