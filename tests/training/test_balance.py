"""Groups dealt to ranks by cost: every rule as a property, never slower than by length, near the bound."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.training import balance, cost_probe, plan
from affect.training.costs import Costs
from tests.training.test_plan import batches, durations

MEASURED = Costs(0.01769, 0.011994, 0.000894)
"""Seconds of the small WavLM of docs/experiments.md on a CPU."""
start, second = st.floats(0.0, 0.1), st.floats(1e-6, 0.1)
square = st.just(0.0) | st.floats(1e-7, 0.01)
costs = (
    st.builds(Costs, start, second, square)
    | st.builds(Costs, start, st.just(0.0), st.floats(1e-7, 0.01))
    | st.builds(Costs, second, st.just(0.0), st.just(0.0))
)


def podcast(n: int, seed: int = 0) -> np.ndarray:
    """Return durations like MSP-Podcast's: mean 5.6 s, 2.75 to 11 s."""
    return np.clip(np.random.default_rng(seed).lognormal(np.log(5.65) - 0.42**2 / 2, 0.42, n), 2.75, 11.0)


def slowest(lengths: np.ndarray, cut: plan.Cut, by: Costs) -> float:
    return max(plan.seconds(lengths, rank, by) for rank in cut.ranks)


@settings(max_examples=300, deadline=None)
@given(batches(), costs)
def test_every_rule_of_a_cut_by_cost(batch, by):
    lengths, members, world, budget = batch
    cut = plan.cut(lengths, members, world, budget, by)
    assert len(cut.ranks) == world
    assert len({len(rank) for rank in cut.ranks}) == 1, "every rank has the same number of micro-batches"
    assert sorted(cut.indices) == sorted(members.tolist()), "each member exactly once"
    for rank in cut.ranks:
        assert [micro.filler for micro in rank] == sorted(micro.filler for micro in rank), "fillers come last"
        for micro in rank:
            mine = lengths[list(micro.indices)]
            assert (np.diff(mine) <= 0).all(), "sorted by length inside"
            assert len(mine) == 1 or plan.cost(lengths, [micro]) <= budget * (1 + 1e-8), "within the budget"
            if micro.filler:
                assert mine.tolist() == [lengths[members].min()], "one row, the cheapest"


@settings(max_examples=300, deadline=None)
@given(batches(), costs)
def test_by_cost_no_rank_is_slower_than_by_length_or_faster_than_the_bound(batch, by):
    lengths, members, world, budget = batch
    found = slowest(lengths, plan.cut(lengths, members, world, budget, by), by)
    assert found <= slowest(lengths, plan.cut(lengths, members, world, budget), by) * (1 + 1e-6)
    ordered = np.sort(lengths[members])[::-1]
    assert found >= balance.bound(ordered, by.rows(ordered), by.start, world, budget) * (1 - 1e-6) - 1e-12


@settings(max_examples=60, deadline=None)
@given(batches(), costs, st.integers(0, 99))
def test_a_cut_by_cost_is_a_pure_function_of_what_is_in_the_batch(batch, by, seed):
    lengths, members, world, budget = batch
    cut = plan.cut(lengths, members, world, budget, by)
    assert plan.cut(lengths, np.random.default_rng(seed).permutation(members), world, budget, by) == cut


@pytest.mark.parametrize("drawn", [durations, podcast])
@pytest.mark.parametrize("batch", [32, 64, 256, 1024, 8192])
@pytest.mark.parametrize("world", [1, 2, 3, 8, 32, 100, 512])
def test_never_slower_than_by_length_at_any_world_and_batch(drawn, batch, world):
    lengths = drawn(batch, seed=world)
    for by in (MEASURED, Costs(0.1, 0.01, 0.0), Costs(0.0, 0.001, 0.01)):
        old, new = plan.cut(lengths, range(batch), world, 60.0), plan.cut(lengths, range(batch), world, 60.0, by)
        assert slowest(lengths, new, by) <= slowest(lengths, old, by) * (1 + 1e-9)


@pytest.mark.parametrize(("drawn", "limit"), [(durations, 1.03), (podcast, 1.035)])
@pytest.mark.parametrize("world", [2, 4, 8, 16, 32, 64, 128, 512])
def test_the_slowest_rank_is_near_the_bound(drawn, limit, world):
    near_the_bound(drawn(10_039), world, 60.0, MEASURED, limit)


@pytest.mark.parametrize("drawn", [durations, podcast])
@pytest.mark.parametrize("world", [2, 8, 64])
@pytest.mark.parametrize("budget", [30.0, 60.0, 120.0])
def test_the_least_start_that_a_run_plans_by_costs_little_where_it_is_too_high(drawn, world, budget):
    lengths = drawn(10_039)
    by = cost_probe.started(MEASURED, lengths)
    assert by.start > 1.5 * MEASURED.start
    near_the_bound(lengths, world, budget, by, 1.035)


@pytest.mark.parametrize("drawn", [durations, podcast])
@pytest.mark.parametrize("world", [1, 2, 8, 64, 512])
def test_planned_by_the_least_start_a_step_is_hardly_ever_slower_than_by_length(drawn, world):
    lengths, random = drawn(10_039), np.random.default_rng(world)
    by, taken = cost_probe.started(MEASURED, lengths), []
    for _ in range(8 if world < 64 else 2):
        members = random.choice(len(lengths), max(64, 8 * world), replace=False)
        taken.append([slowest(lengths, plan.cut(lengths, members, world, 60.0, own), MEASURED) for own in (by, None)])
    ours, theirs = np.mean(taken, axis=0)
    assert ours <= 1.01 * theirs


def near_the_bound(lengths: np.ndarray, world: int, budget: float, by: Costs, limit: float) -> None:
    """Hold that cuts by these costs take at most `limit` of the bound, in the seconds that were measured."""
    random, found, bounds = np.random.default_rng(world), [], []
    for _ in range(12 if world < 100 else 3):
        members = random.choice(len(lengths), max(64, 8 * world), replace=False)
        ordered = np.sort(lengths[members])[::-1]
        found.append(slowest(lengths, plan.cut(lengths, members, world, budget, by), MEASURED))
        bounds.append(balance.bound(ordered, MEASURED.rows(ordered), MEASURED.start, world, budget))
    assert np.mean(found) <= limit * np.mean(bounds)


def test_one_rank_cuts_at_least_cost():
    """Against every way of cutting the sorted batch into contiguous groups."""
    lengths = np.array([9.0, 7.5, 7.0, 3.0, 2.5, 2.0, 1.0, 0.5])
    by, n = Costs(0.05, 0.01, 0.002), 8
    least = np.inf
    for mask in range(2 ** (n - 1)):
        bounds = [0, *(k + 1 for k in range(n - 1) if mask >> k & 1), n]
        groups = [lengths[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        if all(len(g) == 1 or len(g) * g[0] <= 20.0 for g in groups):
            least = min(least, sum(by.micro(len(g), float(g[0])) for g in groups))
    assert slowest(lengths, plan.cut(lengths, range(n), 1, 20.0, by), by) == pytest.approx(least)


def test_a_rank_splits_its_groups_before_it_forwards_fillers():
    ranks = [[(0, 1)], [(1, 6)], []]
    balance.split(ranks, 3)
    assert ranks == [[(0, 1)], [(1, 3), (3, 4), (4, 6)], []]


def test_4096_rows_for_512_ranks_are_cut_within_a_tenth_of_a_second():
    for drawn in (durations, podcast):
        lengths, best = drawn(4096), np.inf
        for _ in range(5):  # the best of five: other programs run here too
            begun = time.process_time()
            plan.cut(lengths, range(4096), 512, 60.0, MEASURED)
            best = min(best, time.process_time() - begun)
        assert best < 0.1
