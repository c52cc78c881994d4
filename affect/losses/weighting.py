"""Weights of terms that follow the terms' earlier values: DWA, RLW and FAMO.

Each is a function of the values of whole global batches alone, so that no cut and no number of ranks changes it, and
its state goes into the checkpoint. A term that took no part in a step (no label in the batch) leaves the others'
weights as if it were not there. Legend: K terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TINY = 1e-8


class DynamicWeightAverage:
    """Weights by how slowly a term has fallen from one epoch to the next (DWA; Liu et al. 2019).

    K softmax(r / T) with r the ratio of the means of the two epochs before; ones in the first two epochs, and for a
    term that has no such ratio.
    """

    def __init__(self, temperature: float = 2.0):
        self.temperature = temperature
        self._epoch = 0
        self._totals: dict[str, list[float]] = {}
        self._means: list[dict[str, float]] = []

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of an epoch."""
        self._close(epoch)
        found = dict.fromkeys(names, 1.0)
        if len(self._means) < 2:
            return found
        last, before = self._means[-1], self._means[-2]
        ratios = {n: last[n] / before[n] for n in names if n in last and before.get(n)}
        known = {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}
        shares = _softmax(np.array(list(known.values())) / self.temperature) * len(known)
        return found | dict(zip(known, shares.tolist(), strict=True))

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Take in a step's values."""
        self._close(epoch)
        for name, value in values.items():
            total = self._totals.setdefault(name, [0.0, 0.0])
            total[0], total[1] = total[0] + value, total[1] + 1

    def _close(self, epoch: int) -> None:
        """Let the epochs before `epoch` be over."""
        if epoch > self._epoch:
            means = {name: total / count for name, (total, count) in self._totals.items()}
            self._means = [*self._means, means][-2:]
            self._epoch, self._totals = epoch, {}

    def state(self) -> dict[str, Any]:
        """Return the epoch, its totals and the means of the two before."""
        return {"epoch": self._epoch, "totals": self._totals, "means": self._means}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._epoch = int(state["epoch"])
        self._totals = {name: list(map(float, pair)) for name, pair in state["totals"].items()}
        self._means = [{name: float(value) for name, value in means.items()} for means in state["means"]]


class RandomLossWeighting:
    """Weights drawn anew each step: K softmax of normal numbers (RLW; Lin et al. 2022), a function of (seed, step)."""

    def __init__(self, seed: int):
        self.seed = seed
        self._step = 0

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of the next step."""
        drawn = np.random.default_rng((self.seed, self._step)).standard_normal(len(names))
        return dict(zip(names, (_softmax(drawn) * len(names)).tolist(), strict=True))

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Count the step."""
        self._step += 1

    def state(self) -> dict[str, Any]:
        """Return the step."""
        return {"step": self._step}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._step = int(state["step"])


class FAMO:
    """Weights that let all terms fall at the same rate (FAMO; Liu et al. 2023).

    Of w the softmax z and the last step's values L the weights are K z / (L c), where c makes their sum K; w follows by
    Adam (rate .025, decay .001) what each term's logarithm fell by between two steps. The paper's code takes both
    values of one batch; here they are those of successive batches, which cost no further forward.
    """

    def __init__(self, rate: float = 0.025, decay: float = 1e-3):
        self.rate, self.decay = rate, decay
        self._w: dict[str, list[float]] = {}
        """Of each term w, Adam's two moments and its number of steps."""
        self._last: dict[str, float] = {}

    def logits(self, name: str) -> float:
        """Return a term's w."""
        return self._w[name][0] if name in self._w else 0.0

    def weights(self, names: Sequence[str], epoch: int) -> dict[str, float]:
        """Return the weights of the next step: ones before the first values, and for a term that has none."""
        found = dict.fromkeys(names, 1.0)
        known = [name for name in names if name in self._last]
        if known:
            shares = _softmax(np.array([self.logits(name) for name in known]))
            inverse = shares / np.array([max(self._last[name], _TINY) for name in known])
            found |= dict(zip(known, (len(known) * inverse / inverse.sum()).tolist(), strict=True))
        return found

    def observe(self, values: Mapping[str, float], epoch: int) -> None:
        """Take in a step's values; w moves for the terms that the step before had, too."""
        both = [name for name in values if name in self._last]
        if both:
            fell = np.array([math.log(max(self._last[n], _TINY) / max(values[n], _TINY)) for n in both])
            shares = _softmax(np.array([self.logits(name) for name in both]))
            for name, gradient in zip(both, shares * (fell - shares @ fell), strict=True):
                self._step(name, float(gradient))
        self._last |= values

    def _step(self, name: str, gradient: float) -> None:
        w, first, second, steps = self._w.get(name, [0.0, 0.0, 0.0, 0.0])
        gradient += self.decay * w
        first, second, steps = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2, steps + 1
        scaled = (first / (1 - 0.9**steps)) / (math.sqrt(second / (1 - 0.999**steps)) + 1e-8)
        self._w[name] = [w - self.rate * scaled, first, second, steps]

    def state(self) -> dict[str, Any]:
        """Return w, its moments and the last values."""
        return {"w": self._w, "last": self._last}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self._w = {name: list(map(float, held)) for name, held in state["w"].items()}
        self._last = {name: float(value) for name, value in state["last"].items()}


def _softmax(values: Floats) -> Floats:
    shifted = np.exp(values - values.max()) if values.size else values
    found: Floats = shifted / shifted.sum() if values.size else values
    return found
