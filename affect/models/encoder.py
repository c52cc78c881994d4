"""The speech encoder of a model: which one, which of its layers, and which of its parts learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from affect.errors import AffectError
from affect.frozen import once
from affect.keyed import recomputation
from affect.models import pretrained
from affect.models.pretrained import Preprocessing
from affect.models.waveform_encoder import WaveformEncoder
from affect.models.whisper_encoder import LogMel, WhisperFrames


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which speech encoder, and how it is used; a recipe's section names and checks these fields.

    `name` is a hub name (owner/model), a folder, or one of `tiny.NAMES` (random weights). `train`: `all`;
    `transformer`, with the convolutional part frozen; `none`, frozen and always in evaluation mode. `layers`:
    `last`, the number of a layer (1 the first; negative from the end; the layers above it are dropped), or
    `weighted` (a learned softmax-weighted sum of all hidden states). `dropout` replaces the encoder's own
    rates unless None, and `attention_dropout` the one inside attention. `layerdrop` replaces the encoder's own
    rate. `spec_augment` turns on the encoder's own masking while training.
    """

    name: str = "tiny"
    revision: str | None = None
    train: Literal["all", "transformer", "none"] = "transformer"
    layers: Literal["last", "weighted"] | int = "last"
    gradient_checkpointing: bool = False
    dropout: float | None = None
    attention_dropout: float | None = None
    layerdrop: float = 0.0
    spec_augment: bool = False


class SpeechEncoder(nn.Module):
    """A speech encoder of transformers, whose output for an utterance does not depend on its micro-batch."""

    def __init__(self, config: EncoderConfig, model: Any, preprocessing: Preprocessing) -> None:
        """Take over `model`, a WavLMModel, HubertModel, Wav2Vec2Model or WhisperEncoder."""
        super().__init__()
        pretrained.check_config(model.config, config.name)
        self.config = config
        self.architecture = pretrained.describe_config(model.config)
        self.preprocessing = preprocessing
        if config.gradient_checkpointing and config.train != "none" and not _is_whisper(model):
            _checkpoint(model)
        depth = _depth(config, model)
        self.backbone = _backbone(config, model, preprocessing, depth)
        self.layer_class = type(self.backbone.layers[0]).__name__
        """The class of the transformer layers, for engines that wrap by class name."""
        self.width: int = self.backbone.width
        self.layer_weights: nn.Parameter | None = None
        if config.layers == "weighted":
            self.layer_weights = nn.Parameter(torch.zeros(depth + 1))
        if config.train == "none":
            self.backbone.requires_grad_(False)
        self.train(True)

    @classmethod
    def build(cls, config: EncoderConfig) -> SpeechEncoder:
        """Read or make the encoder that `config` names; raises AffectError if it can't be had."""
        model, preprocessing = pretrained.read_encoder(
            config.name, config.revision, config.dropout, config.attention_dropout
        )
        return cls(config, model, preprocessing)

    @classmethod
    def restore(cls, config: EncoderConfig, facts: dict[str, Any]) -> SpeechEncoder:
        """Rebuild the encoder that `to_config` described, with random weights and without the hub."""
        model = pretrained.build_encoder(pretrained.restore_config(facts["architecture"]))
        return cls(config, model, Preprocessing(**facts["preprocessing"]))

    def to_config(self) -> dict[str, Any]:
        """Return what `restore` needs beside the options, as plain JSON values."""
        return {"architecture": self.architecture, "preprocessing": asdict(self.preprocessing)}

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the waveforms it takes."""
        return self.preprocessing.sampling_rate

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.config.train == "none":
            self.backbone.eval()
        return self

    def forward(self, waveform: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames [B, T, D] and their mask [B, T] (True where valid, at least one each).

        `waveform` [B, S] at `sampling_rate`, `samples` [B] valid samples; what lies beyond is ignored.
        B batch, S samples, T frames of 20 ms, D channels.
        """
        states, mask = self.states(waveform, samples)
        return self.mix(states), mask

    def states(self, waveform: Tensor, samples: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the states [B, T, D] that `mix` reads (the last one, or all that are weighted) and the mask [B, T]."""
        if self.config.train == "none":
            with torch.no_grad():
                states, mask = once(self, lambda: self.backbone(waveform, samples))
        else:
            states, mask = self.backbone(waveform, samples)
        return (states if self.layer_weights is not None else states[-1:]), mask

    def mix(self, states: Sequence[Tensor]) -> Tensor:
        """Return one tensor of the shape of each of `states`: their sum weighted by the learned layer weights."""
        if self.layer_weights is None:
            return states[-1]
        shares = self.layer_weights.softmax(0)
        total = shares[0] * states[0]
        for share, state in zip(shares[1:], states[1:], strict=True):
            total = total + share * state
        return total


def _checkpoint(model: Any) -> None:
    how = {"use_reentrant": False, "context_fn": recomputation}
    # transformers 5.23 renamed the method and its argument, and warns of the old name.
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


def _is_whisper(model: Any) -> bool:
    return bool(model.config.model_type == "whisper")


def _depth(config: EncoderConfig, model: Any) -> int:
    total = len(model.layers if _is_whisper(model) else model.encoder.layers)
    if isinstance(config.layers, str):
        return total
    depth = config.layers + total + 1 if config.layers < 0 else config.layers
    if not 1 <= depth <= total:
        raise AffectError(
            f"encoder.layers is {config.layers}, but {config.name!r} has the layers 1 to {total} (or -{total} to -1)"
        )
    return depth


def _backbone(
    config: EncoderConfig, model: Any, preprocessing: Preprocessing, depth: int
) -> WaveformEncoder | WhisperFrames:
    facts = model.config
    if config.spec_augment and not (facts.mask_time_prob > 0 or facts.mask_feature_prob > 0):
        raise AffectError(f"spec_augment is on, but {config.name!r} has mask_time_prob 0 and mask_feature_prob 0")
    frozen = config.train != "all"
    if not _is_whisper(model):
        return WaveformEncoder(
            model,
            depth=depth,
            unit_variance=preprocessing.do_normalize,
            freeze_convolution=frozen,
            layerdrop=config.layerdrop,
            spec_augment=config.spec_augment,
            checkpointed=config.gradient_checkpointing,
        )
    log_mel = LogMel(
        bins=preprocessing.mel_bins,
        n_fft=preprocessing.n_fft,
        hop=preprocessing.hop_length,
        sampling_rate=preprocessing.sampling_rate,
    )
    return WhisperFrames(
        model,
        depth=depth,
        log_mel=log_mel,
        freeze_convolution=frozen,
        layerdrop=config.layerdrop,
        spec_augment=config.spec_augment,
        checkpointed=config.gradient_checkpointing and config.train != "none",
    )


def backbone_parameters(encoder: SpeechEncoder) -> list[nn.Parameter]:
    """Return the parameters taken over from the pretrained model (the layer weights are not of them)."""
    return list(cast(nn.Module, encoder.backbone).parameters())


def by_length(lengths: Tensor, most: float) -> list[Tensor]:
    """Return groups of indices into `lengths` [U], longest first: padded within `most`, a fifth of it at most waste.

    The groups are made by the host, which has to have the lengths.

    An index whose length is over `most` is a group of its own.
    """
    order = lengths.argsort(descending=True, stable=True)
    groups: list[list[int]] = []
    longest = 0.0
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if groups and length >= 0.8 * longest and (len(groups[-1]) + 1) * longest <= most:
            groups[-1].append(index)
        else:
            groups.append([index])
            longest = length
    return [torch.tensor(group) for group in groups]
