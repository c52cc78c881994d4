"""Encoders with weights away from their initial values, and the transformers models they are compared to."""

import copy
from dataclasses import fields

import torch
from torch import nn
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from affect.models import pretrained, tiny
from affect.models.encoder import EncoderConfig, SpeechEncoder

KINDS = [name for name in tiny.NAMES if name != "small"]
WAVEFORM_KINDS = [name for name in KINDS if name != "tiny-whisper"]


def make(name: str, *, padded: bool = False, **options) -> tuple[SpeechEncoder, nn.Module]:
    """Return our encoder and an untouched copy of the transformers model it took over; `padded` as that pads."""
    config = EncoderConfig(name=name, **options)
    model, preprocessing = pretrained.read_encoder(name, None, config.dropout)
    with torch.no_grad():
        # Away from their initial values, so that a forgotten bias, gain or gate shows.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    original = copy.deepcopy(model)
    encoder = SpeechEncoder(config, model, preprocessing)
    if padded:
        # Whisper's 30 s, as the original has it.
        encoder.backbone.pad_to_window = True
    return encoder, original


def moved(config: EncoderConfig) -> SpeechEncoder:
    """Return an encoder with weights away from their initial values."""
    options = {field.name: getattr(config, field.name) for field in fields(config) if field.name != "name"}
    return make(config.name, **options)[0]


def speech(samples: list[int]) -> torch.Tensor:
    """Return noise with an offset, garbage beyond the valid samples included."""
    level = 0.2 + torch.rand(len(samples), 1)
    return torch.randn(len(samples), max(samples)) * level + 0.1


def extract(name: str, wave: torch.Tensor) -> torch.Tensor:
    _, normalised = tiny.architecture(name)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalised, return_attention_mask=True)
    return extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_values


def whisper_features(wave: torch.Tensor) -> torch.Tensor:
    extractor = WhisperFeatureExtractor()
    rows = [row.numpy() for row in wave]
    return extractor(rows, sampling_rate=16_000, return_tensors="pt").input_features


def adapters_of(encoder: SpeechEncoder) -> list[torch.nn.Parameter]:
    """Return the parameters of the LoRA adapters."""
    return [parameter for name, parameter in encoder.named_parameters() if "lora_" in name]
