"""The plan: which examples form each global batch, and how a global batch is cut into micro-batches.

The draw decides what is optimised and depends on (n, batch, seed, epoch) alone. The cut decides speed and memory
and cannot change the result. A length is in seconds, frames or rows, the padded cost of a micro-batch
is its rows times its longest length, and the budget is the largest one it may have. Where it is known what a
micro-batch takes (`Costs`), groups and ranks are chosen by that, within the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affect.training import balance
from affect.training.costs import Costs


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


def cut(
    lengths: NDArray[np.float64], members: Sequence[int] | NDArray[np.int64], world: int, budget: float,
    costs: Costs | None = None,
) -> Cut:  # fmt: skip
    """Cut the global batch `members` into micro-batches of at most `budget`, balanced over `world` ranks.

    Every rank gets the same number of micro-batches. An example longer than the budget travels alone. What is balanced
    is the seconds that `costs` say, or where they are not known the padded length. Raises ValueError when the budget
    is not positive.
    """
    if not budget > 0:
        raise ValueError(f"the budget must be positive, not {budget}")
    members = np.asarray(members, dtype=np.int64)
    # Longest first, ties by index: the cut is a pure function of what is in the batch, not of its order.
    members = members[np.lexsort((members, -lengths[members]))]
    ordered = lengths[members]
    row_costs, start = (ordered, balance.START * budget) if costs is None else (costs.rows(ordered), costs.start)
    if world == 1:
        bounds = balance.partition(ordered, row_costs, start, budget)
        ranks = [list(zip(bounds[:-1], bounds[1:], strict=True))]
    elif costs is None:
        ranks = balance.by_length(ordered, world, budget)
    else:
        ranks = balance.by_cost(ordered, row_costs, start, world, budget)
    each, indices = max(map(len, ranks)), members.tolist()
    filler = Micro((indices[-1],), filler=True)
    micros = [[Micro(tuple(indices[first:end])) for first, end in groups] for groups in ranks]
    return Cut(tuple((*batches, *[filler] * (each - len(batches))) for batches in micros))


def cost(lengths: NDArray[np.float64], micros: Sequence[Micro]) -> float:
    """Return the padded cost of micro-batches: the sum of rows times longest length."""
    return float(sum(len(m.indices) * lengths[list(m.indices)].max() for m in micros))


def seconds(lengths: NDArray[np.float64], micros: Sequence[Micro], costs: Costs) -> float:
    """Return the seconds that micro-batches take, one after another, forward and backward."""
    return sum(costs.micro(len(m.indices), float(lengths[list(m.indices)].max())) for m in micros)


def holdable(lengths: NDArray[np.float64], cut: Cut, capacity: float) -> int:
    """Return how many of each rank's first micro-batches cost at most `capacity` together, on every rank."""
    spent = [np.cumsum([cost(lengths, [micro]) for micro in rank]) for rank in cut.ranks]
    return min(int(np.searchsorted(costs, capacity * (1 + 1e-9), side="right")) for costs in spent)


def padding(lengths: NDArray[np.float64], cuts: Sequence[Cut]) -> float:
    """Return the share of the padded cost that is padding or filler, over all ranks of these cuts."""
    padded = sum(cost(lengths, rank) for c in cuts for rank in c.ranks)
    return 1.0 - float(sum(lengths[c.indices].sum() for c in cuts)) / padded if padded else 0.0
