"""A log-mel spectrogram in an encoder's place: nothing pretrained, nothing to learn, for models trained from scratch.

Legend: B batch, S samples, T frames of 20 ms (`NormalisedMel`: steps of 10 ms), M mel bins.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from affect.keyed import draw_keys
from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.models.layer_stack import mask_frames, masked_waveform
from affect.models.pretrained import Preprocessing
from affect.models.spec_augment import draw_spans
from affect.models.whisper_encoder import LogMel

NAME = "mel"
_BINS = 80
_FLOOR, _SCALE = 1e-7, 0.25
"""The least power that a level tells from silence, and by what levels are multiplied: they then vary by about 1."""
_TIME: Any = {"probability": 0.1, "span": 10, "least": 1}
_BANDS: Any = {"probability": 0.1, "span": 8, "least": 1}
"""SpecAugment's two kinds of spans: 200 ms of time, 8 neighbouring bins."""


class MelFrames(nn.Module):
    """Waveforms [B, S] -> log-mel frames [B, T, 2M], two steps of 10 ms side by side, on a scale of about -1 to 1."""

    def __init__(self, *, spec_augment: bool) -> None:
        super().__init__()
        self.width = 2 * _BINS
        self.spec_augment = spec_augment
        self.log_mel = LogMel(bins=_BINS, n_fft=400, hop=160, sampling_rate=16_000)

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return one state [B, T, 2M] and the mask of valid frames [B, T], at least one each."""
        wave = masked_waveform(waveform, samples)
        frame = 2 * self.log_mel.hop
        length = max(1, -(-wave.shape[1] // frame))
        frames = torch.div(samples + frame - 1, frame, rounding_mode="floor").clamp(min=1)
        # One step more than asked for, so that the last frame sees silence and not the edge.
        mel = self.log_mel(wave, 2 * length + 1)[..., : 2 * length]
        if self.spec_augment and self.training:
            mel = self._augment(mel, 2 * frames)
        states = mel.transpose(1, 2).reshape(len(wave), length, self.width)
        return [states], mask_frames(frames, length)

    def _augment(self, mel: Tensor, steps: Tensor) -> Tensor:
        keys = draw_keys(self, mel.shape[:1], mel.device)
        spans = draw_spans(steps, mel.shape[2], **_TIME, keys=keys, stream=0)
        bands = draw_spans(torch.full_like(steps, mel.shape[1]), mel.shape[1], **_BANDS, keys=keys, stream=1)
        return mel.masked_fill(spans[:, None], 0).masked_fill(bands[..., None], 0)


class NormalisedMel(nn.Module):
    """Waveforms [B, S] -> the log-mel power of steps of 10 ms [B, T, M], each bin less its mean; nothing to learn."""

    def __init__(self, bins: int = _BINS) -> None:
        super().__init__()
        self.width = bins
        self.log_mel = LogMel(bins=bins, n_fft=400, hop=160, sampling_rate=16_000)

    def levels(self, waveform: Tensor, samples: Tensor, multiple: int = 1) -> tuple[Tensor, Tensor]:
        """Return the levels [B, T, M] before the mean is taken away, 0 beyond those that count, and how many do [B].

        T and what counts are whole multiples of `multiple` steps: where samples end inside of them silence follows.
        """
        wave = masked_waveform(waveform, samples)
        size = multiple * self.log_mel.hop
        steps = multiple * torch.div(samples + size - 1, size, rounding_mode="floor").clamp(min=1)
        length = multiple * max(1, -(-wave.shape[1] // size))
        with torch.autocast(wave.device.type, enabled=False):
            # Row by row, so that what is written is still in a CPU's cache when it is read: a third of the time.
            rows = torch.split(wave, 1 if wave.device.type == "cpu" else max(1, len(wave)))
            levels = torch.cat([self._levels(part, length) for part in rows])
        return levels.masked_fill(~mask_frames(steps, length)[..., None], 0), steps

    def _levels(self, wave: Tensor, length: int) -> Tensor:
        # One step more than asked for, so that the last one sees silence and not the edge.
        spectrum = self.log_mel.spectrum(wave, length + 1)[..., :length].transpose(1, 2)
        # Not by `abs`, whose root takes as long as the transform.
        power = spectrum.real.square() + spectrum.imag.square()
        return _SCALE * (power @ cast(Tensor, self.log_mel.filters)).clamp(min=_FLOOR).log()

    def forward(
        self, waveform: Tensor, samples: Tensor, multiple: int = 1, mean: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `levels` does, less the `mean` [B, M], or less that of the steps that count."""
        levels, steps = self.levels(waveform, samples, multiple)
        if mean is None:
            mean = levels.sum(1) / steps[:, None]
        there = mask_frames(steps, levels.shape[1])[..., None]
        return torch.where(there, levels - mean[:, None], 0.0), steps


class MelEncoder(SpeechEncoder):
    """Log-mel frames under the interface of a speech encoder; it has no parameters."""

    def __init__(self, config: EncoderConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.architecture = {"model_type": NAME}
        self.preprocessing = Preprocessing()
        self.layer_class = MelFrames.__name__
        frames = MelFrames(spec_augment=config.spec_augment)
        # Has the interface of the two kinds of pretrained backbones, and none of their classes.
        self.backbone = cast(Any, frames)
        self.width = frames.width
        self.layer_weights = None


def make_encoder(config: EncoderConfig) -> SpeechEncoder:
    """Return the encoder that `config` names; raises AffectError if it can't be had."""
    return MelEncoder(config) if config.name == NAME else SpeechEncoder.build(config)


def restore_encoder(config: EncoderConfig, facts: dict[str, Any]) -> SpeechEncoder:
    """Return the encoder that `SpeechEncoder.to_config` described, with random weights and without the Hub."""
    return MelEncoder(config) if config.name == NAME else SpeechEncoder.restore(config, facts)
