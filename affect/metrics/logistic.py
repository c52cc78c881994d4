"""The logistic curve from predictions to the labels' scale, as the field of image and video quality fits it.

It is monotone with four parameters (VQEG 2003, final report of phase II): b2 + (b1 - b2) / (1 + exp(-(z - b3) / b4)).
The share 1 / (1 + exp(-2 u)) is (1 + tanh u) / 2. For a given bend t = tanh(a z + c) the best b1 and b2 are those of a
line from t to the labels, which leaves two parameters (variable projection: Golub and Pereyra 1973). In a and c a
nearly straight curve has small numbers, where b3 and b4 run off to infinity in thousands of evaluations. All that a
step needs of t are its moments up to the fourth with the `_columns`: few products of matrices for all resamples at
once. Legend: M labelled examples, n resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affect.metrics.regression import Floats, valid

FEWEST = 10
"""Labelled pairs that a curve needs: of ten pairs of noise it makes a correlation of .51."""
_START = (0.75, 0.0)
"""a and c of standardised predictions."""
_STEPS = 60
"""At most: scores that follow their labels take 5 to 30."""
_ENOUGH = 1e-9
"""A step that lowers the squared error by less than this part of it, or promises no more, is the last."""
_FLAT = 1e-9
"""A bend whose variance is a smaller part of its mean square is constant."""


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
        curved: Floats = b2 + (b1 - b2) * (1 + np.tanh((z - b3) / (2 * b4))) / 2
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
    ((a, c),) = _fitted(_columns(z, dy), np.full((1, x.size), 1 / x.size)).tolist()
    bend = np.tanh(a * z + c)
    if np.ptp(bend) == 0:
        return line
    centred = bend - bend.mean()
    slope = float((centred @ dy) / (centred @ centred))
    middle = float(y.mean() - slope * bend.mean())
    # Turned round where a is negative, so that b4 is positive.
    high = slope if a > 0 else -slope
    bent = Curve("logistic", (middle + high, middle - high, -c / a, 0.5 / abs(a)), centre, spread)
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
    z, dy = (x - x.mean()) / x.std(), y - y.mean()
    columns = _columns(z, dy)
    curved, _, _ = _at(_fitted(columns, weights), columns, weights)
    (_, mean_z, mean_zz, mean_y, mean_zy), mean_yy = (weights @ columns).T, weights @ (dy * dy)
    straight = (mean_zy - mean_z * mean_y) ** 2 / (mean_zz - mean_z**2)
    # Never below the line.
    shares[defined] = np.clip(np.fmax(curved, straight) / (mean_yy - mean_y**2), 0.0, 1.0)
    return shares


def _columns(z: Floats, dy: Floats) -> Floats:
    """Return what the moments of bends are taken with [M, 5]."""
    return np.stack([np.ones_like(z), z, z * z, dy, z * dy], axis=1)


def _fitted(columns: Floats, weights: Floats) -> Floats:
    """Return a and c [n, 2] of the best curves; `weights` [n, M] have a sum of 1.

    By Levenberg and Marquardt's method, each from the same start: from the whole sample's curve one in seven ends
    at a worse minimum.
    """
    best = np.tile(_START, (len(weights), 1))
    reached, gradient, curvature = _at(best, columns, weights)
    variance = weights @ columns[:, 3] ** 2 - (weights @ columns[:, 3]) ** 2
    damping, scale = np.ones(len(best)), curvature[:, ::2].copy()
    left = np.arange(len(best))
    for _ in range(_STEPS):
        step = _step(gradient[left], curvature[left], damping[left, None] * scale[left])
        tried = _at(best[left] + step, columns, weights[left])
        gain = tried[0] - reached[left]
        better = gain > 0
        kept = left[better]
        best[kept] += step[better]
        reached[kept], gradient[kept], curvature[kept] = (values[better] for values in tried)
        # Never less: where a curve is flat nothing else would hold its steps back (Moré 1978).
        scale[kept] = np.maximum(scale[kept], curvature[kept, ::2])
        damping[left] *= np.where(better, 0.2, 5.0)
        hoped = np.where(better, gain, np.einsum("nk,nk->n", step, gradient[left]))
        over = hoped <= _ENOUGH * (variance - reached)[left]
        left = left[~over]
        if not left.size:
            break
    return best


def _step(gradient: Floats, curvature: Floats, damping: Floats) -> Floats:
    """Return the step [n, 2] by gradients [n, 2], curvatures [n, 3] (of a, of both, of c) and damping [n, 2]."""
    (g, h), (aa, ac, cc) = gradient.T, curvature.T
    aa, cc = aa + damping[:, 0], cc + damping[:, 1]
    # Of two directions that are one, rounding leaves a determinant of either sign.
    determinant = np.maximum(aa * cc - ac**2, 1e-12 * aa * cc + 1e-200)
    step: Floats = np.stack([cc * g - ac * h, aa * h - ac * g], axis=1) / determinant[:, None]
    return step


def _at(at: Floats, columns: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the variance that curves with a and c [n, 2] explain [n], half its gradient [n, 2] and curvature [n, 3].

    As Kaufman 1975 has them: the change of the line's slope is left out of the curvature.
    """
    # Less its value in the middle, as the variance of one that is nearly 1 everywhere would cancel.
    middle = np.tanh(at[:, 1:])
    bend = np.tanh(at[:, :1] * columns[:, 1] + at[:, 1:]) - middle
    power, moments = weights, [(weights @ columns).T]
    for _ in range(4):
        power = power * bend
        moments.append((power @ columns).T)
    m0, m1, m2, m3, m4 = moments
    # Of the bend's slope by c, which is 1 - (bend + t)^2: with each column, with the bend, squared.
    t = middle[:, 0]
    s = 1 - t**2
    slopes, with_bend = s * m0 - 2 * t * m1 - m2, s * m1 - 2 * t * m2 - m3
    squared = s**2 * m0 - 4 * s * t * m1 + (4 * t**2 - 2 * s) * m2 + 4 * t * m3 + m4
    mean, label, by_c, by_a = m1[0], m0[3], slopes[0], slopes[1]
    size = m2[0] - mean**2
    # Of a bend that is all but the same everywhere rounding leaves no more than noise: it explains nothing.
    bends = size > _FLAT * m2[0]
    size = np.where(bends, size, 1.0)
    along = np.where(bends, m1[3] - mean * label, 0.0)
    line = along / size
    # What of both slopes goes with the bend, and with the labels.
    bent = np.stack([with_bend[1] - by_a * mean, with_bend[0] - by_c * mean])
    told = np.stack([slopes[4] - by_a * label, slopes[3] - by_c * label])
    both = np.stack([squared[2] - by_a**2, squared[1] - by_a * by_c, squared[0] - by_c**2])
    apart = both - np.stack([bent[0] ** 2, bent[0] * bent[1], bent[1] ** 2]) / size
    apart[::2] = np.maximum(apart[::2], 0.0)
    return line * along, (line * (told - line * bent)).T, (line**2 * apart).T


def _varied(values: Floats, often: Floats) -> NDArray[np.bool_]:
    """Tell [n] whether values [M] that count differ; their variance need not be exactly 0 where they do not."""
    if not values.size:
        return np.zeros(len(often), bool)
    counts = often > 0
    varied: NDArray[np.bool_] = np.where(counts, values, -np.inf).max(1) > np.where(counts, values, np.inf).min(1)
    return varied
