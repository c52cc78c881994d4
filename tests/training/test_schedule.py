"""The schedule: steps and epochs, and the orders that all ranks follow."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from affect.recipe import Train
from affect.training import plan
from affect.training.schedule import Schedule

LENGTHS = np.random.default_rng(0).uniform(0.5, 9.0, 37)


def make(*, world: int = 1, budget: float = 12.0, seed: int = 3, **train) -> Schedule:
    return Schedule(LENGTHS, Train(**{"batch": 8, "epochs": 3, **train}), seed, world, budget)


def test_epochs_and_steps():
    schedule = make()
    assert (schedule.per_epoch, schedule.steps) == (5, 15)
    assert [schedule.epoch(step) for step in (0, 4, 5, 14)] == [0, 0, 1, 2]
    assert [step for step in range(15) if schedule.ends_epoch(step)] == [4, 9, 14]


@pytest.mark.parametrize(("steps", "wanted"), [(7, 7), (1, 1), (15, 15), (100, 15)])
def test_steps_cut_the_epochs_short_and_end_the_last_one(steps, wanted):
    schedule = make(steps=steps)
    assert schedule.steps == wanted
    assert schedule.ends_epoch(wanted - 1)
    assert len({order.key.epoch for order in schedule.orders(0, 0)}) == -(-wanted // 5)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_orders_of_all_ranks_are_the_global_batches(world):
    schedule = make(world=world)
    drawn = [members for epoch in range(3) for members in plan.draw(len(LENGTHS), 8, 3, epoch)]
    orders = [list(schedule.orders(rank, 0)) for rank in range(world)]
    assert len({len(mine) for mine in orders}) == 1
    for step, members in enumerate(drawn):
        each = len(schedule.cut(step).ranks[0])
        taken = [mine[:each] for mine in orders]
        orders = [mine[each:] for mine in orders]
        found = [i for mine in taken for order in mine if not order.micro.filler for i in order.micro.indices]
        assert sorted(found) == sorted(members.tolist())
        assert {(order.key.seed, order.key.epoch) for mine in taken for order in mine} == {(3, step // 5)}
    assert not any(orders)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("start", [0, 1, 5, 7, 14, 15])
def test_resuming_at_a_step_gives_the_rest_of_the_whole(world, start):
    whole = make(world=world)
    for rank in range(world):
        done = sum(len(whole.cut(step).ranks[rank]) for step in range(start))
        assert list(make(world=world).orders(rank, start)) == list(whole.orders(rank, 0))[done:]


def test_neither_world_nor_budget_change_what_is_in_a_step():
    one, other = make(), make(world=3, budget=4.0)
    for step in range(one.steps):
        assert sorted(one.cut(step).indices) == sorted(other.cut(step).indices)
    assert any(one.cut(step).indices != make(seed=4).cut(step).indices for step in range(15))


def test_every_epoch_holds_every_example_once():
    schedule = make()
    for _, steps in groupby(range(schedule.steps), schedule.epoch):
        assert sorted(i for step in steps for i in schedule.cut(step).indices) == list(range(37))


def test_over_budget_names_the_rows_that_travel_alone():
    schedule = make(budget=6.0)
    assert schedule.over_budget().tolist() == np.flatnonzero(LENGTHS > 6.0).tolist() != []
    assert make(budget=9.0).over_budget().tolist() == []


def test_figures_are_those_of_the_cuts():
    schedule = make(world=2)
    figures = schedule.figures(4)
    cuts = [schedule.cut(step) for step in range(4)]
    loads = np.array([[plan.cost(LENGTHS, rank) for rank in cut.ranks] for cut in cuts])
    assert figures["micro_batches"] == np.mean([len(cut.ranks[0]) for cut in cuts])
    assert figures["padding"] == plan.padding(LENGTHS, cuts)
    assert figures["slowest_rank"] == pytest.approx(np.mean(loads.max(1) / loads.mean(1)) - 1)
    assert figures["largest_share"] == loads.max()
    assert make().figures(1000)["slowest_rank"] == 0.0
