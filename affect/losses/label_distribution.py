"""Weights of labels by how often their neighbourhood occurs: label-distribution smoothing (LDS).

What label smoothing of classes means for numbers. Source: Yang et al. 2021, Delving into deep imbalanced regression
(kernel and weights as in its public code, but for the ends of the scale). Legend: N labels, K bins of equal width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Kind = Literal["inverse", "sqrt"]


@dataclass(frozen=True)
class LabelWeights:
    """The weight of each bin between `low` and `high`: the `weigh` of a term of `masked`."""

    low: float
    high: float
    weights: tuple[float, ...]

    def __call__(self, label: Tensor) -> Tensor:
        """Return the weight of each label, in float32; beyond the scale that of its nearest end."""
        place = (label - self.low) / (self.high - self.low) * len(self.weights)
        return _table(self.weights, label.device)[place.long().clamp(0, len(self.weights) - 1)]


def label_weights(
    labels: ArrayLike, scale: tuple[float, float], *, kind: Kind = "inverse", bins: int = 50, sigma: float = 2.0,
) -> LabelWeights:  # fmt: skip
    """Return weights of the training `labels` [N] (NaN: missing) on a scale (low, high), of mean 1 over them.

    `kind` "sqrt" takes the root of the counts first, which is milder; `sigma` is that of `bin_weights`.
    """
    y = np.asarray(labels, dtype=np.float64)
    counts, _ = np.histogram(np.clip(y[~np.isnan(y)], *scale), bins=bins, range=scale)
    return LabelWeights(*scale, tuple(bin_weights(counts, kind=kind, sigma=sigma).tolist()))


def bin_weights(counts: ArrayLike, *, kind: Kind = "inverse", sigma: float = 2.0) -> Floats:
    """Return the weight of each bin [K] by `counts` [K], of mean 1 over what is counted.

    Counts are smoothed by a Gaussian of `sigma` bins in a window of 2 ceil(sigma) + 1, by default the public code's 5,
    and reflected at the ends: with nothing beyond them, as in the public code, the end of a uniform distribution weighs
    1.64 times its middle. A bin without neighbours has the largest weight of the others.
    """
    from scipy.ndimage import convolve1d, gaussian_filter1d

    held = np.asarray(counts, dtype=np.float64)
    near = math.ceil(sigma)
    impulse = np.zeros(2 * near + 1)
    impulse[near] = 1.0
    window = gaussian_filter1d(impulse, sigma=sigma)
    smoothed = convolve1d(np.sqrt(held) if kind == "sqrt" else held, window / window.max(), mode="reflect")
    there = smoothed > 0
    if not there.any():
        return np.ones(len(held))
    weights = 1 / np.where(there, smoothed, smoothed[there].min())
    scaled: Floats = weights * held.sum() / (weights @ held)
    return scaled


@lru_cache(maxsize=64)
def _table(weights: tuple[float, ...], device: torch.device) -> Tensor:
    # Kept there: a copy in each micro-batch would wait for what is queued.
    return torch.tensor(weights, dtype=torch.float32, device=device)
