"""The speech branch: a waveform, or a frozen encoder's cached states, to one vector an utterance.

Legend: U utterances, S samples, L layers, T frames, D channels, P and E channels of prosody and speaker.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.models.dialogue import TemporalMamba
from affect.models.encoder import SpeechEncoder, by_length
from affect.models.fusion import FiLM, ProsodyAttention
from affect.models.layer_stack import mask_frames
from affect.models.pooling import build_pooling
from affect.models.speaker import XVector
from affect.tasks.emotion.config import Model, Signature

_MOST = 60
"""Seconds of padded audio that the utterances of a dialogue are encoded by: a whole dialogue can be minutes."""


class SpeechBranch(nn.Module):
    """Encoder, Mamba over frames, pooling, speaker modulation and the prosody's attention, as configured."""

    INPUTS = ("waveform", "samples", "states", "frames", "speaker", "seeds")
    """What it takes of a batch; the prosody branch's output comes beside."""
    by_row = True
    """Whether the utterances of dialogues may be encoded in several calls, see `ConvStack.by_row`."""

    def __init__(self, config: Model, data: Signature, encoder: SpeechEncoder, xvector: XVector | None = None) -> None:
        """Build the branch around `encoder`; `xvector`, where not given, is the one that `config` names."""
        super().__init__()
        self.encoder = encoder
        if config.lora:
            # Imported here: peft takes a second, which a run without adapters need not wait for.
            from affect.models.lora import add_lora

            add_lora(self.encoder, config.lora)
        channels = self.encoder.width
        self.temporal: TemporalMamba | None = None
        if config.temporal != "none":
            self.temporal = TemporalMamba(
                channels, width=config.mamba_dim, layers=config.mamba_layers, dropout=config.dropout
            )
            channels = config.mamba_dim
        self.pooling = build_pooling(config.pooling, channels)
        self.width = self.pooling.width
        self.xvector: XVector | None = None
        self.film: FiLM | None = None
        if config.speaker != "none":
            if config.speaker != "embedding":
                self.xvector = xvector if xvector is not None else XVector.build(config.speaker)
            self.film = FiLM(self.width, self.xvector.width if self.xvector is not None else data.speaker_features)
        self.attention: ProsodyAttention | None = None
        if config.prosody_attention:
            self.attention = ProsodyAttention(
                config.prosody_dim, channels, config.mamba_dim, heads=config.prosody_attention
            )
            self.width += config.mamba_dim

    @property
    def pooled(self) -> bool:
        """Whether nothing but the mean over frames of the encoder's states is needed."""
        return self.temporal is None and self.attention is None and self.pooling.is_mean

    def forward(self, heard: dict[str, Tensor], turns: Tensor | None = None) -> Tensor:
        """Return [U, D] of `waveform` [U, S] and `samples` [U], or `states` [U, L, T, D] and `frames` [U].

        `heard` may also hold `speaker` [U, E], `rhythm` [U, P] (the prosody branch's) and `seeds` [U]. Utterances of
        dialogues (`turns` given) are encoded in groups of similar length, and a few at a time, unless ranks must call
        alike: all at once then, padded to the longest.
        """
        lengths = heard.get("frames", heard.get("samples"))
        if lengths is None or not ("states" in heard or "waveform" in heard):
            raise AffectError("this model takes audio: waveform and samples are missing")
        if turns is None or not self.by_row:
            return self._encode(heard)
        seconds = lengths / (self.encoder.sampling_rate if "samples" in heard else 50)
        groups = by_length(seconds, _MOST)
        parts = [self._encode({name: value[group] for name, value in heard.items()}) for group in groups]
        return torch.cat(parts)[torch.cat(groups).argsort()]

    def _encode(self, heard: dict[str, Tensor]) -> Tensor:
        frames, mask = self._frames(heard)
        if self.temporal is not None:
            frames = self.temporal(frames)
        vector: Tensor = self.pooling(frames, mask)
        if self.film is not None:
            vector = self.film(vector, self._speaker(heard).to(vector.dtype))
        if self.attention is None:
            return vector
        attended = self.attention(heard["rhythm"].to(frames.dtype), frames, mask)
        return torch.cat([vector, attended.to(vector.dtype)], dim=-1)

    def _frames(self, heard: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if "states" in heard:
            longest = int(heard["frames"].max())
            states = heard["states"][:, :, :longest]
            return self.encoder.mix(states.unbind(1)), mask_frames(heard["frames"], longest)
        waveform = heard["waveform"]
        if not torch.compiler.is_exporting():  # A graph's shapes may not follow from the values of its inputs.
            waveform = waveform[:, : int(heard["samples"].max())]
        frames, mask = self.encoder(waveform, heard["samples"], heard.get("seeds"))
        return frames, mask

    def _speaker(self, heard: dict[str, Tensor]) -> Tensor:
        if "speaker" in heard:
            return heard["speaker"]
        if self.xvector is None:
            raise AffectError("this model takes speaker embeddings: they are missing")
        found: Tensor = self.xvector(heard["waveform"], heard["samples"])
        return found
