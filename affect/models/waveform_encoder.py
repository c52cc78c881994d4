"""WavLM, HuBERT and wav2vec2 (XLSR): a padded waveform in, hidden states out, as if each were alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from affect.keyed import draw_keys
from affect.models.attention import use_keyed_attention
from affect.models.convolution import ConvStack, PositionalConvolution
from affect.models.dropout import replace_dropout
from affect.models.layer_stack import additive_mask, mask_frames, masked_waveform, run_layers
from affect.models.spec_augment import draw_spans
from affect.models.wavlm import GatedAttention


def normalise_waveform(waveform: Tensor, samples: Tensor, *, unit_variance: bool) -> Tensor:
    """Return `waveform` [B, S] with zeros beyond `samples` [B], in float32.

    With `unit_variance` the valid samples first get mean 0 and variance 1 (epsilon 1e-7), as transformers'
    `Wav2Vec2FeatureExtractor` does with `do_normalize`.
    """
    wave = masked_waveform(waveform, samples)
    if not unit_variance:
        return wave
    count = samples.clamp(min=1)[:, None]
    padding = ~mask_frames(samples, waveform.shape[1])
    centred = (wave - wave.sum(1, keepdim=True) / count).masked_fill(padding, 0)
    variance = centred.square().sum(1, keepdim=True) / count
    return centred * torch.rsqrt(variance + 1e-7)


class WaveformEncoder(nn.Module):
    """transformers' WavLMModel, HubertModel or Wav2Vec2Model with masks that hold for every one of them.

    One unpadded utterance gives transformers' own output. In a padded batch each utterance gives that same
    output, for the group-norm encoders (wavlm-base, hubert-base, wav2vec2-base) too, which transformers can
    only run unmasked: their GroupNorm takes valid frames only, padding is zero before the positional
    convolution, and attention never sees it.

    It takes over the modules of `model`, which is of no use afterwards. `depth` layers are kept, and the
    norm after the last one only if all are.
    """

    def __init__(
        self,
        model: Any,
        *,
        depth: int,
        unit_variance: bool,
        freeze_convolution: bool,
        layerdrop: float,
        spec_augment: bool,
        checkpointed: bool,
    ) -> None:
        super().__init__()
        config = model.config
        encoder = model.encoder
        self.width: int = config.hidden_size
        self.unit_variance = unit_variance
        self.layerdrop = layerdrop
        self.spec_augment = spec_augment
        self.gated = config.model_type == "wavlm"
        self.stable: bool = config.do_stable_layer_norm
        self.time_masks = (config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks)
        self.feature_masks = (
            config.mask_feature_prob,
            config.mask_feature_length,
            getattr(config, "mask_feature_min_masks", 0),
        )
        self.convolution = ConvStack(model.feature_extractor, frozen=freeze_convolution, checkpointed=checkpointed)
        self.feature_projection = model.feature_projection
        self.pos_conv_embed = PositionalConvolution(encoder.pos_conv_embed)
        self.dropout = encoder.dropout
        self.layers = nn.ModuleList(list(encoder.layers)[:depth])
        whole = depth == len(encoder.layers)
        self.layer_norm = encoder.layer_norm if whole or not self.stable else None
        self.masked_spec_embed: nn.Parameter | None = getattr(model, "masked_spec_embed", None)
        if self.masked_spec_embed is not None:
            used = spec_augment and config.mask_time_prob > 0
            self.masked_spec_embed.requires_grad_(used)
        if self.gated:
            for layer in self.layers:
                layer.attention = GatedAttention(layer.attention)
        else:
            use_keyed_attention(model)
        replace_dropout(self)

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the hidden states, first to last, each [B, T, D], and the mask of valid frames [B, T].

        `waveform` [B, S] at 16 kHz, `samples` [B] valid samples. An utterance shorter than the first frame's
        receptive field (400 samples, 25 ms) is padded with silence to one frame. The last state is after the
        encoder's final norm, where it has one.
        """
        wave = normalise_waveform(waveform, samples, unit_variance=self.unit_variance)
        features, frames = self.convolution(wave, samples)
        projected = self.feature_projection(features)
        hidden = projected[0] if isinstance(projected, tuple) else projected
        mask = mask_frames(frames, hidden.shape[1])
        if self.spec_augment and self.training:
            hidden = self.augment(hidden, frames)
        hidden = hidden.masked_fill(~mask[..., None], 0)
        hidden = hidden + self.pos_conv_embed(hidden)
        if not self.stable and self.layer_norm is not None:
            hidden = self.layer_norm(hidden)
        states = self.run(self.dropout(hidden), additive_mask(mask, hidden.dtype))
        if self.stable and self.layer_norm is not None:
            states[-1] = self.layer_norm(states[-1])
        return states, mask

    def run(self, hidden: Tensor, mask: Tensor) -> list[Tensor]:
        """Return the states [B, T, D] before the first layer and after each one."""
        position_bias: Tensor | None = None

        def call(layer: nn.Module, hidden: Tensor) -> Tensor:
            nonlocal position_bias
            if not self.gated:
                output: Tensor = layer(hidden, attention_mask=mask)
                return output
            output, position_bias = layer(hidden, attention_mask=mask, position_bias=position_bias)
            return output

        return run_layers(self.layers, hidden, call, layerdrop=self.layerdrop, training=self.training)

    def augment(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Return `hidden` [B, T, D] with SpecAugment's spans of time and of channels masked."""
        keys = draw_keys(self, hidden.shape[:1], hidden.device)
        probability, span, least = self.time_masks
        if probability > 0 and self.masked_spec_embed is not None:
            spans = draw_spans(
                frames, hidden.shape[1], probability=probability, span=span, least=least, keys=keys, stream=0
            )
            hidden = torch.where(spans[..., None], self.masked_spec_embed.to(hidden.dtype), hidden)
        probability, span, least = self.feature_masks
        if probability > 0:
            channels = torch.full_like(frames, self.width)
            spans = draw_spans(
                channels, self.width, probability=probability, span=span, least=least, keys=keys, stream=1
            )
            hidden = hidden.masked_fill(spans[:, None], 0)
        return hidden
