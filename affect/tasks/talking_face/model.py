"""The model of talking-face quality: frames of several features to scores on their own scales.

Legend: B clips, M features, T frames of a feature, W its width, E the encoders' width, K scores.

A feature that a clip lacks is replaced before its encoder by one learned frame, so that every mask has a valid frame.
Every parameter gets a gradient in every forward, and no output depends on padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from affect import keyed
from affect.config import to_dict
from affect.errors import AffectError
from affect.models.dropout import Dropout
from affect.models.heads import RegressionHead
from affect.models.pooling import masked_mean
from affect.models.transformer import SelfAttention, TransformerBlock
from affect.task import LOG_VARIANCE, SPREAD
from affect.tasks.talking_face.config import FRAMES, HIDDEN, MARGIN, WORSE, Model, Signature

_ALIGNED = 64
"""Width of the vectors that the alignment of features compares."""
_LEAST_SPREAD = 1e-3
"""Least predicted deviation, as a share of a score's scale: the likelihood of a smaller one has no bound."""


def masked_max(frames: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value [B, D] of `frames` [B, T, D] where `mask` [B, T] is True somewhere in each row."""
    return frames.masked_fill(~mask[..., None], torch.finfo(frames.dtype).min).amax(1)


POOLINGS = {"mean": masked_mean, "max": masked_max}


class FrameEncoder(nn.Module):
    """Layers (Linear, LayerNorm, ReLU, dropout) on each frame, beside a linear projection of it where asked for."""

    def __init__(self, features: int, config: Model) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        hidden = [config.encoder_hidden or config.encoder_dim] * (config.encoder_layers - 1)
        for before, width in pairwise([features, *hidden, config.encoder_dim]):
            layers += [nn.Linear(before, width), *([nn.LayerNorm(width)] if config.norm else [])]
            layers += [nn.ReLU(), Dropout(config.dropout)]
        self.network = nn.Sequential(*layers)
        self.residual = nn.Linear(features, config.encoder_dim) if config.residual else None
        self.token = nn.Parameter(torch.zeros(features))
        """Stands for the frames of a clip that lacks the feature; zeros are the mean of standardised frames."""
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def standardised(self, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return standardised `frames` [B, T, W] and which count [B, T]; of 0 `counts` [B] the token does."""
        places = torch.arange(frames.shape[1], device=frames.device)
        there, lacking = places < counts[:, None], (counts[:, None] == 0) & (places == 0)
        scaled = (frames - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        # Padding may hold values that are not finite.
        frames = torch.where(there[..., None], scaled, torch.where(lacking[..., None], self.token, 0.0))
        return frames, there | lacking

    def forward(self, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, T, E] of `frames` [B, T, W] and which of them count [B, T], as `standardised` has them."""
        frames, mask = self.standardised(frames, counts)
        encoded: Tensor = self.network(frames)
        if self.residual is not None:
            encoded = encoded + self.residual(frames)
        return encoded, mask


class TemporalAttention(nn.Module):
    """Self-attention over the frames of one feature, beside its input."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention = SelfAttention(config.encoder_dim, config.heads, config.head_width)
        self.dropout = Dropout(config.dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return [B, T, E] of `frames` [B, T, E] and `mask` [B, T]."""
        attended: Tensor = frames + self.dropout(self.attention(frames, mask))
        return attended


class TalkingFaceModel(nn.Module):
    """An encoder a feature, a transformer over the frames of all features, pooling over time, a head a score."""

    def __init__(self, config: Model, data: Signature) -> None:
        super().__init__()
        self.config, self.data = config, data
        width, features = config.encoder_dim, len(data.features)
        self.encoders = nn.ModuleList(FrameEncoder(size, config) for _, size in data.features)
        self.kinds = nn.Parameter(0.02 * torch.randn(features, width))
        """Tells the transformer whose frame one is."""
        hidden = config.hidden or 2 * width
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.heads, hidden, config.dropout, config.head_width)
            for _ in range(config.layers)
        )
        self.temporal = nn.ModuleList(TemporalAttention(config) for _ in data.features if config.temporal_attention)
        pooled = features * len(config.pooling) * width
        fused = config.fused or width
        norm = [nn.LayerNorm(fused)] if config.norm else []
        self.fusion = nn.Sequential(nn.Linear(pooled, fused), *norm, nn.ReLU(), Dropout(config.dropout))
        self.heads = nn.ModuleList(self._head(config.output == "sigmoid") for _ in data.scores)
        self.lines = nn.ModuleList(self._line() for _ in data.scores if config.linear)
        self.spreads = nn.ModuleList(self._head(False) for _ in data.scores if config.heteroscedastic)
        self.aligners = nn.ModuleList(nn.Linear(width, _ALIGNED) for _ in data.features if config.alignment)
        self.log_variances = nn.Parameter(torch.zeros(data.log_variances)) if data.log_variances else None
        # Of a long wave every hundredth frame differs, of the shortest each.
        half = torch.arange(width // 2, dtype=torch.float32) / (width // 2)
        self.register_buffer("rates", 1e-4**half, persistent=False)

    def _head(self, sigmoid: bool) -> RegressionHead:
        width = self.config.fused or self.config.encoder_dim
        return RegressionHead(width, hidden=(width // 2,), dropout=self.config.dropout, sigmoid=sigmoid)

    def _line(self) -> nn.Linear:
        line = nn.Linear(sum(width for _, width in self.data.features), 1, bias=False)
        nn.init.zeros_(line.weight)
        return line

    def describe(self) -> dict[str, Any]:
        """Return what its task makes it of again, as JSON types."""
        return {"model": to_dict(self.config), "data": to_dict(self.data)}

    def standardise(self, statistics: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Set mean and deviation [W] of each feature's frames."""
        for encoder, (mean, deviation) in zip(self.encoders, statistics, strict=True):
            cast(Tensor, encoder.mean).copy_(mean)
            cast(Tensor, encoder.deviation).copy_(deviation)

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Return each score [B], out of training within its own scale, and what the configuration adds.

        Of each feature it takes frames [B, T, W] by its name and how many there are [B] by its name and `_frames`; 0
        where a clip lacks it. Given the same of the clips made worse, it also says by how much they are better [B].
        Raises AffectError for a feature that is not given or of another width.
        """
        outputs = self._scored(inputs)
        worse = {name.removeprefix(WORSE): value for name, value in inputs.items() if name.startswith(WORSE)}
        if worse:
            outputs[MARGIN] = self._mean_share(outputs) - self._mean_share(self._scored(worse))
        if self.config.output == "affine" and not self.training:
            # In training it would take the gradient of what lies outside.
            outputs |= {name: outputs[name].clamp(low, high) for name, low, high in self.data.scores}
        return outputs

    def _mean_share(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return where scores lie on their scales [B], from 0 to 1, in the mean over the scores."""
        shares = [(outputs[name] - low) / (high - low) for name, low, high in self.data.scores]
        return torch.stack(shares).mean(0)

    def _scored(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        self._check(inputs)
        counts = torch.stack([inputs[name + FRAMES] for name, _ in self.data.features], dim=1)
        given = counts * self._kept(counts)
        longest = counts.amax(1)
        frames, masks = [], []
        for k, ((name, _), encoder) in enumerate(zip(self.data.features, self.encoders, strict=True)):
            own, mask = encoder(inputs[name], given[:, k])
            frames.append(own + self.kinds[k] + self._positions(own, given[:, k], longest))
            masks.append(mask)
        outputs = self._outputs(self._look_at_each_other(frames, masks), masks)
        if self.lines:
            means = self._means(inputs, given)
            for (name, low, high), line in zip(self.data.scores, self.lines, strict=True):
                outputs[name] = outputs[name] + (high - low) * line(means).squeeze(-1).float()
        return outputs

    def _means(self, inputs: dict[str, Tensor], counts: Tensor) -> Tensor:
        """Return the mean standardised frames of all features side by side, [B, sum of W]."""
        named = zip(self.data.features, self.encoders, strict=True)
        parts = (
            cast(FrameEncoder, e).standardised(inputs[name], counts[:, k]) for k, ((name, _), e) in enumerate(named)
        )
        return torch.cat([masked_mean(*part) for part in parts], dim=-1)

    def _look_at_each_other(self, frames: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        """Return what the transformer makes of the features' `frames` [B, T, E], by their `masks` [B, T].

        Valid frames go first: so a frame's place, by which dropout draws, is the clip's own, whatever the padding.
        """
        if not self.blocks:
            return frames
        joined, mask = torch.cat(frames, dim=1), torch.cat(masks, dim=1)
        lengths = [part.shape[1] for part in frames]
        if not self.training:
            # Nothing is drawn, and attention knows no places.
            for block in self.blocks:
                joined = block(joined, mask)
            return list(torch.split(joined, lengths, dim=1))
        order = (~mask).byte().argsort(dim=1, stable=True)
        joined, mask = joined.take_along_dim(order[..., None], dim=1), mask.take_along_dim(order, dim=1)
        for block in self.blocks:
            joined = block(joined, mask)
        joined = joined.take_along_dim(order.argsort(dim=1)[..., None], dim=1)
        return list(torch.split(joined, lengths, dim=1))

    def _check(self, inputs: dict[str, Tensor]) -> None:
        for name, width in self.data.features:
            if name not in inputs or name + FRAMES not in inputs:
                raise AffectError(f"the model takes {name} and {name}{FRAMES}: of a clip without it 0 frames")
            if inputs[name].shape[-1] != width:
                raise AffectError(f"{name} has {inputs[name].shape[-1]} numbers a frame, the model takes {width}")

    def _kept(self, counts: Tensor) -> Tensor:
        """Return which features [B, M] modality dropout leaves, by what is there: at least one of them."""
        p = self.config.modality_dropout
        if not self.training or not p:
            return torch.ones_like(counts, dtype=torch.bool)
        rows, features = counts.shape
        drawn = keyed.uniform(self, rows, features, counts.device)
        # What is not there can't be the one that stays.
        return (drawn >= p) | (drawn == drawn.where(counts > 0, -1.0).amax(1, keepdim=True))

    def _positions(self, frames: Tensor, counts: Tensor, longest: Tensor) -> Tensor:
        """Return waves [B, T, E] of when each frame is: in frames of the clip's `longest` [B] feature.

        Features of other frame rates so meet at one time.
        """
        step = longest / counts.clamp(min=1)
        times = torch.arange(frames.shape[1], device=frames.device) * step[:, None]
        angles = times[..., None].float() * cast(Tensor, self.rates)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _outputs(self, frames: list[Tensor], masks: list[Tensor]) -> dict[str, Tensor]:
        """Return the outputs of the features' `frames` [B, T, E] and `masks` [B, T]."""
        outputs: dict[str, Tensor] = {}
        for k, block in enumerate(self.temporal):
            frames[k] = block(frames[k], masks[k])
        for (name, _), own, mask, aligner in zip(self.data.features, frames, masks, self.aligners, strict=False):
            outputs[name + HIDDEN] = aligner(masked_mean(own, mask)).float()
        pooled = [POOLINGS[kind](f, m) for f, m in zip(frames, masks, strict=True) for kind in self.config.pooling]
        fused = self.fusion(torch.cat(pooled, dim=-1))
        for (name, low, high), head in zip(self.data.scores, self.heads, strict=True):
            # Without a sigmoid an output of 0 is the middle of the scale.
            share = head(fused) if self.config.output == "sigmoid" else 0.5 + head(fused)
            outputs[name] = low + (high - low) * share
        for (name, low, high), head in zip(self.data.scores, self.spreads, strict=False):
            spread = nn.functional.softplus(head(fused)) + _LEAST_SPREAD
            outputs[name + SPREAD] = (high - low) * spread
        if self.log_variances is not None:
            outputs[LOG_VARIANCE] = self.log_variances.expand(fused.shape[0], -1)
        return outputs


def build(config: Model, data: Signature) -> TalkingFaceModel:
    """Return a new model with random weights."""
    return TalkingFaceModel(config, data)
