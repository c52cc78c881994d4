"""What a model of valence and arousal consists of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from affect.errors import AffectError, nearest
from affect.models.encoder import EncoderConfig, parse_config
from affect.models.pooling import POOLINGS
from affect.models.text import TextConfig
from affect.models.text import parse_config as parse_text

EMOTION = "emotion"
"""The target that is a class; all others are numbers."""


@dataclass(frozen=True, kw_only=True)
class VAConfig:
    """What makes up a model of valence and arousal.

    `encoder.name` "none" leaves the speech encoder out; `prosody_width` 0 leaves the prosody branch out, `text` None
    the text branch. `prosody` names the kind of functionals and `prosody_features` is their number. `scale` is the
    lowest and highest raw label, which the model's unit scale stands for. `uncertainty` adds a learned log variance a
    target, for losses that weigh the targets by them. `lora` is the rank of
    adapters in the encoder (0: none). `classes` are those of the target `emotion`. `speaker` is
    "none", "embedding" (of `speaker_features` channels, an input) or an x-vector model's name.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    lora: int = 0
    targets: tuple[str, ...] = ("valence", "arousal")
    classes: tuple[str, ...] = ()
    pooling: str = "mean"
    temporal: str = "none"
    prosody: str = "default"
    prosody_features: int = 88
    prosody_width: int = 64
    prosody_attention: int = 0
    speaker: str = "none"
    speaker_features: int = 0
    text: TextConfig | None = None
    dialogue: str = "none"
    mamba_width: int = 256
    mamba_layers: int = 2
    state_width: int = 64
    state_decay: float = 0.8
    gates: bool = False
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
        if EMOTION in self.targets and len(self.classes) < 2:
            raise AffectError(f"the target emotion needs at least two classes, not {', '.join(self.classes) or 'none'}")
        if not self.uses_audio and not self.uses_prosody and self.text is None:
            raise AffectError("encoder is 'none' and prosody_width is 0: the model would have no input")
        if self.pooling not in POOLINGS:
            raise AffectError(f"there is no pooling {self.pooling!r}; {nearest(self.pooling, POOLINGS)}")
        if not 0 <= self.dropout < 1:
            raise AffectError(f"model.dropout is {self.dropout}: it has to be at least 0 and under 1")
        if self.uses_prosody and self.prosody_features < 1:
            raise AffectError(f"model.prosody_features is {self.prosody_features}: it has to be at least 1")
        for part, both in (("prosody_attention", self.prosody_attention), ("gates", self.gates)):
            other = self.uses_audio or (part == "gates" and self.text is not None)
            if both and not (self.uses_prosody and other):
                raise AffectError(f"model.{part} joins the prosody with another input: it needs both")
        if not self.uses_audio and (self.speaker != "none" or self.temporal != "none"):
            raise AffectError("model.speaker and model.temporal change the encoder's output: encoder is 'none'")

    @property
    def numbers(self) -> tuple[str, ...]:
        """The targets that are numbers."""
        return tuple(target for target in self.targets if target != EMOTION)

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
        if values.get("text") is not None:
            values["text"] = parse_text(values["text"])
        return cls(**values)
