"""Whether a paired difference (of two systems, seed by seed) is more than chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EXACT = 16
"""Up to so many pairs all 2^n signs are tried: 65,536 at most, a few milliseconds."""
_BLOCK = 1 << 21
"""Signs held at once."""


def sign_flip(differences: ArrayLike, draws: int = 100_000, seed: int = 0) -> float:
    """Return the two-sided p-value of a mean of `differences` [n] as far from 0 as theirs, were their signs chance.

    Exact for n <= 16; above, of `draws` seeded draws of signs, the observed ones counted among them (Phipson and Smyth
    2010, so never 0). The least exact value is 2^(1 - n): .03125 of six pairs, .0625 of five. Source: Fisher 1935,
    The design of experiments. Raises ValueError for no difference, or one that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"differences must be one or more finite numbers [n], not {values}")
    # Sums instead of means, of numbers of size 1: nothing overflows, and what differs by rounding alone is equal.
    values = values / (np.abs(values).max() or 1.0)
    total = values.sum()
    least = abs(total) - 1e-12 * values.size

    def beyond(signs: NDArray[Any]) -> int:
        """Return how many choices of signs [.., n], 1 for kept and 0 for flipped, give a sum as far from 0."""
        return int(np.count_nonzero(np.abs(2.0 * (signs @ values) - total) >= least))

    if values.size <= EXACT:
        return beyond((np.arange(2**values.size)[:, None] >> np.arange(values.size)) & 1) / (1 << values.size)
    return (sum(map(beyond, _drawn_signs(values.size, draws, seed))) + 1) / (draws + 1)


def _drawn_signs(size: int, draws: int, seed: int) -> Iterator[NDArray[Any]]:
    """Yield `draws` drawn choices of signs, blocks [.., size] of them."""
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // size)
    for start in range(0, draws, rows):
        yield random.integers(0, 2, (min(rows, draws - start), size), dtype=np.int8)
