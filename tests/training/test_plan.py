"""The plan's rules, each as a property, and what a cut costs on durations like IEMOCAP's."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.training import plan

counts = st.integers(1, 400)
sizes = st.integers(1, 80)
seeds = st.integers(0, 2**31 - 1)
quick = settings(max_examples=60, deadline=None)


def durations(n: int, seed: int = 0) -> np.ndarray:
    """Return durations like IEMOCAP's: mean 4.5 s, .6 to 34 s."""
    sigma = 0.65
    drawn = np.random.default_rng(seed).lognormal(np.log(4.5) - sigma**2 / 2, sigma, n)
    return np.clip(drawn, 0.6, 34.0)


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Draw lengths, members of a global batch, a world and a budget; ties, tiny and huge budgets included."""
    one = st.floats(0.01, 40.0) | st.sampled_from([0.15, 0.2, 1.0, 2.4, 10.0])
    lengths = np.array(draw(st.lists(one, min_size=1, max_size=60)))
    members = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=len(lengths), unique=True))
    world = draw(st.integers(1, 9))
    budget = draw(st.floats(0.05, 200.0) | st.sampled_from([0.2, 1.0, 60.0]))
    return lengths, np.array(members), world, budget


# The draw


@quick
@given(counts, sizes)
def test_steps_an_epoch_are_the_nearest_whole_number_and_at_least_one(n, batch):
    steps = plan.steps_per_epoch(n, batch)
    assert steps >= 1
    assert abs(steps - n / batch) <= 0.5 or (steps == 1 and n < batch)


def test_steps_of_halves_round_up():
    assert [plan.steps_per_epoch(n, 64) for n in (1, 31, 32, 95, 96, 160)] == [1, 1, 1, 1, 2, 3]


@quick
@given(counts, sizes, seeds, st.integers(0, 50))
def test_an_epoch_is_a_permutation_in_batches_that_differ_by_one_at_most(n, batch, seed, epoch):
    drawn = plan.draw(n, batch, seed, epoch)
    assert len(drawn) == plan.steps_per_epoch(n, batch)
    lengths = [len(members) for members in drawn]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1
    assert sorted(np.concatenate(drawn).tolist()) == list(range(n))


@quick
@given(counts, sizes, seeds, st.integers(0, 50))
def test_the_draw_is_a_pure_function_of_its_arguments(n, batch, seed, epoch):
    np.random.seed(seed)
    first = plan.draw(n, batch, seed, epoch)
    np.random.rand(3)
    again = plan.draw(n, batch, seed, epoch)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_seeds_and_epochs_draw_other_batches():
    orders = {tuple(np.concatenate(plan.draw(50, 8, seed, epoch))) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_batches_are_drawn_at_random_not_by_length():
    """Sorting an epoch by length would bias every batch statistic."""
    lengths = np.arange(1000, dtype=float)
    means = [lengths[members].mean() for members in plan.draw(1000, 50, 0, 0)]
    assert np.std(means) == pytest.approx(lengths.std() / np.sqrt(50), rel=0.5)


@quick
@given(batches(), st.integers(1, 9), st.floats(0.1, 100.0))
def test_world_and_budget_change_no_batch(batch, world, budget):
    lengths, members, other_world, other_budget = batch
    one = plan.cut(lengths, members, world, budget).indices
    other = plan.cut(lengths, members, other_world, other_budget).indices
    assert sorted(one) == sorted(other) == sorted(members.tolist())


# The cut


@settings(max_examples=200, deadline=None)
@given(batches())
def test_every_rule_of_a_cut(batch):
    lengths, members, world, budget = batch
    cut = plan.cut(lengths, members, world, budget)
    assert len(cut.ranks) == world
    assert len({len(rank) for rank in cut.ranks}) == 1, "every rank has the same number of micro-batches"
    micros = [micro for rank in cut.ranks for micro in rank]
    real = [micro for micro in micros if not micro.filler]
    assert sorted(i for micro in real for i in micro.indices) == sorted(members.tolist()), "each member exactly once"
    for micro in micros:
        mine = lengths[list(micro.indices)]
        assert len(mine) >= 1
        assert (np.diff(mine) <= 0).all(), "sorted by length inside"
        assert len(mine) == 1 or plan.cost(lengths, [micro]) <= budget * (1 + 1e-8), "within the budget unless alone"
    for micro in micros:
        if micro.filler:
            assert set(micro.indices) <= set(members.tolist())
    for rank in cut.ranks:
        flags = [micro.filler for micro in rank]
        assert flags == sorted(flags), "fillers come last, after what there is to do"


@settings(max_examples=100, deadline=None)
@given(batches())
def test_fillers_only_where_a_rank_is_short(batch):
    lengths, members, world, budget = batch
    cut = plan.cut(lengths, members, world, budget)
    fillers = [micro for rank in cut.ranks for micro in rank if micro.filler]
    if world == 1:
        assert not fillers
    for micro in fillers:
        # One row, the cheapest: it is forwarded for nothing.
        assert [float(lengths[i]) for i in micro.indices] == [float(lengths[members].min())]
    real = sum(not micro.filler for rank in cut.ranks for micro in rank)
    # Every group of several could have been split instead.
    if fillers:
        assert real == len(members)


@quick
@given(batches(), seeds)
def test_a_cut_is_a_pure_function_of_what_is_in_the_batch(batch, seed):
    lengths, members, world, budget = batch
    shuffled = np.random.default_rng(seed).permutation(members)
    before = lengths.copy()
    cut = plan.cut(lengths, members, world, budget)
    assert plan.cut(lengths, members, world, budget) == cut
    assert plan.cut(lengths, shuffled, world, budget) == cut
    assert plan.cut(lengths, shuffled.tolist(), world, budget) == cut
    assert np.array_equal(lengths, before)


def test_fewer_examples_than_ranks_leaves_ranks_of_fillers():
    cut = plan.cut(np.array([3.0, 1.0, 2.0]), [0, 1, 2], 5, 10.0)
    assert sorted(cut.indices) == [0, 1, 2]
    alone = [rank for rank in cut.ranks if all(micro.filler for micro in rank)]
    assert len(alone) == 2
    assert all(rank == (plan.Micro((1,), filler=True),) for rank in alone)


def test_an_example_over_the_budget_travels_alone():
    lengths = np.array([70.0, 5.0, 90.0, 5.0])
    for world in (1, 2, 3):
        micros = [m for rank in plan.cut(lengths, range(4), world, 60.0).ranks for m in rank if not m.filler]
        assert plan.Micro((0,)) in micros
        assert plan.Micro((2,)) in micros


def test_examples_over_the_budget_do_not_raise_it_for_the_others():
    """Found by search: the cap must stay at the budget where most examples are longer than it."""
    lengths = np.array([10.0, 10.0, 10.0, 0.2, 0.05, 0.05, 0.05, 0.05])
    for world in range(2, 9):
        micros = [micro for rank in plan.cut(lengths, range(8), world, 0.2).ranks for micro in rank]
        assert all(len(m.indices) == 1 or plan.cost(lengths, [m]) <= 0.2 + 1e-9 for m in micros)


def test_a_budget_that_divides_exactly_is_used_whole():
    """60 / 2.4 is 24.999999999999996 in floating point and 25 rows all the same."""
    cut = plan.cut(np.full(25, 2.4), range(25), 1, 60.0)
    assert len(cut.ranks[0]) == 1


@quick
@given(st.lists(st.floats(0.1, 30.0), min_size=1, max_size=9), st.floats(0.5, 60.0))
def test_one_rank_cuts_at_least_cost(lengths, budget):
    """Against every way of cutting the sorted batch into contiguous groups."""
    ordered = sorted(lengths, reverse=True)
    n = len(ordered)
    least = np.inf
    for mask in range(2 ** (n - 1)):
        bounds = [0, *(k + 1 for k in range(n - 1) if mask >> k & 1), n]
        groups = [ordered[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        if all(len(g) == 1 or len(g) * g[0] <= budget * (1 + 1e-9) for g in groups):
            least = min(least, sum(len(g) * g[0] + 0.02 * budget for g in groups))
    found = plan.cut(np.array(lengths), range(n), 1, budget).ranks[0]
    total = sum(plan.cost(np.array(lengths), [micro]) + 0.02 * budget for micro in found)
    assert total == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize(("n", "batch"), [(0, 8), (-1, 8), (8, 0), (8, -3)])
def test_nothing_to_draw_from_is_refused(n, batch):
    with pytest.raises(ValueError, match="at least one example"):
        plan.steps_per_epoch(n, batch)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("world", [1, 3])
def test_a_budget_that_is_not_positive_is_refused(budget, world):
    with pytest.raises(ValueError, match="budget must be positive"):
        plan.cut(np.ones(4), range(4), world, budget)


# What it costs


def test_cost_and_padding_by_hand():
    lengths = np.array([4.0, 2.0, 1.0])
    cut = plan.Cut(((plan.Micro((0, 1)),), (plan.Micro((2,)),)))
    assert plan.cost(lengths, cut.ranks[0]) == 8.0
    assert plan.padding(lengths, [cut]) == pytest.approx(1 - 7 / 9)
    filled = plan.Cut(((plan.Micro((0,)),), (plan.Micro((2,), filler=True),)))
    assert plan.padding(lengths, [filled]) == pytest.approx(1 - 4 / 5)


def test_padding_on_durations_like_iemocaps():
    lengths = durations(10_039)
    random = np.random.default_rng(1)
    draws = [random.choice(len(lengths), 64, replace=False) for _ in range(1000)]
    mean = np.mean([plan.padding(lengths, [plan.cut(lengths, members, 1, 60.0)]) for members in draws])
    assert mean <= 0.16
    # What it replaces: random micro-batches of 16 are mostly padding.
    naive = np.mean([1 - lengths[m[:16]].mean() / lengths[m[:16]].max() for m in draws])
    assert naive > 0.5


def test_slowest_of_64_ranks():
    lengths = durations(10_039)
    random = np.random.default_rng(2)
    over = []
    for _ in range(30):
        cut = plan.cut(lengths, random.choice(len(lengths), 1024, replace=False), 64, 60.0)
        loads = [plan.cost(lengths, rank) for rank in cut.ranks]
        over.append(max(loads) / np.mean(loads) - 1)
    assert np.mean(over) <= 0.05
    assert max(over) <= 0.055


def test_an_epoch_of_100_000_utterances_is_planned_within_two_seconds():
    lengths = durations(100_000)
    for batch, world in ((64, 1), (1024, 64)):
        best = np.inf
        for epoch in range(3):  # the best of three, of this process: other programs run here too
            begun = time.process_time()
            for members in plan.draw(len(lengths), batch, 0, epoch):
                plan.cut(lengths, members, world, 60.0)
            best = min(best, time.process_time() - begun)
            if best < 2.0:
                break
        assert best < 2.0


@quick
@given(batches(), st.floats(0.0, 300.0))
def test_as_many_graphs_are_held_as_fit_on_every_rank(drawn, capacity):
    lengths, members, world, budget = drawn
    cut = plan.cut(lengths, members, world, budget)
    held = plan.holdable(lengths, cut, capacity)
    assert all(plan.cost(lengths, rank[:held]) <= capacity * (1 + 1e-6) for rank in cut.ranks)
    more = [plan.cost(lengths, rank[: held + 1]) for rank in cut.ranks]
    assert held == len(cut.ranks[0]) or max(more) > capacity
