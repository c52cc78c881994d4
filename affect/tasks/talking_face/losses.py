"""What a talking-face model learns by: terms of each score, and how the scores are weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from affect.losses.alignment import alignment
from affect.losses.masked import squared_error
from affect.losses.weighting import FAMO, DynamicWeightAverage, RandomLossWeighting
from affect.task import Term, Weighting
from affect.tasks.talking_face.config import Feature, Scale, TalkingFace

KINDS: dict[str, Callable[..., Term]] = {"mse": squared_error}


def terms_of(recipe: TalkingFace, features: Sequence[Feature], scales: Sequence[Scale]) -> list[Term]:
    """Return a term a score, and the further ones that the recipe asks for.

    Errors count in units of the mean scale: of scores on one scale alike they are as they stand.
    """
    loss = recipe.loss
    width = sum(high - low for _, low, high in scales) / len(scales)
    terms = []
    for k, (score, low, high) in enumerate(scales):
        unit = (width / (high - low)) ** (2 if loss.kind == "mse" else 1)
        weight = unit * (loss.fixed[k] if loss.fixed else 1.0)
        column = k if loss.weights == "uncertainty" else None
        terms.append(KINDS[loss.kind](score, weight=weight, log_variance=column))
    if recipe.model.alignment:
        names = tuple(name for name, _ in features)
        facts = {"temperature": recipe.model.temperature, "weight": recipe.model.alignment}
        terms.append(alignment(names, columns=names, **facts))
    return terms


def weighting_of(recipe: TalkingFace) -> Weighting | None:
    """Return what weighs the scores' terms by their earlier values; None leaves their own weights."""
    make: dict[str, Callable[[], Weighting]] = {
        "dwa": DynamicWeightAverage, "rlw": lambda: RandomLossWeighting(recipe.seed), "famo": FAMO,
    }  # fmt: skip
    name = recipe.loss.weights
    return OfScores(make[name](), recipe.data.scores) if name in make else None


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
