"""A smaller model of a trained one: hidden units of encoders, blocks, fusion and heads, and heads of attention, go.

Those that add least are cut, and the layer behind is fitted anew to what it made of all of them: by least squares over
clips, drawn to its own weights. Legend: N frames, G groups (of units, or the heads), K numbers of a group, D outputs, H
numbers that a layer reads, L those of them that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affect.errors import AffectError
from affect.models.transformer import SelfAttention
from affect.tasks.talking_face.config import Model
from affect.tasks.talking_face.model import TalkingFaceModel, build

_RIDGE = 0.01
"""How much a fitted layer is drawn to its own weights, as a share of the mean variance of what it reads."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What is kept of each kind, over 0 and up to 1."""

    hidden: float
    """Hidden units of the transformer's blocks."""
    heads: float
    """Heads of all attention."""
    encoders: float
    """Hidden units between the layers of the features' encoders."""
    fused: float
    """Numbers that features are fused to, and hidden units of the scores' heads."""

    def __post_init__(self) -> None:
        """Raise AffectError for what is no share."""
        for name, share in vars(self).items():
            if not 0 < share <= 1:
                raise AffectError(f"{name} is a share that is kept, over 0 and up to 1: not {share:g}")

    def of(self, config: Model) -> Model:
        """Return the configuration of the smaller model, one at least of each kind."""
        width = config.encoder_dim
        return replace(
            config, hidden=max(1, round(self.hidden * (config.hidden or 2 * width))),
            heads=max(1, round(self.heads * config.heads)), head_width=config.head_width or width // config.heads,
            encoder_hidden=max(1, round(self.encoders * (config.encoder_hidden or width))),
            fused=max(2, round(self.fused * (config.fused or width))),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Linear layers `seconds` that read groups which `first` computes, each in `parts` (query, key, value).

    Between them is a ReLU behind the LayerNorm `norm`, or what changes each number alone.
    """

    first: str
    seconds: Sequence[str]
    groups: int
    kept: int
    parts: int = 1
    norm: str | None = None


class Watch:
    """Mean and covariance of what the layers behind a cut read, beside what they would read of the places left."""

    def __init__(self, model: nn.Module, cut: Cut, left: Tensor | None = None):
        self._norm = cast(nn.LayerNorm, model.get_submodule(cut.norm)) if cut.norm else None
        self._left = left
        self._count, self._total, self._squares = 0, torch.zeros(()), torch.zeros(())
        self.hooks = [model.get_submodule(cut.seconds[0]).register_forward_pre_hook(self._see)]
        if self._norm is not None:
            self.hooks.append(self._norm.register_forward_pre_hook(self._note))

    def _note(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self._before = inputs[0]

    def _see(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        read = inputs[0].flatten(0, -2)
        if self._left is not None:
            read = torch.cat([read, self._less(read, self._left)], dim=1)
        self._count += len(read)
        self._total = self._total + read.double().sum(0)
        self._squares = self._squares + (read.T @ read).double()

    def _less(self, read: Tensor, left: Tensor) -> Tensor:
        norm = self._norm
        if norm is None:
            return read[:, left]
        before = self._before.flatten(0, -2)[:, left]
        return F.layer_norm(before, (len(left),), norm.weight[left], norm.bias[left], norm.eps).relu()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean [H] (or [H + L]) and the covariance."""
        mean = self._total / self._count
        return mean, self._squares / self._count - torch.outer(mean, mean)


def cuts_of(model: TalkingFaceModel, small: Model) -> Iterator[Cut]:
    """Yield what is cut to bring a model to the configuration `small`, in the order of the forward."""
    config, width = model.config, model.config.encoder_dim
    norms = 1 if config.norm else 0
    step = 3 + norms
    for k in range(len(model.encoders)):
        for first in range(0, step * (config.encoder_layers - 1), step):
            name = f"encoders.{k}.network"
            yield Cut(
                first=f"{name}.{first}", seconds=[f"{name}.{first + step}"], groups=config.encoder_hidden or width,
                kept=small.encoder_hidden or width, norm=f"{name}.{first + 1}" if norms else None,
            )  # fmt: skip
    for name, module in model.named_modules():
        if isinstance(module, SelfAttention):
            own = [f"{name}.output"]
            yield Cut(first=f"{name}.project", seconds=own, groups=config.heads, kept=small.heads, parts=3)
    hidden, less = config.hidden or 2 * width, small.hidden or 2 * width
    for k in range(len(model.blocks)):
        name = f"blocks.{k}.network"
        yield Cut(first=f"{name}.1", seconds=[f"{name}.4"], groups=hidden, kept=less)
    fused, left = config.fused or width, small.fused or width
    heads = [f"{kind}.{k}.network" for kind in ("heads", "spreads") for k in range(len(getattr(model, kind)))]
    yield Cut(
        first="fusion.0", seconds=[f"{name}.0" for name in heads], groups=fused, kept=left,
        norm="fusion.1" if norms else None,
    )  # fmt: skip
    for name in heads:
        yield Cut(first=f"{name}.0", seconds=[f"{name}.4"], groups=fused // 2, kept=left // 2, norm=f"{name}.1")


def pruned(model: TalkingFaceModel, clips: Iterable[Mapping[str, Tensor]], shares: Shares) -> TalkingFaceModel:
    """Return a model with these shares of what may be cut.

    What is kept, and how layers are fitted, is told by `clips`, inputs of one clip each, which should be of training.
    Raises AffectError where nothing is cut.
    """
    clips, small = [*clips], shares.of(model.config)
    cuts = [cut for cut in cuts_of(model, small) if cut.kept < cut.groups]
    if not cuts:
        raise AffectError("nothing of this model is cut: it has none of what these shares are of, or all is kept")
    seen = _watched(model, clips, [Watch(model, cut) for cut in cuts])
    left = [_left(model, cut, watch.moments()[1]) for cut, watch in zip(cuts, seen, strict=True)]
    fitted = _watched(model, clips, [Watch(model, cut, places) for cut, places in zip(cuts, left, strict=True)])
    state = model.state_dict()
    for cut, places, watch in zip(cuts, left, fitted, strict=True):
        _cut(model, state, cut, places, watch.moments())
    made = build(small, model.data)
    made.load_state_dict(state)
    return made.eval()


def _watched(model: nn.Module, clips: Sequence[Mapping[str, Tensor]], watches: list[Watch]) -> list[Watch]:
    """Return watches that have seen clips."""
    with torch.inference_mode():
        for inputs in clips:
            model(**inputs)
    for watch in watches:
        for hook in watch.hooks:
            hook.remove()
    return watches


def _left(model: nn.Module, cut: Cut, spread: Tensor) -> Tensor:
    """Return the places [L] of the groups that add most to what is behind them, by the covariance of all [H, H]."""
    size = len(spread) // cut.groups
    every = torch.arange(cut.groups)
    own = spread.reshape(cut.groups, size, cut.groups, size)[every, :, every]
    weight = torch.cat([_weight(model, name) for name in cut.seconds]).reshape(-1, cut.groups, size)
    added = torch.einsum("dgk,gkl,dgl->g", weight, own, weight)
    kept = added.topk(cut.kept).indices.sort().values
    return (kept[:, None] * size + torch.arange(size)).flatten()


def _cut(model: nn.Module, state: dict[str, Tensor], cut: Cut, left: Tensor, moments: tuple[Tensor, Tensor]) -> None:
    """Leave those places in the weights in `state`, and fit the layers behind them."""
    mean, spread = moments
    size = len(mean) - len(left)
    both, own = spread[:size, size:], spread[size:, size:]
    ridge = (_RIDGE * own.diagonal().mean()).clamp(min=1e-12)
    for name in cut.seconds:
        weight = _weight(model, name)
        bias = state[f"{name}.bias"].double() + weight @ mean[:size]
        lost = weight @ both - weight[:, left] @ own
        weight = weight[:, left] + torch.linalg.solve(own + ridge * torch.eye(len(left)), lost, left=False)
        for kind, value in (("weight", weight), ("bias", bias - weight @ mean[size:])):
            state[f"{name}.{kind}"] = value.to(state[f"{name}.{kind}"].dtype)
    for kind in ("weight", "bias"):
        rows = state[f"{cut.first}.{kind}"]
        state[f"{cut.first}.{kind}"] = rows.reshape(cut.parts, size, *rows.shape[1:])[:, left].flatten(0, 1)
        if cut.norm:
            state[f"{cut.norm}.{kind}"] = state[f"{cut.norm}.{kind}"][left]


def _weight(model: nn.Module, name: str) -> Tensor:
    return cast(nn.Linear, model.get_submodule(name)).weight.detach().double()
