"""The plan: which examples form each global batch, and how a global batch is cut into micro-batches.

The draw decides what is optimised and depends on (n, batch, seed, epoch) alone. The cut decides speed and memory
and cannot change the result. A length is what an example costs (seconds, frames or rows), the cost of a
micro-batch is its rows times its longest length, and the budget is the largest cost a micro-batch may have.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_START = 0.02
"""What starting a micro-batch costs, as a share of the budget: tells a better cut from a merely finer one."""


@dataclass(frozen=True)
class Micro:
    """A micro-batch: indices into the part's rows. A filler has weight zero and keeps the ranks in step."""

    indices: tuple[int, ...]
    filler: bool = False


@dataclass(frozen=True)
class Cut:
    """A global batch cut for every rank: `ranks[r]` are the micro-batches of rank r, equally many for all."""

    ranks: tuple[tuple[Micro, ...], ...]

    @property
    def indices(self) -> list[int]:
        """Return the members of the global batch in the order of ranks and micro-batches, fillers left out."""
        return [i for rank in self.ranks for micro in rank if not micro.filler for i in micro.indices]


def steps_per_epoch(n: int, batch: int) -> int:
    """Return an epoch's number of global batches: round(n / batch), at least 1. Raises ValueError where either is 0."""
    if n < 1 or batch < 1:
        raise ValueError(f"a plan needs at least one example and a batch of at least 1, not {n} and {batch}")
    return max(1, (2 * n + batch) // (2 * batch))


def draw(n: int, batch: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return an epoch's global batches: a random partition of range(n) whose sizes differ by one at most."""
    order = np.random.default_rng((seed, epoch)).permutation(n)
    return np.array_split(order, steps_per_epoch(n, batch))


def cut(lengths: NDArray[np.float64], members: Sequence[int] | NDArray[np.int64], world: int, budget: float) -> Cut:
    """Cut the global batch `members` into micro-batches of at most `budget`, balanced over `world` ranks.

    Every rank gets the same number of micro-batches. An example longer than the budget travels alone.
    Raises ValueError when the budget is not positive.
    """
    if not budget > 0:
        raise ValueError(f"the budget must be positive, not {budget}")
    members = np.asarray(members, dtype=np.int64)
    # Longest first, ties by index: the cut is a pure function of what is in the batch, not of its order.
    members = members[np.lexsort((members, -lengths[members]))]
    ordered = lengths[members]
    if world == 1:
        return Cut((tuple(_micros(members, _partition(ordered, budget))),))
    return _balance(members, ordered, world, budget)


def cost(lengths: NDArray[np.float64], micros: Sequence[Micro]) -> float:
    """Return the padded cost of micro-batches: the sum of rows times longest length."""
    return float(sum(len(m.indices) * lengths[list(m.indices)].max() for m in micros))


def holdable(lengths: NDArray[np.float64], cut: Cut, capacity: float) -> int:
    """Return how many of each rank's first micro-batches cost at most `capacity` together, on every rank."""
    spent = [np.cumsum([cost(lengths, [micro]) for micro in rank]) for rank in cut.ranks]
    return min(int(np.searchsorted(costs, capacity * (1 + 1e-9), side="right")) for costs in spent)


def padding(lengths: NDArray[np.float64], cuts: Sequence[Cut]) -> float:
    """Return the share of the padded cost that is padding or filler, over all ranks of these cuts."""
    padded = sum(cost(lengths, rank) for c in cuts for rank in c.ranks)
    return 1.0 - float(sum(lengths[c.indices].sum() for c in cuts)) / padded if padded else 0.0


def _micros(members: NDArray[np.int64], bounds: Sequence[int]) -> list[Micro]:
    return [Micro(tuple(members[a:b].tolist())) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def _partition(ordered: NDArray[np.float64], budget: float) -> list[int]:
    """Return bounds of the contiguous groups of least padded cost (plus overhead), each within the budget.

    Dynamic programme over lengths sorted longest first: best[j] = min over i of best[i] + cost of group i..j.
    """
    n = len(ordered)
    overhead = _START * budget
    if n and ordered[0] * n <= budget and ordered[0] * n - ordered.sum() < overhead:
        return [0, n]  # a second group would cost its overhead and could save the padding at most
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    previous = np.zeros(n + 1, dtype=np.int64)
    # floor with a tolerance, else 60 / 2.4 = 24.999... rows
    most = np.maximum(1, np.floor(budget / np.maximum(ordered, 1e-12) + 1e-9)).clip(max=n).astype(np.int64)
    rows = np.arange(1, n + 1)
    for i in range(n):
        stop = min(n, i + int(most[i]))
        candidate = best[i] + ordered[i] * rows[: stop - i] + overhead
        better = candidate < best[i + 1 : stop + 1]
        best[i + 1 : stop + 1][better] = candidate[better]
        previous[i + 1 : stop + 1][better] = i
    bounds = [n]
    while bounds[-1] > 0:
        bounds.append(int(previous[bounds[-1]]))
    return bounds[::-1]


def _pack(ordered: NDArray[np.float64], cap: float) -> list[int]:
    """Return bounds of contiguous groups, longest first, each filled up to `cap` (a longer example alone)."""
    bounds, start = [0], 0
    n = len(ordered)
    while start < n:
        start = min(n, start + max(1, int(cap / max(float(ordered[start]), 1e-12) + 1e-9)))
        bounds.append(start)
    return bounds


def _balance(members: NDArray[np.int64], ordered: NDArray[np.float64], world: int, budget: float) -> Cut:
    """Return the cut whose slowest rank is fastest, over a few numbers of micro-batches a rank."""
    fewest = -(-(len(_pack(ordered, budget)) - 1) // world)
    best: tuple[float, Cut] | None = None
    for each in range(fewest, fewest + 3):
        bounds = _into(ordered, each * world, budget)
        ranks = _assign(_micros(members, bounds), ordered, bounds, world, each)
        slowest = max(load for load, _ in ranks) + each * _START * budget
        if best is None or slowest < best[0] - 1e-12:
            filler = Micro((int(members[-1]),), filler=True)
            rows = tuple(tuple(micros + [filler] * (each - len(micros))) for _, micros in ranks)
            best = (slowest, Cut(rows))
    assert best is not None
    return best[1]


def _into(ordered: NDArray[np.float64], groups: int, budget: float) -> list[int]:
    """Return bounds of at most `groups` contiguous groups of nearly equal cost, the smallest cap that allows it."""
    # Never above the budget: with most examples longer than it, half their mean would be.
    low, high = min(float(ordered.mean()) * 0.5, budget), budget
    for _ in range(12):
        middle = (low + high) / 2
        if len(_pack(ordered, middle)) - 1 <= groups:
            high = middle
        else:
            low = middle
    bounds = _pack(ordered, high)
    while len(bounds) - 1 < groups:  # split the dearest group that can be split: fewer fillers, less padding
        sizes = np.diff(bounds)
        costs = np.where(sizes > 1, ordered[bounds[:-1]] * sizes, 0.0)
        k = int(costs.argmax())
        if costs[k] == 0.0:
            break
        bounds.insert(k + 1, bounds[k] + int(sizes[k]) // 2)
    return bounds


def _assign(
    micros: list[Micro], ordered: NDArray[np.float64], bounds: Sequence[int], world: int, each: int
) -> list[tuple[float, list[Micro]]]:
    """Return (load, micro-batches) of every rank: dearest first to the least loaded rank that has room."""
    costs = ordered[list(bounds[:-1])] * np.diff(bounds)
    heap: list[tuple[float, int, list[Micro]]] = [(0.0, rank, []) for rank in range(world)]
    full: list[tuple[float, int, list[Micro]]] = []
    for k in np.argsort(-costs, kind="stable"):
        load, rank, own = heapq.heappop(heap)
        own.append(micros[int(k)])
        item = (load + float(costs[k]), rank, own)
        if len(own) == each:
            full.append(item)
        else:
            heapq.heappush(heap, item)
    return [(load, own) for load, _, own in sorted(full + heap, key=lambda item: item[1])]
