"""What all fusion models share: the encoders, the dropout draws, what stands in for a missing stream, the heads.

Legend: B examples, S streams, M modalities, D features of a stream, H hidden width, C classes, K stacked models.

A forward draws nothing itself: its randomness is `noise`, which `draw` returns. It branches on no value either, so
`torch.func.vmap` runs K models with stacked parameters and stacked noise at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect import keyed
from affect.config import to_dict
from affect.errors import AffectError
from affect.models.dropout import factors
from affect.tasks.multimodal_emotion.config import MODALITIES, SCALE, Model, Signature
from affect.tasks.multimodal_emotion.models import modality_dropout

Noise = Mapping[str, Tensor]
LESS = "less_"
"""Before the names of what is made of an utterance with less than all it has, where a model looks twice."""


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """The hidden vectors [B, H] of the streams, with stand-ins for missing ones, and outputs that losses read."""

    vectors: list[Tensor]
    outputs: dict[str, Tensor]


def two_layers(width: int, hidden: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return [width -> hidden -> hidden] with an activation in between."""
    return nn.Sequential(nn.Linear(width, hidden), activation(), nn.Linear(hidden, hidden))


class StreamEncoder(nn.Module):
    """Three times (Linear, ReLU), all `hidden` wide; features of a missing stream never get past the first layer."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        # Drawn before the first layer: what a seed gives stays the same.
        rest = nn.Sequential(nn.ReLU(), *two_layers(hidden, hidden), nn.ReLU())
        self.first = nn.Linear(features, hidden)
        self.rest = rest

    def forward(self, features: Tensor | None, present: Tensor | None = None) -> Tensor:
        """Return [B, H] of `features` [B, D]; a row whose `present` [B, 1] is 0 counts as zeros.

        Masking the first layer's product is masking its input, for H values a row in place of D. Of None it returns
        what it makes of a vector of zeros [1, H].
        """
        if features is None:
            product = self.first.bias[None]
        elif present is None:
            product = self.first(features)
        else:
            product = torch.where(present > 0, F.linear(features, self.first.weight), 0.0) + self.first.bias
        hidden: Tensor = self.rest(product)
        return hidden


class Imputation(nn.Module):
    """A small MLP a stream (Linear, ReLU, Linear) predicts its hidden vector from the mean of the other ones."""

    def __init__(self, streams: int, hidden: int) -> None:
        super().__init__()
        self.predictors = nn.ModuleList(two_layers(hidden, hidden) for _ in range(streams))

    def forward(self, hidden: Tensor, kept: Tensor) -> Tensor:
        """Return the predictions [B, S, H] from `hidden` [B, S, H] and which streams are there, `kept` [B, S].

        A stream that has no other one to go by is predicted from a vector of zeros.
        """
        mean = others(hidden, kept)
        return torch.stack([mlp(mean[..., s, :]) for s, mlp in enumerate(self.predictors)], dim=-2)


def others(hidden: Tensor, kept: Tensor) -> Tensor:
    """Return the mean [B, S, H] over the kept streams other than each one, zeros where there is none."""
    weights = (1.0 - torch.eye(kept.shape[-1], dtype=kept.dtype, device=kept.device)) * kept[..., None, :]
    return (weights / weights.sum(-1, keepdim=True).clamp(min=1.0)) @ hidden


class Heads(nn.Module):
    """A linear head a target: features [B, width] -> `emotion` logits [B, C], `valence` [B] on its scale.

    The head of valence itself is about MER2023's scale, -5 to 5, from which its answers are put on the data's own.
    """

    def __init__(self, width: int, data: Signature) -> None:
        super().__init__()
        self.emotion = nn.Linear(width, len(data.classes)) if "emotion" in data.targets else None
        self.valence = nn.Linear(width, 1) if "valence" in data.targets else None
        self.unit, (low, high) = unit_of(data.scale), data.scale
        self.middle = (low + high) / 2

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return the outputs in float32."""
        outputs = {} if self.emotion is None else {"emotion": self.emotion(features).float()}
        if self.valence is not None:
            valence = self.valence(features).squeeze(-1).float()
            same = (self.unit, self.middle) == (1.0, 0.0)
            outputs["valence"] = valence if same else self.middle + self.unit * valence
        return outputs


def unit_of(scale: tuple[float, float]) -> float:
    """Return what 1 of MER2023's scale of valence is on another one."""
    return (scale[1] - scale[0]) / (SCALE[1] - SCALE[0])


class Fusion(nn.Module, ABC):
    """A model of several streams of utterance features, an encoder each; a subclass says how they fuse."""

    def __init__(self, config: Model, data: Signature) -> None:
        super().__init__()
        config.check_streams(data.modalities)
        self.config, self.data = config, data
        self.sites: dict[str, tuple[int, float]] = {}
        names = tuple(name for name in MODALITIES if name in data.modalities)
        self._modality = [names.index(name) for name in data.modalities]
        # By the letter of each modality that the model has.
        patterns = [[name[0].upper() in letters for name in names] for letters in config.pattern_shares]
        self._shares = tuple(config.pattern_shares.values())
        self._kept_sets = modality_dropout.kept_sets(len(names), patterns)
        self.begin(0)
        streams = len(data.streams)
        if config.missing == "token":
            self.tokens = nn.Parameter(0.02 * torch.randn(streams, config.hidden))
        if config.imputation:
            self.imputation = Imputation(streams, config.hidden)
        if config.normalise:
            for key, width in zip(data.keys, data.widths, strict=True):
                self.register_buffer(f"mean_{key}", torch.zeros(width))
                self.register_buffer(f"deviation_{key}", torch.ones(width))
        self.encoders = nn.ModuleList(self.encoder(*stream) for stream in zip(data.keys, data.widths, strict=True))

    def site(self, name: str, width: int, p: float | None = None) -> None:
        """Register a dropout site of `width` values; its probability is the configuration's unless given."""
        self.sites[name] = (width, self.config.dropout if p is None else p)

    def encoder(self, name: str, width: int) -> StreamEncoder:
        """Return a new encoder of `width` features, and register the dropout site `name` on its input."""
        self.site(name, width)
        return StreamEncoder(width, self.config.hidden)

    @abstractmethod
    def fuse(self, hidden: Hidden, kept: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Return the outputs from the streams' hidden vectors; `kept` [B, S] is 1 where one is present and kept."""

    def describe(self) -> dict[str, Any]:
        """Return what its task makes it of again, as JSON types."""
        return {"model": to_dict(self.config), "data": to_dict(self.data)}

    def begin(self, epoch: int) -> dict[str, float]:
        """Set modality dropout's probability for an epoch (from 0) and return it, {} for a model without."""
        p, warmup = self.config.modality_dropout, self.config.warmup
        self.probability = modality_dropout.effective(p, warmup, epoch)
        return {"modality_dropout": self.probability} if p else {}

    def draw(self, rows: int) -> dict[str, Tensor]:
        """Return the noise of a micro-batch, drawn for each example, {} in evaluation mode.

        Of each dropout site its scaled mask [B, width], and as `modality` the draws [B] of modality dropout.
        """
        if not self.training:
            return {}
        noise: dict[str, Tensor] = {}
        here = keyed.keys_device()
        for p in sorted({p for _, p in self.sites.values() if p > 0}):
            names = [name for name, (_, own) in self.sites.items() if own == p]
            widths = [self.sites[name][0] for name in names]
            # One draw for all sites: a third of the time of a draw each.
            shape = (rows, sum(widths))
            masks = torch.split(factors(keyed.draw_keys(self, shape, here), shape, p), widths, dim=1)
            noise |= dict(zip(names, masks, strict=True))
        if self.config.modality_dropout:
            drawn = keyed.uniform(self, rows, 2, here)
            noise["modality"] = modality_dropout.draw(drawn, self.probability, self._shares)
        return noise

    def drop(self, x: Tensor, name: str, noise: Noise) -> Tensor:
        """Return `x` [B, width], while training with the mask of the site `name`."""
        _, p = self.sites[name]
        return x * noise[name] if self.training and p > 0 else x

    def forward(self, present: Tensor, noise: Noise | None = None, **streams: Tensor) -> dict[str, Tensor]:
        """Return `emotion` logits [B, C], `valence` [B], those it has, and what it adds, from features [B, D] by key.

        `present` [B, S] is 1 where a stream is there, else 0. In training mode the noise is drawn if it is not
        given; in evaluation mode it is ignored. Raises AffectError for a stream that is missing, unknown or of
        another width.
        """
        self._check(streams)
        if not self.training:
            noise = {}
        elif noise is None:
            noise = {name: value.to(present.device) for name, value in self.draw(present.shape[0]).items()}
        stays = self._stays(present, noise) if "modality" in noise else None
        kept = present if stays is None else present * stays
        own = self._encode(present, noise, streams)
        less = self.fuse(self._stand_in(own, present, kept, stays), kept, noise)
        if stays is None or not self.config.views:
            return less
        whole = self.fuse(self._stand_in(own, present, present, None), present, noise)
        return {**whole, **{f"{LESS}{name}": less[name] for name in self.data.targets}}

    def standardise(self, key: str, features: Tensor, present: Tensor) -> None:
        """Set the statistics of the stream `key` from `features` [N, D] of the training part, where `present` [N] is 1.

        A constant feature is only centred. Raises AffectError if no example has the stream.
        """
        values = features[present > 0]
        if not len(values):
            raise AffectError(f"no training example has {key}: the stream cannot be standardised, leave it out")
        mean = values.mean(0, dtype=torch.float64).float()
        deviation = (values - mean).square_().mean(0, dtype=torch.float64).sqrt().float()
        getattr(self, f"mean_{key}").copy_(mean)
        getattr(self, f"deviation_{key}").copy_(torch.where(deviation > 0, deviation, 1.0))

    def _check(self, streams: Mapping[str, Tensor]) -> None:
        for key, (_, feature, width) in zip(self.data.keys, self.data.streams, strict=True):
            if key not in streams:
                raise AffectError(f"the model takes {key} ({feature}): give zeros where it is missing")
            if streams[key].shape[-1] != width:
                raise AffectError(f"{key} has {streams[key].shape[-1]} features, the model takes {width} ({feature})")
        unknown = [key for key in streams if key not in self.data.keys]
        if unknown:
            raise AffectError(f"the model takes no {unknown[0]}: it takes {', '.join(self.data.keys)}")

    def _stays(self, present: Tensor, noise: Noise) -> Tensor:
        """Return what modality dropout leaves [B, S]: a pattern whatever is present, or a subset of it."""
        table, count = self._kept_sets.to(present.device), self._kept_sets.shape[-1]
        groups = [[s for s, m in enumerate(self._modality) if m == modality] for modality in range(count)]
        there = torch.stack([present[..., group].amax(-1) for group in groups], dim=-1)
        if self.config.dropout_kind == "pattern":
            there = torch.ones_like(there)
        return modality_dropout.keep(table, noise["modality"], there)[..., self._modality]

    def _encode(self, present: Tensor, noise: Noise, streams: Mapping[str, Tensor]) -> list[Tensor]:
        """Return each stream's own hidden vector [B, H]; that of a missing one is the encoding of zeros."""
        own = []
        for s, key in enumerate(self.data.keys):
            features = streams[key]
            if self.config.normalise:
                features = (features - getattr(self, f"mean_{key}")) / getattr(self, f"deviation_{key}")
            own.append(self.encoders[s](self.drop(features, key, noise), present[..., s : s + 1]))
        return own

    def _stand_in(self, own: list[Tensor], present: Tensor, kept: Tensor, stays: Tensor | None) -> Hidden:
        """Return the hidden vectors with what stands in for a missing or dropped one, as the section `model` says."""
        outputs = self._views(own, present)
        there = [kept[..., s : s + 1] > 0 for s in range(len(own))]
        if self.config.imputation:
            stacked = torch.stack(own, dim=-2)
            imputed = self.imputation(stacked, kept)
            outputs |= {"imputed": imputed, "imputed_truth": stacked.detach()}
            own = [torch.where(there[s], h, imputed[..., s, :]) for s, h in enumerate(own)]
        elif self.config.missing == "token":
            own = [torch.where(there[s], h, self.tokens[s]) for s, h in enumerate(own)]
        elif stays is not None and self.config.dropout_kind == "balanced":
            # Called as modules: an engine that shares out weights has them whole in a call alone.
            own = [torch.where(there[s], h, self.encoders[s](None)) for s, h in enumerate(own)]
        elif stays is not None:
            own = [h * stays[..., s : s + 1] for s, h in enumerate(own)]
        return Hidden(vectors=own, outputs=outputs)

    def _views(self, own: list[Tensor], present: Tensor) -> dict[str, Tensor]:
        """Return each modality's own hidden vector [B, H] as `<modality>_h`: the mean of its present streams."""
        views = {}
        for modality in dict.fromkeys(self.data.modalities):
            group = [s for s, name in enumerate(self.data.modalities) if name == modality]
            if len(group) == 1:
                views[f"{modality}_h"] = own[group[0]]
            else:
                weight = present[..., group] / present[..., group].sum(-1, keepdim=True).clamp(min=1.0)
                views[f"{modality}_h"] = (torch.stack([own[s] for s in group], dim=-2) * weight[..., None]).sum(-2)
        return views
