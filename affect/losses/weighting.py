"""Weights of terms that follow the terms' earlier values: DWA, RLW and FAMO.

Each is a function of the values of whole global batches alone, so that no cut and no number of ranks changes it, and
its state goes into the checkpoint. Weights are asked of the terms that take part in a step (that have a label in the
batch), of which they are K in all: what others had leaves them as if it were not there. Legend: K terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TINY = 1e-8


class _Remembers:
    """What is told of a weighting to a checkpoint: the attributes that it names, of JSON types."""

    remembered: tuple[str, ...]

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.remembered}

    def load(self, state: Mapping[str, Any]) -> None:
        for name in self.remembered:
            setattr(self, name, deepcopy(state[name]))


class DynamicWeightAverage(_Remembers):
    """Weights by how slowly a term has fallen from one epoch to the next (DWA; Liu et al. 2019).

    K softmax(r / T) with r the ratio of the means of the two epochs before; ones in the first two epochs, and for a
    term that has no such ratio.
    """

    remembered = ("epoch", "totals", "means")

    def __init__(self, temperature: float = 2.0):
        self.temperature = temperature
        self.epoch = 0
        self.totals: dict[str, list[float]] = {}
        self.means: list[dict[str, float]] = []

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of an epoch."""
        self._close(epoch)
        last, before = self.means[::-1] if len(self.means) == 2 else ({}, {})
        ratios = {name: last[name] / before[name] for name in names if name in last and before.get(name)}
        return _shared(names, {n: r / self.temperature for n, r in ratios.items() if math.isfinite(r)})

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Take in a step's values."""
        self._close(epoch)
        for name, value in values.items():
            total, count = self.totals.get(name, (0.0, 0.0))
            self.totals[name] = [total + value, count + 1]

    def _close(self, epoch: int) -> None:
        """Let the epochs before `epoch` be over."""
        if epoch > self.epoch:
            means = {name: total / count for name, (total, count) in self.totals.items()}
            self.means = [*self.means, means][-2:]
            self.epoch, self.totals = epoch, {}


class RandomLossWeighting(_Remembers):
    """Weights drawn anew each step: K softmax of normal numbers (RLW; Lin et al. 2022), a function of (seed, step)."""

    remembered = ("step",)

    def __init__(self, seed: int):
        self.seed = seed
        self.step = 0

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of the next step."""
        drawn = np.random.default_rng((self.seed, self.step)).standard_normal(len(names))
        return _shared(names, dict(zip(names, drawn, strict=True)))

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Count the step."""
        self.step += 1


class FAMO(_Remembers):
    """Weights that let all terms fall at the same rate (FAMO; Liu et al. 2023).

    Of w the softmax z and the last step's values L the weights are K z / (L c), where c makes their sum K; w follows by
    Adam (rate .025, decay .001) what each term's logarithm fell by between two steps. The paper's code takes both
    values of one batch; here they are those of successive batches, which cost no further forward.
    """

    remembered = ("w", "last")

    def __init__(self) -> None:
        self.w: dict[str, list[float]] = {}
        """Of each term w, Adam's two moments and its number of steps."""
        self.last: dict[str, float] = {}

    def logits(self, name: str) -> float:
        """Return a term's w."""
        return self.w[name][0] if name in self.w else 0.0

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of the next step: ones before the first values, and for a term that has none."""
        weights = dict.fromkeys(names, 1.0)
        fallen = [name for name in names if name in self.last]
        if fallen:
            inverse = self._shares(fallen) / np.array([max(self.last[name], _TINY) for name in fallen])
            weights |= dict(zip(fallen, (len(fallen) * inverse / inverse.sum()).tolist(), strict=True))
        return weights

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Take in a step's values; w moves for the terms that the step before had, too."""
        both = [name for name in values if name in self.last]
        if both:
            fell = np.array([math.log(max(self.last[n], _TINY) / max(values[n], _TINY)) for n in both])
            shares = self._shares(both)
            for name, gradient in zip(both, shares * (fell - shares @ fell), strict=True):
                self._step(name, float(gradient))
        self.last |= values

    def _shares(self, names: Sequence[str]) -> Floats:
        return _softmax(np.array([self.logits(name) for name in names]))

    def _step(self, name: str, gradient: float) -> None:
        w, first, second, steps = self.w.get(name, [0.0, 0.0, 0.0, 0.0])
        gradient += 1e-3 * w
        first, second, steps = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2, steps + 1
        scaled = (first / (1 - 0.9**steps)) / (math.sqrt(second / (1 - 0.999**steps)) + 1e-8)
        self.w[name] = [w - 0.025 * scaled, first, second, steps]


def _shared(names: Sequence[str], logits: Mapping[str, float]) -> dict[str, float]:
    """Return the softmax of the K terms that have logits, of sum K, and 1 for the others of `names`."""
    weights = dict.fromkeys(names, 1.0)
    if logits:
        shares = _softmax(np.array(list(logits.values()))) * len(logits)
        weights |= dict(zip(logits, shares.tolist(), strict=True))
    return weights


def _softmax(values: Floats) -> Floats:
    shifted = np.exp(values - values.max())
    shares: Floats = shifted / shifted.sum()
    return shares
