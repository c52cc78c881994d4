"""How groups of rows are dealt to ranks so that the slowest is fast, by padded length or by a measured cost.

Rows come sorted, longest first; a group is a run of them, (first, end). All ranks have equally many micro-batches:
where a rank has fewer groups than another, fillers of one row, the shortest, make up for them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

START = 0.02
"""What starting a micro-batch costs, as a share of the budget: tells a better cut from a merely finer one."""
_SHARES = (1.0, 1.2, 0.8, 1.1, 0.9, 1.3)
"""Of an equal part of a rank's time, what its groups before the last take: the mix of lengths in the rest differs."""
_FEW = 64
"""Ranks up to which all of these shares are tried; of more ranks three, for some rank always fits and time counts."""
_WIDER = 3
"""Micro-batches a rank that are tried beyond what one rank alone would make of its share."""
_FINE = 1.005
"""Times the lower bound at which the search ends."""
_SAMPLE = 512
"""Rows that a dynamic programme is worth; of more than these a sample says how many groups there should be."""

Groups = list[tuple[int, int]]
"""Runs of sorted rows (first, end)."""
Floats = NDArray[np.float64]


def partition(ordered: Floats, row_costs: Floats, start: float, budget: float) -> list[int]:
    """Return bounds of the contiguous groups of least cost, each within the budget (a longer row alone).

    `ordered` [n] are lengths, longest first, `row_costs` [n] what a row costs that is padded to each of them, `start`
    what a group costs beside. Dynamic programme: best[j] = min over i of best[i] + cost of group i..j.
    """
    n = len(ordered)
    if n and ordered[0] * n <= budget and row_costs[0] * n - row_costs.sum() < start:
        return [0, n]  # a second group would cost its start and could save the padding at most
    best = np.full(n + 1, np.inf)
    best[0] = 0.0
    previous = np.zeros(n + 1, dtype=np.int64)
    most, rows = _most(ordered, budget), np.arange(1, n + 1)
    for i in range(n):
        stop = i + int(most[i])
        candidate = best[i] + row_costs[i] * rows[: stop - i] + start
        better = candidate < best[i + 1 : stop + 1]
        best[i + 1 : stop + 1][better] = candidate[better]
        previous[i + 1 : stop + 1][better] = i
    bounds = [n]
    while bounds[-1] > 0:
        bounds.append(int(previous[bounds[-1]]))
    return bounds[::-1]


def loads(ranks: Sequence[Groups], row_costs: Floats, start: float) -> Floats:
    """Return what each rank's groups and fillers cost [W]."""
    each, costs = max(map(len, ranks)), row_costs.tolist()
    rows = [sum((end - first) * costs[first] for first, end in groups) for groups in ranks]
    fillers = [(each - len(groups)) * costs[-1] for groups in ranks]
    return np.add(rows, fillers) + each * start


# By padded length


def by_length(ordered: Floats, world: int, budget: float) -> list[Groups]:
    """Return the groups of each rank whose slowest rank has the least padded length, over a few numbers of groups."""
    lengths = ordered.tolist()
    fewest = _fewest(lengths, world, budget)
    best: tuple[float, list[Groups]] | None = None
    for each in range(fewest, fewest + 3):
        bounds = _into(ordered, lengths, each * world, budget)
        ranks = _assign(lengths, bounds, world, each)
        slowest = max(load for load, _ in ranks) + each * START * budget
        if best is None or slowest < best[0] - 1e-12:
            best = (slowest, [groups for _, groups in ranks])
    assert best is not None
    return best[1]


def _fewest(lengths: list[float], world: int, budget: float) -> int:
    """Return the fewest groups a rank that the budget allows."""
    return -(-(len(_pack(lengths, budget)) - 1) // world)


def _pack(lengths: list[float], cap: float) -> list[int]:
    """Return bounds of contiguous groups, longest first, each filled up to `cap` (a longer example alone)."""
    bounds, start = [0], 0
    n = len(lengths)
    while start < n:
        start = min(n, start + max(1, int(cap / max(lengths[start], 1e-12) + 1e-9)))
        bounds.append(start)
    return bounds


def _into(ordered: Floats, lengths: list[float], groups: int, budget: float) -> list[int]:
    """Return bounds of at most `groups` contiguous groups of nearly equal cost, the smallest cap that allows it."""
    # Never above the budget: with most examples longer than it, half their mean would be.
    low, high = min(float(ordered.mean()) * 0.5, budget), budget
    for _ in range(12):
        middle = (low + high) / 2
        if len(_pack(lengths, middle)) - 1 <= groups:
            high = middle
        else:
            low = middle
    bounds = _pack(lengths, high)
    while len(bounds) - 1 < groups:  # split the dearest group that can be split: fewer fillers, less padding
        sizes = np.diff(bounds)
        costs = np.where(sizes > 1, ordered[bounds[:-1]] * sizes, 0.0)
        k = int(costs.argmax())
        if costs[k] == 0.0:
            break
        bounds.insert(k + 1, bounds[k] + int(sizes[k]) // 2)
    return bounds


def _assign(lengths: list[float], bounds: Sequence[int], world: int, each: int) -> list[tuple[float, Groups]]:
    """Return (load, groups) of every rank: dearest first to the least loaded rank that has room."""
    groups = list(zip(bounds[:-1], bounds[1:], strict=True))
    costs = [lengths[first] * (end - first) for first, end in groups]
    heap: list[tuple[float, int, Groups]] = [(0.0, rank, []) for rank in range(world)]
    full: list[tuple[float, int, Groups]] = []
    for k in sorted(range(len(groups)), key=lambda k: -costs[k]):
        load, rank, assigned = heapq.heappop(heap)
        assigned.append(groups[k])
        item = (load + costs[k], rank, assigned)
        if len(assigned) == each:
            full.append(item)
        else:
            heapq.heappush(heap, item)
    return [(load, assigned) for load, _, assigned in sorted(full + heap, key=lambda item: item[1])]


# By cost


def by_cost(ordered: Floats, row_costs: Floats, start: float, world: int, budget: float) -> list[Groups]:
    """Return the groups of each rank whose slowest rank is fastest: a search that ends near a lower bound.

    `row_costs` [n] is what a row costs that is padded to each of the sorted lengths, `start` what a group costs beside.
    Never slower than the cut by padded length, which is taken where the search finds nothing better.
    """
    fewest, likely, least = _bounds(ordered, row_costs, start, world, budget)
    search = _Search(row_costs, _most(ordered, budget), start, world)
    shares = _SHARES if world <= _FEW else _SHARES[:3]
    ways = ((each, share) for each in range(fewest, likely + _WIDER) for share in (shares if each > 1 else shares[:1]))
    for each, share in ways:
        search.improve(least, each, share)
        if search.slowest <= least * _FINE:
            break
    if search.ranks is not None and search.slowest <= least * (1 + 1e-9):
        return search.ranks
    plain = by_length(ordered, world, budget)
    if search.ranks is None or float(loads(plain, row_costs, start).max()) < search.slowest:
        return plain
    return search.ranks


def bound(ordered: Floats, row_costs: Floats, start: float, world: int, budget: float) -> float:
    """Return what no cut's slowest rank can be below: the longest row alone, or the mean share of the best of one rank.

    The best cut of a rank alone counts the padding and the starts that are never saved.
    """
    fewest = _fewest(ordered.tolist(), world, budget)
    whole = _alone(partition(ordered, row_costs, start, budget), row_costs, start)
    return max(_least_time(row_costs, start, world, fewest), whole / world)


def _least_time(row_costs: Floats, start: float, world: int, fewest: int) -> float:
    """Return what the slowest rank cannot be below: the longest row alone, or its share without any padding."""
    # Added up one by one: the same on every processor, as the plan must be.
    return max(start + float(row_costs[0]), float(np.cumsum(row_costs)[-1]) / world + fewest * start)


def _alone(bounds: Sequence[int], row_costs: Floats, start: float) -> float:
    """Return what contiguous groups cost one rank."""
    return sum(start + (b - a) * float(row_costs[a]) for a, b in zip(bounds[:-1], bounds[1:], strict=True))


def _bounds(ordered: Floats, row_costs: Floats, start: float, world: int, budget: float) -> tuple[int, int, float]:
    """Return the fewest groups a rank that are tried, a likely number of them, and a lower bound of the slowest."""
    fewest = _fewest(ordered.tolist(), world, budget)
    least = _least_time(row_costs, start, world, fewest)
    every = 1 + len(ordered) // _SAMPLE
    sample = slice(every - 1, None, every)
    groups = partition(ordered[sample], row_costs[sample], start / every, budget / every)
    if every == 1:
        least = max(least, _alone(groups, row_costs, start) / world)
    likely = max(fewest, -(-(len(groups) - 1) // world))
    return max(fewest, likely - 1), likely, least


def _most(ordered: Floats, budget: float) -> NDArray[np.int64]:
    """Return how many rows a group may have that begins at each row [n]."""
    n = len(ordered)
    # floor with a tolerance, else 60 / 2.4 = 24.999... rows
    most = np.maximum(1, np.floor(budget / np.maximum(ordered, 1e-12) + 1e-9)).clip(max=n).astype(np.int64)
    return np.minimum(most, np.arange(n, 0, -1))


class _Search:
    """The best ranks so far, and attempts to fit all rows into less time."""

    def __init__(self, row_costs: Floats, most: NDArray[np.int64], start: float, world: int):
        self.row_costs, self.start, self.world = row_costs, start, world
        self.costs: list[float] = row_costs.tolist()
        self.most: list[int] = most.tolist()
        # What is left from each row on, added up one by one.
        self.rest: list[float] = np.cumsum(row_costs[::-1])[::-1].tolist()
        self.slowest, self.ranks = np.inf, None  # type: float, list[Groups] | None

    def improve(self, least: float, each: int, share: float) -> None:
        """Look for a smaller limit into which `each` groups a rank fit, by bisection from the best so far."""
        # Each group more is a start more.
        low = max(least, self.rest[0] / self.world + each * self.start)
        high = min(self.slowest * 0.997, least * 1.4)
        # First whether there is anything to be had, then the least there can be.
        if low >= high or not self._take(high, each, share) or self._take(low, each, share):
            return
        while high - low > 0.003 * least and self.slowest > low * _FINE:
            middle = (low + high) / 2
            if self._take(middle, each, share):
                high = middle
            else:
                low = middle

    def _take(self, limit: float, each: int, share: float) -> bool:
        """Attempt a limit; keep what was found where it is the best. Returns whether all rows fit."""
        ranks = self._fit(limit - each * self.start, each, share)
        if ranks is None:
            return False
        split(ranks, each)
        slowest = float(loads(ranks, self.row_costs, self.start).max())
        if slowest < self.slowest:
            self.slowest, self.ranks = slowest, ranks
        return True

    def _fit(self, room: float, each: int, share: float) -> list[Groups] | None:
        """Return at most `each` groups a rank that take `room` seconds at most, starts left out, or None.

        The longest rows are dealt first, a part of each rank's room at a time; the last group of a rank takes what is
        left of it as nearly as the lengths allow that are next.
        """
        if room <= 0.0:
            return None
        costs, most, n = self.costs, self.most, len(self.costs)
        room *= 1 + 1e-12
        left, ranks, at = [room] * self.world, [[] for _ in range(self.world)], 0  # type: list[float], list[Groups], int
        for slot in range(each - 1):
            order = sorted(range(self.world), key=left.__getitem__, reverse=True) if slot else range(self.world)
            part = share / (each - slot)
            for rank in order:
                if at == n:
                    return ranks
                cost = costs[at]
                fits = int(left[rank] / cost)
                if fits:
                    rows = min(max(1, int(part * left[rank] / cost + 0.5)), fits, most[at])
                    ranks[rank].append((at, at + rows))
                    left[rank] -= rows * cost
                    at += rows
        return ranks if self._fill(ranks, left, at, each) else None

    def _fill(self, ranks: list[Groups], left: list[float], at: int, each: int) -> bool:
        """Give the rows from `at` on to ranks with fewer than `each` groups, best fit first; tell whether all fit."""
        costs, n = self.costs, len(self.costs)
        live = [rank for rank, groups in enumerate(ranks) if len(groups) < each]
        room = np.array([left[rank] for rank in live])
        while at < n:
            if not live or float(room.sum()) < self.rest[at] * (1 - 1e-9):
                return False
            rows = np.minimum(np.floor(room / costs[at]), self.most[at])
            waste = np.where(rows > 0, room - rows * costs[at], np.inf)
            gone = []
            for k in _least(waste, max(1, len(live) // 24)):
                if at == n:
                    break
                many = min(int(room[k] / costs[at]), self.most[at])
                if not many:
                    return False
                ranks[live[k]].append((at, at + many))
                room[k] -= many * costs[at]
                at += many
                if len(ranks[live[k]]) == each:
                    gone.append(k)
            if gone:
                room = np.delete(room, gone)
                for k in sorted(gone, reverse=True):
                    del live[k]
        return True


def _least(waste: Floats, count: int) -> Iterator[int]:
    """Yield the places of the `count` least values, the least first; of those that are infinite the first alone."""
    if count == 1:
        yield int(waste.argmin())
        return
    order = np.argsort(waste, kind="stable")[:count]
    yield from (int(k) for place, k in enumerate(order) if not place or waste[k] < np.inf)


def split(ranks: Sequence[Groups], each: int) -> None:
    """Split the groups of ranks that have fewer than `each`, in place: a filler would be forwarded for nothing."""
    for groups in ranks:
        while len(groups) < each:
            k = max(range(len(groups)), key=lambda k: groups[k][1] - groups[k][0], default=None)
            if k is None or groups[k][1] - groups[k][0] < 2:
                break
            first, end = groups[k]
            middle = (first + end) // 2
            groups[k : k + 1] = [(first, middle), (middle, end)]
