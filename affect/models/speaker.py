"""A speaker embedding from the waveform: transformers' x-vector models, frozen.

Snyder et al. 2018, "X-Vectors: Robust DNN Embeddings for Speaker Recognition". Legend: B batch, S samples, T frames,
D channels, E numbers of the embedding.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affect.errors import AffectError, nearest
from affect.frozen import once
from affect.models import pretrained, tiny
from affect.models.layer_stack import mask_frames
from affect.models.pretrained import Preprocessing
from affect.models.reading import attempt, read_model
from affect.models.waveform_encoder import WaveformEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

TINY = "tiny-xvector"
"""The name of a small model with random weights, for tests and demos."""

MODELS = {"wavlm": "WavLMForXVector", "wav2vec2": "Wav2Vec2ForXVector"}
"""transformers' classes by the kind of their encoder."""


class XVector(nn.Module):
    """A frozen x-vector model, always in evaluation mode: padded waveforms in, unit vectors out.

    An embedding does not depend on the micro-batch: the encoder is `WaveformEncoder`, and the mean and deviation over
    time take only frames that saw no padding. (transformers counts those frames without the layers' dilation, so its
    own batches differ from its single utterances.)
    """

    def __init__(self, model: Any, preprocessing: Preprocessing) -> None:
        """Take over `model`, a WavLMForXVector or Wav2Vec2ForXVector, which is of no use afterwards."""
        super().__init__()
        config = model.config
        self.architecture = pretrained.describe_config(config)
        self.preprocessing = preprocessing
        self.width: int = config.xvector_output_dim
        self.lost_frames = sum((k - 1) * d for k, d in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True))
        self.backbone = WaveformEncoder(
            model.base_model,
            depth=config.num_hidden_layers,
            unit_variance=preprocessing.do_normalize,
            freeze_convolution=True,
            layerdrop=0.0,
            spec_augment=False,
            checkpointed=False,
        )
        self.layer_weights: nn.Parameter | None = getattr(model, "layer_weights", None)
        self.projector: nn.Linear = model.projector
        self.tdnn: nn.ModuleList = model.tdnn
        self.embedding: nn.Linear = model.feature_extractor
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def build(cls, name: str) -> XVector:
        """Read the model `name`: a hub name (microsoft/wavlm-base-plus-sv), a folder, or `tiny-xvector`.

        Raises AffectError where there is none, or it is no x-vector model.
        """
        if name == TINY:
            config = _tiny_config()
            return cls(_model_class(config, name)(config), Preprocessing(do_normalize=True))
        folder = Path(name).expanduser()
        if folder.is_dir():
            name = str(folder)
        elif name.startswith((".", "/", "~")) or name.count("/") != 1:
            raise AffectError(f"speaker model {name!r}: no such folder, not a hub name (owner/model), and not {TINY!r}")
        from transformers import AutoConfig

        where: dict[str, Any] = {"pretrained_model_name_or_path": name}
        config = attempt(name, "config.json", AutoConfig.from_pretrained, **where)
        model = _model_class(config, name)
        # Any encoder would load: without this check the missing layers would be random.
        architectures = config.architectures if isinstance(config.architectures, list) else []
        if MODELS[config.model_type] not in architectures:
            listed = ", ".join(map(str, architectures)) or "nothing named"
            raise AffectError(f"speaker model {name!r} is no x-vector model: its config.json names {listed}")
        preprocessing = pretrained.read_extractor(name, config, where)
        # What such models are trained by, the loss over speakers, stays behind.
        spare = ("objective.", "classifier.")
        return cls(read_model(name, model, **where, config=config, spare=spare), preprocessing)

    @classmethod
    def from_config(cls, facts: dict[str, Any]) -> XVector:
        """Rebuild the model that `to_config` described, with random weights and without the hub."""
        config = pretrained.restore_config(facts["architecture"])
        return cls(_model_class(config, "of the saved configuration")(config), Preprocessing(**facts["preprocessing"]))

    def to_config(self) -> dict[str, Any]:
        """Return what `from_config` needs, as plain JSON values."""
        return {"architecture": self.architecture, "preprocessing": asdict(self.preprocessing)}

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the waveforms it takes."""
        return self.preprocessing.sampling_rate

    @property
    def least_samples(self) -> int:
        """The samples of the shortest utterance with two frames to take a deviation of; shorter ones are repeated."""
        convolution = self.backbone.convolution
        least: int = convolution.receptive_field + (self.lost_frames + 1) * convolution.hop
        return least

    def train(self, mode: bool = True) -> XVector:
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    def forward(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Return embeddings [B, E] of length 1, in float32 and without a gradient.

        `waveform` [B, S] at `sampling_rate`, `samples` [B] valid samples; what lies beyond is ignored. What is shorter
        than `least_samples` (a third of a second) is repeated until it is not.
        """
        # Cosines of embeddings are compared across runs: their rounding may not follow the run's precision.
        with torch.no_grad(), torch.autocast(waveform.device.type, enabled=False):
            return once(self, lambda: self.embed(waveform, samples))

    def embed(self, waveform: Tensor, samples: Tensor) -> Tensor:
        """Return what `forward` does."""
        waveform, samples = repeat_short(waveform, samples, self.least_samples)
        states, mask = self.backbone(waveform, samples)
        hidden = states[-1]
        if self.layer_weights is not None:
            # The last state is after the encoder's norm, as when such models were trained. transformers 5.23 weighs
            # it before that norm, which makes a difference for large-style encoders alone.
            shares = self.layer_weights.softmax(0)
            hidden = (torch.stack(states) * shares[:, None, None, None]).sum(0)
        hidden = self.projector(hidden)
        for layer in self.tdnn:
            hidden = layer(hidden)
        frames = mask.sum(1) - self.lost_frames
        return F.normalize(self.embedding(statistics(hidden, frames)).float(), dim=-1)


def repeat_short(waveform: Tensor, samples: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Return `waveform` [B, S] and `samples` [B] with the valid part repeated where it is under `least` samples."""
    short = samples < least
    # An export's graph is one for every length: there it is longer than need be.
    length = waveform.shape[1] + least if torch.compiler.is_exporting() else max(waveform.shape[1], least)
    wave = F.pad(waveform, (0, length - waveform.shape[1]))
    place = torch.arange(length, device=wave.device).expand(wave.shape[0], -1)
    place = torch.where(short[:, None], place % samples.clamp(min=1)[:, None], place)
    return wave.gather(1, place), samples.clamp(min=least)


def statistics(frames: Tensor, count: Tensor) -> Tensor:
    """Return mean and unbiased deviation [B, 2D] of the first `count` [B] (at least 2) of `frames` [B, T, D]."""
    mask = mask_frames(count, frames.shape[1])[..., None]
    number = count[:, None].to(frames.dtype)
    mean = frames.masked_fill(~mask, 0).sum(1) / number
    squares = (frames - mean[:, None]).masked_fill(~mask, 0).square().sum(1)
    return torch.cat([mean, (squares / (number - 1)).sqrt()], dim=-1)


def _tiny_config() -> PreTrainedConfig:
    from transformers import WavLMConfig

    sizes: dict[str, Any] = {"tdnn_dim": (32, 32, 32, 32, 64), "xvector_output_dim": 24}
    return WavLMConfig(**tiny.TINY, **tiny.BASE_STYLE, **sizes)


def _model_class(config: PreTrainedConfig, name: str) -> Any:
    """Return transformers' class for `config`; raises AffectError where there is none, or a part is unsupported."""
    import transformers

    kind = config.model_type
    if kind not in MODELS:
        raise AffectError(f"speaker model {name!r} is of kind {kind!r}, not supported; {nearest(kind, MODELS)}")
    pretrained.check_config(config, name)
    return getattr(transformers, MODELS[kind])
