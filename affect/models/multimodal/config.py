"""What a fusion model of utterance features consists of."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

from affect.errors import AffectError, nearest

MODALITIES = ("audio", "text", "video")
"""The modalities, in the order in which streams, masks and weights name them."""

NAMES = ("attention", "attention_robust", "lf_dnn", "lmf", "tfn", "misa", "mmim", "topn")
WEIGHING = ("attention", "attention_robust", "topn")
"""The models that weigh their streams by attention."""

MOST_STREAMS = 18
"""Streams that `topn` takes at most: six a modality, as the public toolkit ranks them."""

Stream = tuple[str, str, int]
"""One feature set: (modality, name of the features, width)."""


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig:
    """What makes up a fusion model over streams of utterance features; raises AffectError naming a bad field.

    `streams` are (modality, feature name, width), modalities in the order of `MODALITIES`, one each (`topn` takes
    several). `dropout` is that of every dropout site. `normalise` standardises features by statistics of the training
    part, which the model keeps.

    For the models of `WEIGHING`, `softmax` says what becomes of the scores of the streams: "none" (weights as they
    are), "plain", or "masked" to the streams that are present and kept; `rescale` multiplies the weights by the number
    of streams that are there, so that the fused vector grows with what is known; `fused_dropout` drops values of the
    fused vector. None stands for the named model's own: "plain" and True for `attention_robust`, else "none" and False.

    `modality_dropout` is the probability, `warmup` the epochs of its ramp, `dropout_kind` "pattern" (zeroed encoder
    outputs) or "balanced" (as if missing from the start), see `modality_dropout.py`. None stands for .2 over 30 epochs
    in `attention_robust`, else for none. `missing` says what stands in for a missing stream: the
    encoding of a zero vector ("zeros") or a learned vector ("token"). `imputation` predicts it from the other streams.
    `rank` is that of `lmf`. With `views` a training step looks at each utterance twice, encoded once: at all
    it has, and at what modality dropout leaves (the outputs `less_emotion` and `less_valence`).
    """

    name: str = "attention"
    streams: tuple[Stream, ...]
    classes: tuple[str, ...]
    hidden: int = 128
    dropout: float = 0.35
    modality_dropout: float | None = None
    warmup: int | None = None
    dropout_kind: str = "pattern"
    softmax: str | None = None
    rescale: bool = False
    views: bool = False
    fused_dropout: bool | None = None
    missing: str = "zeros"
    imputation: bool = False
    normalise: bool = False
    rank: int = 4

    def __post_init__(self) -> None:
        _one_of("name", self.name, NAMES)
        robust = self.name == "attention_robust"
        own = {
            "softmax": "plain" if robust else "none",
            "fused_dropout": robust,
            "modality_dropout": 0.2 if robust else 0.0,
            "warmup": 30 if robust else 0,
        }
        for field, value in own.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        self._check_streams()
        self._check_numbers()
        self._check_switches()

    def _check_streams(self) -> None:
        if not self.streams:
            raise AffectError("model.streams is empty: name at least one (modality, feature, width)")
        for modality, feature, width in self.streams:
            _one_of("streams", modality, MODALITIES)
            if width < 1:
                raise AffectError(f"model.streams: {modality} {feature} has the width {width}: it has to be at least 1")
        order = [MODALITIES.index(modality) for modality in self.modalities]
        if order != sorted(order):
            raise AffectError(f"model.streams: put the modalities in the order {', '.join(MODALITIES)}")
        twice = [stream for stream, n in Counter(entry[:2] for entry in self.streams).items() if n > 1]
        if twice:
            raise AffectError(f"model.streams names {' '.join(twice[0])} twice: leave one out")
        several = [modality for modality, n in Counter(self.modalities).items() if n > 1]
        if several and self.name != "topn":
            raise AffectError(f"model.streams has several of {several[0]}: {self.name} takes one each, topn takes more")
        if len(self.streams) > MOST_STREAMS:
            raise AffectError(f"model.streams has {len(self.streams)} streams: {MOST_STREAMS} at most")

    def _check_numbers(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise AffectError(
                f"model.classes has to be at least two different names, not {', '.join(self.classes) or 'none'}"
            )
        for field in ("hidden", "rank"):
            if getattr(self, field) < 1:
                raise AffectError(f"model.{field} is {getattr(self, field)}: it has to be at least 1")
        for field in ("dropout", "modality_dropout"):
            value = getattr(self, field)
            if not 0 <= value < 1:
                raise AffectError(f"model.{field} is {value}: it has to be at least 0 and under 1")
        if self.warmup is not None and self.warmup < 0:
            raise AffectError(f"model.warmup is {self.warmup}: it has to be at least 0 epochs")

    def _check_switches(self) -> None:
        assert self.softmax is not None
        _one_of("dropout_kind", self.dropout_kind, ("pattern", "balanced"))
        _one_of("softmax", self.softmax, ("none", "plain", "masked"))
        _one_of("missing", self.missing, ("zeros", "token"))
        if self.name not in WEIGHING:
            for field, changed in (
                ("softmax", self.softmax != "none"),
                ("rescale", self.rescale),
                ("fused_dropout", self.fused_dropout),
            ):
                if changed:
                    raise AffectError(f"model.{field} belongs to {', '.join(WEIGHING)}: {self.name} has no attention")
        if self.rank != 4 and self.name != "lmf":
            raise AffectError(f"model.rank belongs to lmf: {self.name} has none")
        if self.modality_dropout and len(set(self.modalities)) < 2:
            raise AffectError("model.modality_dropout needs two modalities: with one it would drop all there is")
        if self.views and not self.modality_dropout:
            raise AffectError("model.views needs model.modality_dropout: without it both looks are the same")
        if self.imputation and len(self.streams) < 2:
            raise AffectError("model.imputation needs two streams: one is predicted from the others")
        if self.imputation and self.missing != "zeros":
            raise AffectError("model.imputation fills in missing streams itself: set model.missing to zeros")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modality of each stream."""
        return tuple(modality for modality, _, _ in self.streams)

    @property
    def keys(self) -> tuple[str, ...]:
        """The input that holds each stream: its modality, for a second one of it `audio_2` and so on."""
        seen: Counter[str] = Counter()
        keys = []
        for modality in self.modalities:
            seen[modality] += 1
            keys.append(modality if seen[modality] == 1 else f"{modality}_{seen[modality]}")
        return tuple(keys)

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each stream."""
        return tuple(width for _, _, width in self.streams)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return facts

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> MultimodalConfig:
        """Return the configuration that `to_dict` described; raises AffectError on an unknown field."""
        known = {entry.name for entry in fields(cls)}
        for name in facts:
            if name not in known:
                raise AffectError(f"the model has no option {name!r}; {nearest(name, known)}")
        values = dict(facts)
        if "streams" in values:
            values["streams"] = tuple((str(m), str(feature), int(width)) for m, feature, width in values["streams"])
        if "classes" in values:
            values["classes"] = tuple(values["classes"])
        return cls(**values)


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise AffectError(f"model.{field}: there is no {value!r}; {nearest(value, known)}")
