"""Waveforms to frames of features: a ResNet or convolutions over log-mel steps, or one of affect's speech encoders.

Legend: B batch, S samples, T frames, D channels, M mel bins.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.errors import AffectError
from affect.models.convolution import convolve
from affect.models.encoder import EncoderConfig, SpeechEncoder
from affect.models.layer_stack import mask_frames
from affect.models.mel import NormalisedMel, make_encoder
from affect.models.resnet import Norm, ResNet
from affect.tasks.diarization.config import SAMPLING_RATE, Model

_STEP = 160
"""Samples of a log-mel step."""


class StridedConvolutions(nn.Module):
    """Convolutions that halve the steps each, with a kernel of 4, norm and GELU."""

    def __init__(self, before: int, channels: int, count: int, norm: str) -> None:
        super().__init__()
        widths = [before] + [channels] * count
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 4, 2) for a, b in zip(widths, widths[1:], strict=False))
        self.norms = nn.ModuleList(Norm(channels, norm) for _ in range(count))

    def forward(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, T, C] of `x` [B, T * 2^count, M] and how many count [B], of `steps` [B]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            length, steps = x.shape[1] // 2, torch.div(steps + 1, 2, rounding_mode="floor")
            # Row n sees the steps 2n - 1 to 2n + 2; the last row has nothing of its own.
            x = convolve(F.pad(x, (0, 0, 1, 1)), cast(Tensor, conv.weight), cast(Tensor, conv.bias), 2)[:, :length]
            image = norm(x.transpose(1, 2)[..., None], steps)
            x = F.gelu(image[..., 0].transpose(1, 2)).masked_fill(~mask_frames(steps, length)[..., None], 0)
        return x, steps


class MelExtractor(nn.Module):
    """Log-mel steps, what makes features of them, and a layer that brings them to the model's width and rate."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.mel = NormalisedMel()
        self.multiple = config.frame // _STEP
        self.resnet: ResNet | None = None
        self.strided: StridedConvolutions | None = None
        if config.extractor == "resnet":
            self.resnet = ResNet(self.mel.width, config.channels, config.blocks, config.width, config.norm)
        else:
            halvings = self.multiple.bit_length() - 1
            self.strided = StridedConvolutions(self.mel.width, config.channels[-1], halvings, config.norm)
            self.output = nn.Linear(config.channels[-1], config.width)

    def forward(self, waveform: Tensor, samples: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return frames [B, T, D] and their mask [B, T] of `waveform` [B, S] and `samples` [B] valid samples.

        `mean` [B, M] is that of each bin's level; that of the block's own steps when not given.
        """
        frames = torch.div(samples + self.multiple * _STEP - 1, self.multiple * _STEP, rounding_mode="floor")
        length = max(1, -(-waveform.shape[1] // (self.multiple * _STEP)))
        if self.strided is not None:
            mel, steps = self.mel(waveform, samples, self.multiple, mean)
            x, _ = self.strided(mel, steps)
            features = self.output(x)
        else:
            assert self.resnet is not None
            # Its own steps are eight of the mel's.
            mel, steps = self.mel(waveform, samples, 8, mean)
            features, _ = self.resnet(mel, steps)
            features = features.repeat_interleave(8 // self.multiple, dim=1)[:, :length]
        return features, mask_frames(frames.clamp(min=1), length)


class EncoderExtractor(nn.Module):
    """A speech encoder of frames of 20 ms, the mean of those of each frame, and a layer to the model's width."""

    def __init__(self, config: Model, encoder: SpeechEncoder) -> None:
        super().__init__()
        if encoder.sampling_rate != SAMPLING_RATE:
            raise AffectError(f"model.extractor takes {encoder.sampling_rate} Hz, not {SAMPLING_RATE}")
        self.encoder = encoder
        self.frame = config.frame
        self.output = nn.Sequential(nn.LayerNorm(encoder.width), nn.Linear(encoder.width, config.width))

    def forward(self, waveform: Tensor, samples: Tensor, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what `MelExtractor` does; an encoder normalises by itself, whatever the `mean`."""
        states, there = self.encoder(waveform, samples)
        joined, length = self.frame // 320, max(1, -(-waveform.shape[1] // self.frame))
        # The encoder has no frame where its last window is not whole: a mean is of those that there are.
        short = (0, length * joined - states.shape[1])
        states = F.pad(states.masked_fill(~there[..., None], 0), (0, 0, *short))
        count = F.pad(there, short).view(-1, length, joined).sum(2)[..., None].clamp(min=1)
        frames = self.output(states.view(-1, length, joined, states.shape[-1]).sum(2) / count.to(states.dtype))
        mask = mask_frames(torch.div(samples + self.frame - 1, self.frame, rounding_mode="floor").clamp(min=1), length)
        return frames, mask


Extractor = MelExtractor | EncoderExtractor


def encoder_options(config: Model) -> EncoderConfig:
    """Return which speech encoder a section `model` names, and how it is used."""
    return EncoderConfig(name=config.extractor, train=config.train_encoder, layers=config.encoder_layer)


def build_extractor(config: Model, encoder: SpeechEncoder | None = None) -> Extractor:
    """Return the front end that `config` names; raises AffectError if it can't be had."""
    if config.extractor in ("resnet", "convolution"):
        return MelExtractor(config)
    return EncoderExtractor(config, encoder or make_encoder(encoder_options(config)))
