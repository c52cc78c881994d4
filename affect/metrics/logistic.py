"""The logistic curve from predictions to the labels' scale, as the field of image and video quality fits it.

It is monotone with four parameters (VQEG 2003, final report of phase II): b2 + (b1 - b2) / (1 + exp(-(z - b3) / b4)).
For a given share s = 1 / (1 + exp(-(a z + c))) the best b1 and b2 are those of a line from s to the labels, which
leaves two parameters (variable projection: Golub and Pereyra 1973). In a and c a nearly straight curve has small
numbers, where b3 and b4 run off to infinity in thousands of evaluations. Legend: M labelled examples, n resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affect.metrics.regression import Floats, valid

FEWEST = 10
"""Labelled pairs that a curve needs: of ten pairs of noise it makes a correlation of .51."""
_START = 1.5
"""a of standardised predictions."""
_STEPS = 60
"""At most: scores that follow their labels take 5 to 30."""
_ENOUGH = 1e-9
"""A step that lowers the squared error by less than this part of it is the last."""


@dataclass(frozen=True)
class Curve:
    """What maps predictions to the labels' scale: the logistic of `parameters` b1 to b4, or a line b1 + b2 z.

    z is a prediction less `centre`, in units of `spread`.
    """

    kind: Literal["logistic", "linear"]
    parameters: tuple[float, ...]
    centre: float
    spread: float

    def __call__(self, prediction: ArrayLike) -> Floats:
        """Return predictions [...] on the labels' scale."""
        z = (np.asarray(prediction, np.float64) - self.centre) / self.spread
        if self.kind == "linear":
            return self.parameters[0] + self.parameters[1] * z
        b1, b2, b3, b4 = self.parameters
        curved: Floats = b2 + (b1 - b2) * _share((z - b3) / b4)
        return curved


def fit(prediction: ArrayLike, target: ArrayLike) -> Curve:
    """Return the logistic curve of least squared error from `prediction` [N] to `target` [N] (NaN: missing).

    Where it is no better than a line, the line is taken. Raises ValueError as `regression.ccc`, for fewer than ten
    labelled pairs and for predictions that are all the same.
    """
    x, y = valid(prediction, target)
    if x.size < FEWEST or np.ptp(x) == 0:
        raise ValueError(f"a curve needs {FEWEST} labelled pairs with predictions that differ, not {x.size}")
    centre, spread = float(x.mean()), float(x.std())
    z, dy = (x - centre) / spread, y - y.mean()
    line = Curve("linear", (float(y.mean()), float(np.mean(z * dy))), centre, spread)
    ((a, c),) = _fitted(z[None], dy[None], np.ones((1, x.size)) / x.size).tolist()
    share = _share(a * z + c)
    if np.ptp(share) == 0:
        return line
    centred = share - share.mean()
    slope = float((centred @ dy) / (centred @ centred))
    low = float(y.mean() - slope * share.mean())
    # Turned round where a is negative, so that b4 is positive.
    ends = (low + slope, low) if a > 0 else (low, low + slope)
    bent = Curve("logistic", (*ends, -c / a, 1 / abs(a)), centre, spread)
    # Written so that a curve with a NaN fails.
    return bent if np.mean((bent(x) - y) ** 2) < np.mean((line(x) - y) ** 2) else line


def explained(x: Floats, y: Floats, often: Floats) -> Floats:
    """Return the share [n] of the variance of labels y [M] that the curve of predictions x [M] explains.

    A pair counts as often as `often` [n, M] says. NaN where fewer than ten count or either side is the same in all.
    """
    total = often.sum(1, keepdims=True)
    defined = (total[:, 0] >= FEWEST) & _varied(x, often) & _varied(y, often)
    shares = np.full(len(often), np.nan)
    if not defined.any():
        return shares
    weights = often[defined] / total[defined]
    # Centred before, as a large offset would cost digits.
    dx, dy = (values - values.mean() - (weights @ (values - values.mean()))[:, None] for values in (x, y))
    z = dx / np.sqrt(_mean(weights, dx, dx))[:, None]
    variance = _mean(weights, dy, dy)
    error, _, _ = _at(_fitted(z, dy, weights), z, dy, weights)
    # Never below the line.
    shares[defined] = np.clip(np.fmax(1 - error / variance, _mean(weights, z, dy) ** 2 / variance), 0.0, 1.0)
    return shares


def _fitted(z: Floats, dy: Floats, weights: Floats) -> Floats:
    """Return a and c [n, 2] of the best curves of standardised z [n, M] for centred labels dy [n, M].

    By Levenberg and Marquardt's method; `weights` [n, M] have a sum of 1.
    """
    best = np.tile([_START, 0.0], (len(z), 1))
    error, gradient, curvature = _at(best, z, dy, weights)
    damping, scale = np.ones(len(best)), curvature[:, ::2].copy()
    left = np.arange(len(best))
    for _ in range(_STEPS):
        step = _step(gradient[left], curvature[left], damping[left, None] * scale[left])
        tried = _at(best[left] - step, z[left], dy[left], weights[left])
        gain = error[left] - tried[0]
        better = gain > 0
        kept = left[better]
        best[kept] -= step[better]
        error[kept], gradient[kept], curvature[kept] = (values[better] for values in tried)
        # Never less: where a curve is flat nothing else would hold its steps back (Moré 1978).
        scale[kept] = np.maximum(scale[kept], curvature[kept, ::2])
        damping[left] *= np.where(better, 0.2, 5.0)
        over = better & (gain <= _ENOUGH * error[left]) | (damping[left] > 1e12)
        left = left[~over]
        if not left.size:
            break
    return best


def _step(gradient: Floats, curvature: Floats, damping: Floats) -> Floats:
    """Return the step [n, 2] from gradients [n, 2], curvatures [n, 3] (of a, of both, of c) and damping [n, 2]."""
    (g, h), (aa, ac, cc) = gradient.T, curvature.T
    aa, cc = aa + damping[:, 0], cc + damping[:, 1]
    determinant = np.maximum(aa * cc - ac**2, np.finfo(float).tiny)
    step: Floats = np.stack([cc * g - ac * h, aa * h - ac * g], axis=1) / determinant[:, None]
    return step


def _at(at: Floats, z: Floats, dy: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the squared error [n] of curves with a and c [n, 2], its gradient [n, 2] and its curvature [n, 3].

    As Kaufman 1975 has them: the change of the line's slope is left out of the curvature.
    """
    share = _share(at[:, :1] * z + at[:, 1:])
    centred = share - np.einsum("nm,nm->n", weights, share)[:, None]
    size = np.maximum(_mean(weights, centred, centred), np.finfo(float).tiny)
    slope = (_mean(weights, centred, dy) / size)[:, None]
    wrong = slope * centred - dy
    steep = slope * share * (1 - share)
    by_c = _apart(steep, centred, size, weights)
    by_a = _apart(steep * z, centred, size, weights)
    gradient = [_mean(weights, by, wrong) for by in (by_a, by_c)]
    curvature = [_mean(weights, one, other) for one, other in ((by_a, by_a), (by_a, by_c), (by_c, by_c))]
    return _mean(weights, wrong, wrong), np.stack(gradient, axis=1), np.stack(curvature, axis=1)


def _apart(change: Floats, centred: Floats, size: Floats, weights: Floats) -> Floats:
    """Return what of a change [n, M] a line in the share could not do."""
    change = change - np.einsum("nm,nm->n", weights, change)[:, None]
    return change - (_mean(weights, change, centred) / size)[:, None] * centred


def _mean(weights: Floats, one: Floats, other: Floats) -> Floats:
    """Return the mean product [n] by weights [n, M] of sum 1."""
    mean: Floats = np.einsum("nm,nm,nm->n", weights, one, other)
    return mean


def _share(u: Floats) -> Floats:
    from scipy.special import expit

    share: Floats = expit(u)
    return share


def _varied(values: Floats, often: Floats) -> NDArray[np.bool_]:
    """Tell [n] whether values [M] that count differ; their variance need not be exactly 0 where they do not."""
    if not values.size:
        return np.zeros(len(often), bool)
    counts = often > 0
    varied: NDArray[np.bool_] = np.where(counts, values, -np.inf).max(1) > np.where(counts, values, np.inf).min(1)
    return varied
