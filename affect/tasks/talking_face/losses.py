"""What a talking-face model learns by: terms of each score, and how the scores are weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from affect.losses.aggregation import aggregator
from affect.losses.alignment import alignment
from affect.losses.consistency import consistency
from affect.losses.gaussian import gaussian
from affect.losses.label_distribution import LabelWeights, label_weights
from affect.losses.masked import absolute_error, huber, squared_error
from affect.losses.plcc import plcc_term
from affect.losses.rank import rank_term
from affect.losses.weighting import FAMO, DynamicWeightAverage, RandomLossWeighting
from affect.task import Outputs, Targets, Term, Weighting
from affect.tasks.talking_face.config import MARGIN, Scale, TalkingFace

_BETA = 0.5
"""Of the Gaussian likelihood: what is hard to predict is not given up."""
_SHARPNESS = 10.0
"""By how much a margin of the whole scale counts."""


def terms_of(
    recipe: TalkingFace, features: Sequence[str], scales: Sequence[Scale], labels: Mapping[str, Sequence[float]]
) -> list[Term]:
    """Return a term a score, and the further ones that the recipe asks for; `labels` [N] are those of training.

    Errors count in units of the mean scale: of scores on one scale alike they are as they stand.
    """
    loss = recipe.loss
    if loss.kind == "corruption":
        return [clean_above_worse(), *_aligned(recipe, features)]
    kinds: dict[str, Callable[..., Term]] = {
        "mse": squared_error, "mae": absolute_error, "huber": partial(huber, delta=loss.delta),
    }  # fmt: skip
    terms = []
    width = sum(high - low for _, low, high in scales) / len(scales)
    for k, (score, low, high) in enumerate(scales):
        facts = {"log_variance": k if loss.weights == "uncertainty" else None}
        own, unit = loss.fixed[k] if loss.fixed else 1.0, width / (high - low)
        if recipe.model.heteroscedastic:
            terms.append(gaussian(score, beta=_BETA, weight=own, **facts))
        else:
            weigh = _weigh(recipe, labels[score], (low, high))
            # A square grows with the square of the unit.
            weight = own * unit ** (2 if loss.kind == "mse" else 1)
            terms.append(kinds[loss.kind](score, weight=weight, weigh=weigh, **facts))
        terms += [plcc_term(score, weight=own * loss.plcc, **facts)] if loss.plcc else []
        terms += [rank_term(score, weight=own * unit * loss.rank, **facts)] if loss.rank else []
    if loss.consistency:
        terms.append(consistency({name: (low, high) for name, low, high in scales}, weight=loss.consistency))
    return [*terms, *_aligned(recipe, features)]


def _weigh(recipe: TalkingFace, labels: Sequence[float], scale: tuple[float, float]) -> LabelWeights | None:
    loss = recipe.loss
    if loss.smoothing == "none":
        return None
    return label_weights(
        labels, scale, kind=loss.smoothing, bins=loss.smoothing_bins, sigma=loss.smoothing_sigma
    )  # fmt: skip


def _aligned(recipe: TalkingFace, features: Sequence[str]) -> list[Term]:
    model, names = recipe.model, tuple(features)
    if not model.alignment:
        return []
    return [alignment(names, columns=names, temperature=model.temperature, weight=model.alignment)]


def clean_above_worse() -> Term:
    """Return the logistic loss of the output `margin` [N]: by how much a clip is better than itself made worse."""

    def total(outputs: Outputs, targets: Targets) -> Tensor:
        losses = softplus(-_SHARPNESS * outputs[MARGIN].float())
        return torch.where(_any(targets), losses, 0.0).sum()

    return Term(
        name="clean_above_worse", outputs=(MARGIN,), targets=("present",), sum=total,
        count=lambda targets: _any(targets).sum(),
    )  # fmt: skip


def _any(targets: Targets) -> Tensor:
    """Return which clips [N] have a feature at all."""
    return (targets["present"] > 0).any(1)


def weighting_of(recipe: TalkingFace) -> Weighting | None:
    """Return what weighs the scores' terms by their earlier values; None leaves their own weights."""
    make: dict[str, Callable[[], Weighting]] = {
        "dwa": lambda: DynamicWeightAverage(recipe.loss.dwa_temperature),
        "rlw": lambda: RandomLossWeighting(recipe.seed),
        "famo": FAMO,
    }  # fmt: skip
    name = recipe.loss.weights
    return OfScores(make[name](), recipe.data.scores) if name in make else None


def aggregator_of(recipe: TalkingFace) -> Callable[[Tensor], Tensor] | None:
    """Return what combines the gradients of the terms, where the recipe asks for it."""
    kind = recipe.loss.weights
    return aggregator(kind, c=recipe.loss.cagrad_c) if kind in ("upgrad", "pcgrad", "cagrad") else None


class OfScores:
    """A weighting of the terms of scores (mse_<score>), which leaves the others as they are."""

    def __init__(self, inner: Weighting, scores: Sequence[str]):
        self.inner, self.scores = inner, tuple(f"_{score}" for score in scores)

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of the next step."""
        own = self.inner.weights([name for name in names if name.endswith(self.scores)], epoch)
        return dict.fromkeys(names, 1.0) | own

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Take in a step's values."""
        self.inner.observe({name: value for name, value in values.items() if name.endswith(self.scores)}, epoch)

    def state(self) -> dict[str, Any]:
        """Return what the weights depend on."""
        return self.inner.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.inner.load(state)
