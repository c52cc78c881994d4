"""Valence, arousal and dominance of an utterance: speech encoder, pooling, prosody branch, a head a target."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from affect.errors import AffectError, nearest
from affect.models.encoder import EncoderConfig, SpeechEncoder, backbone_parameters, parse_config
from affect.models.heads import RegressionHead
from affect.models.pooling import POOLINGS, build_pooling
from affect.models.prosody import ProsodyBranch

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True, kw_only=True)
class VAConfig:
    """What makes up a model of valence and arousal.

    `encoder.name` "none" leaves the speech encoder out; `prosody_width` 0 leaves the prosody branch out.
    `prosody` names the kind of functionals and `prosody_features` is their number. `scale` is the lowest and
    highest raw label, which the model's unit scale stands for. `uncertainty` adds a learned log variance a
    target, for losses that weigh the targets by them.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    targets: tuple[str, ...] = ("valence", "arousal")
    pooling: str = "mean"
    prosody: str = "default"
    prosody_features: int = 88
    prosody_width: int = 64
    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.3
    sigmoid: bool = True
    uncertainty: bool = False
    scale: tuple[float, float] = (1.0, 5.0)

    def __post_init__(self) -> None:
        if not self.targets:
            raise AffectError("model.targets is empty: name at least one target")
        if len(set(self.targets)) < len(self.targets):
            raise AffectError(f"model.targets names a target twice: {', '.join(self.targets)}")
        if not self.uses_audio and not self.uses_prosody:
            raise AffectError("encoder is 'none' and prosody_width is 0: the model would have no input")
        if self.pooling not in POOLINGS:
            raise AffectError(f"there is no pooling {self.pooling!r}; {nearest(self.pooling, POOLINGS)}")
        if not 0 <= self.dropout < 1:
            raise AffectError(f"model.dropout is {self.dropout}: it has to be at least 0 and under 1")
        if self.uses_prosody and self.prosody_features < 1:
            raise AffectError(f"model.prosody_features is {self.prosody_features}: it has to be at least 1")

    @property
    def uses_audio(self) -> bool:
        """Whether the model hears the waveform."""
        return self.encoder.name != "none"

    @property
    def uses_prosody(self) -> bool:
        """Whether the model takes prosody functionals."""
        return self.prosody_width > 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> VAConfig:
        """Return the configuration that `to_dict` described; raises AffectError on an unknown field."""
        known = {entry.name for entry in fields(cls)}
        for name in facts:
            if name not in known:
                raise AffectError(f"the model has no option {name!r}; {nearest(name, known)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()
        }
        if "encoder" in values:
            values["encoder"] = parse_config(values["encoder"])
        return cls(**values)


class VAModel(nn.Module):
    """One number on the unit scale for each target of an utterance, from its speech and its prosody."""

    def __init__(self, config: VAConfig, encoder: SpeechEncoder | None = None) -> None:
        """Build the model; without `encoder`, the one that `config` names is read or made."""
        super().__init__()
        self.config = config
        self.encoder: SpeechEncoder | None = None
        width = 0
        if config.uses_audio:
            self.encoder = encoder if encoder is not None else SpeechEncoder.build(config.encoder)
            self.pooling = build_pooling(config.pooling, self.encoder.width)
            width += self.pooling.width
        self.prosody: ProsodyBranch | None = None
        if config.uses_prosody:
            self.prosody = ProsodyBranch(config.prosody_features, width=config.prosody_width, dropout=config.dropout)
            width += config.prosody_width
        self.heads = nn.ModuleDict(
            {
                target: RegressionHead(width, hidden=config.hidden, dropout=config.dropout, sigmoid=config.sigmoid)
                for target in config.targets
            }
        )
        self.log_variance = nn.Parameter(torch.zeros(len(config.targets))) if config.uncertainty else None
        # transformers' name for the layers that sharding engines wrap one by one.
        self._no_split_modules = [self.encoder.layer_class] if self.encoder is not None else []

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the waveforms it takes (16000 where it takes none)."""
        return self.encoder.sampling_rate if self.encoder is not None else 16_000

    def get_input_embeddings(self) -> None:
        """Say that there are none: Accelerate's FSDP asks, and transformers' speech models raise."""
        return None

    def forward(
        self,
        *,
        waveform: Tensor | None = None,
        samples: Tensor | None = None,
        prosody: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return a tensor [B] in float32 for each target, and `log_variance` [B, K] with `uncertainty`.

        `waveform` [B, S] and `samples` [B] (valid samples) where the model has an encoder, `prosody` [B, P]
        raw functionals where it has that branch; other inputs are ignored. B batch, K targets. Raises
        AffectError if an input is missing.
        """
        parts = []
        if self.encoder is not None:
            if waveform is None or samples is None:
                raise AffectError("this model takes audio: waveform and samples are missing")
            frames, mask = self.encoder(waveform, samples)
            parts.append(self.pooling(frames, mask))
        if self.prosody is not None:
            if prosody is None:
                raise AffectError("this model takes prosody functionals: they are missing")
            parts.append(self.prosody(prosody))
        features = torch.cat([part.to(parts[-1].dtype) for part in parts], dim=-1)
        outputs: dict[str, Tensor] = {target: head(features) for target, head in self.heads.items()}
        if self.log_variance is not None:
            outputs["log_variance"] = self.log_variance.float().expand(len(features), -1)
        return outputs

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the pretrained encoder (its layer weights are not of them)."""
        if self.encoder is None:
            return []
        return [entry for entry in backbone_parameters(self.encoder) if entry.requires_grad]

    def other_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters that are not of the pretrained encoder."""
        encoder = {id(entry) for entry in self.encoder_parameters()}
        return [entry for entry in self.parameters() if entry.requires_grad and id(entry) not in encoder]


NORMS = (nn.LayerNorm, nn.GroupNorm)
GAINS = ("bias", "rel_attn_embed.weight", "gru_rel_pos_const", "weight.original0", "weight_g")
"""Endings of names that decay leaves alone: biases, WavLM's position bias and gate, weight norm's gain."""


def undecayed(model: nn.Module) -> set[str]:
    """Return the names of the parameters that weight decay leaves alone.

    These are norms, biases, gains, position biases and whatever else has one dimension (layer weights, log
    variances). Names are those of `model.named_parameters()`; ask before an engine shards the model.
    """
    norms = {id(entry) for module in model.modules() if isinstance(module, NORMS) for entry in module.parameters()}
    return {
        name
        for name, entry in model.named_parameters()
        if id(entry) in norms or entry.ndim <= 1 or name.endswith(GAINS)
    }


def save(model: VAModel, folder: Path) -> None:
    """Write the weights (safetensors) and the configuration to `folder`; `load` needs nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    facts = {
        "model": model.config.to_dict(),
        "encoder": model.encoder.to_config() if model.encoder is not None else None,
    }
    (folder / CONFIG).write_text(json.dumps(facts, indent=2) + "\n")


def build(facts: dict[str, Any]) -> VAModel:
    """Build the model that config.json describes, with random weights and without the hub."""
    encoder = SpeechEncoder.from_config(facts["encoder"]) if facts["encoder"] is not None else None
    return VAModel(VAConfig.from_dict(facts["model"]), encoder)


def load(folder: Path) -> VAModel:
    """Return the model that `save` wrote, on the CPU and in evaluation mode.

    Raises AffectError if the folder holds no such model or its files are damaged.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise AffectError(f"{folder} holds no model: {name} is missing")
    try:
        facts = json.loads((folder / CONFIG).read_text())
        model = build(facts)
        model.load_state_dict(load_file(folder / WEIGHTS))
    # Cut-off JSON, cut-off weights, fields or tensors that do not belong to this model.
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise AffectError(f"the model in {folder} cannot be read: {reason[:300]}") from error
    return model.eval()
