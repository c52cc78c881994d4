"""Speech encoders of transformers: read from the hub or a folder, or built from a configuration alone.

transformers is imported where an encoder is read or built: its import takes longer than a small model's whole start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affect.errors import AffectError, nearest
from affect.models import tiny
from affect.models.reading import attempt, read_model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

KINDS = ("wavlm", "hubert", "wav2vec2", "whisper")
"""The kinds of encoders that are supported, as transformers names them."""
_MOST = 1_000_000
"""The highest rate in Hz, and the largest frame, that a feature extractor may name."""
DROPOUTS = (
    "hidden_dropout",
    "attention_dropout",
    "activation_dropout",
    "feat_proj_dropout",
    "dropout",
)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What the feature extractor of an encoder does: the rate in Hz, normalisation, Whisper's spectrogram."""

    sampling_rate: int = 16_000
    do_normalize: bool = False
    mel_bins: int = 80
    n_fft: int = 400
    hop_length: int = 160


def read_encoder(
    name: str, revision: str | None, dropout: float | None, attention_dropout: float | None = None
) -> tuple[Any, Preprocessing]:
    """Return transformers' model named on the hub, in a folder, or in `tiny.NAMES`, and its preprocessing.

    `dropout` replaces every dropout rate of the encoder, `attention_dropout` the one inside attention. Raises
    AffectError if there is no such encoder, or it is of a kind that is not supported.
    """
    if name in tiny.NAMES:
        config, normalised = tiny.architecture(name)
        preprocessing = Preprocessing(do_normalize=normalised)
        return build_encoder(with_dropout(config, dropout, attention_dropout)), preprocessing
    folder = Path(name).expanduser()
    if folder.is_dir():
        name = str(folder)
    elif name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise AffectError(
            f"encoder {name!r}: no such folder, and not a hub name (owner/model); {nearest(name, tiny.NAMES)}"
        )
    from transformers import AutoConfig, AutoModel

    where: dict[str, Any] = {"pretrained_model_name_or_path": name, "revision": revision}
    config = attempt(name, "config.json", AutoConfig.from_pretrained, **where)
    check_config(config, name)
    preprocessing = read_extractor(name, config, where)
    config = with_dropout(config, dropout, attention_dropout)
    whisper = config.model_type == "whisper"
    # float32, or weights that are stored as halves would be trained as halves.
    model = read_model(name, AutoModel, **where, config=config, spare=("decoder.",) if whisper else ())
    return (model.encoder if whisper else model), preprocessing


def read_extractor(name: str, config: PreTrainedConfig, where: dict[str, Any]) -> Preprocessing:
    """Return what `affect` needs to know of an encoder's feature extractor; raises AffectError where it fits not."""
    from transformers import AutoFeatureExtractor

    extractor = attempt(name, "preprocessor_config.json", AutoFeatureExtractor.from_pretrained, **where)
    facts = extractor.to_dict()
    fields = {"sampling_rate": "sampling_rate", "do_normalize": "do_normalize"}
    # The size of a frame: the one channel of a waveform, or Whisper's mel bins.
    size = 1
    if config.model_type == "whisper":
        fields = {"sampling_rate": "sampling_rate", "feature_size": "mel_bins", "n_fft": "n_fft"}
        fields |= {"hop_length": "hop_length"}
        size = config.num_mel_bins
    told = {ours: facts.get(theirs) for theirs, ours in fields.items()}
    fits = all(isinstance(value, bool) if field == "do_normalize" else _counts(value) for field, value in told.items())
    if not fits or facts.get("feature_size") != size:
        shown = ", ".join(f"{field} {facts.get(field)}" for field in sorted({*fields, "feature_size"}))
        raise AffectError(
            f"encoder {name!r}: its preprocessor_config.json ({type(extractor).__name__}: {shown}) is not of its "
            f"config.json ({config.model_type}, feature_size {size})"
        )
    return Preprocessing(**told)


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST


def build_encoder(config: PreTrainedConfig) -> Any:
    """Return a transformers encoder of `config` with random weights."""
    from transformers import HubertModel, Wav2Vec2Model, WavLMModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    models = {"wavlm": WavLMModel, "hubert": HubertModel, "wav2vec2": Wav2Vec2Model, "whisper": WhisperEncoder}
    return models[config.model_type](config)


def restore_config(facts: dict[str, Any]) -> PreTrainedConfig:
    """Return the transformers configuration written by `describe_config`; raises AffectError."""
    from transformers import HubertConfig, Wav2Vec2Config, WavLMConfig, WhisperConfig

    kind = str(facts.get("model_type"))
    if kind not in KINDS:
        raise AffectError(f"an encoder of kind {kind!r} is not supported; {nearest(kind, KINDS)}")
    kinds: tuple[type[PreTrainedConfig], ...] = (WavLMConfig, HubertConfig, Wav2Vec2Config, WhisperConfig)
    return next(one for one in kinds if one.model_type == kind).from_dict(dict(facts))


def describe_config(config: PreTrainedConfig) -> dict[str, Any]:
    """Return all fields of a transformers configuration as plain JSON values."""
    facts: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return facts


def with_dropout(
    config: PreTrainedConfig, dropout: float | None, attention_dropout: float | None = None
) -> PreTrainedConfig:
    """Set every dropout rate of `config` to `dropout`, that inside attention to its own, unless None, and return it."""
    for name in DROPOUTS:
        rate = attention_dropout if name == "attention_dropout" and attention_dropout is not None else dropout
        if rate is not None and hasattr(config, name):
            setattr(config, name, rate)
    return config


def check_config(config: PreTrainedConfig, name: str) -> None:
    """Raise AffectError if `config` is of a kind, or has a part, that is not supported."""
    if config.model_type not in KINDS:
        raise AffectError(
            f"encoder {name!r} is of kind {config.model_type!r}, which is not supported; "
            + nearest(config.model_type, KINDS)
        )
    for part in ("add_adapter", "conv_pos_batch_norm"):
        if getattr(config, part, False):
            raise AffectError(f"encoder {name!r} has {part}, which is not supported")
    kernels, strides = getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ())
    if not all(stride <= kernel <= 2 * stride for kernel, stride in zip(kernels, strides, strict=True)):
        raise AffectError(f"encoder {name!r} has a convolution whose kernel is not one to two strides long")
