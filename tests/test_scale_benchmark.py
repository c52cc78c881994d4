"""What benchmarks/scale.py simulates: its pure functions, on small cases and on the corpora it speaks of."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect.training import plan


def load() -> ModuleType:
    """Return the script as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "scale.py"
    specification = importlib.util.spec_from_file_location("benchmark_of_scale", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # a dataclass looks its module up
    specification.loader.exec_module(module)
    return module


scale = load()
COSTS = scale.Costs(start=0.02, second=0.01, square=0.0002, update=0.005, megabytes=4.0)
CORPORA = {"iemocap": scale.iemocap_like(), "podcast": scale.podcast_like()}
quick = settings(max_examples=60, deadline=None)


def members_of(ranks) -> list[int]:
    return sorted(i for rank in ranks for micro in rank if not micro.filler for i in micro.indices)


def simulate(name: str, world: int, costs=COSTS, network=(12.5, 2e-5), steps: int = 4) -> dict[str, float]:
    return scale.simulate(CORPORA[name], world, costs, budget=60.0, rows=8, steps=steps, network=network)


def test_the_corpora_are_as_long_as_said() -> None:
    iemocap, podcast = CORPORA["iemocap"], CORPORA["podcast"]
    assert iemocap.mean() == pytest.approx(4.5, abs=0.05)
    assert (iemocap.min(), iemocap.max()) == (0.6, 34.0)
    assert podcast.mean() == pytest.approx(5.8, abs=0.25)
    assert (podcast.min(), podcast.max()) == (2.75, 11.0)


@quick
@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 9), st.integers(0, 99))
def test_dealing_keeps_every_utterance_once_in_equal_counts(n, world, rows, seed) -> None:
    members = np.random.default_rng(seed).permutation(n)
    ranks = scale.deal(members, world, rows)
    assert len(ranks) == world
    assert members_of(ranks) == list(range(n))
    counts = [sum(len(micro.indices) for micro in rank) for rank in ranks]
    assert max(counts) - min(counts) <= 1
    assert all(len(micro.indices) == rows for rank in ranks for micro in rank[:-1])
    assert all(1 <= len(micro.indices) <= rows for rank in ranks for micro in rank)


@pytest.mark.parametrize("world", [1, 8, 64, 512])
def test_an_epoch_has_every_utterance_once_either_way(world: int) -> None:
    lengths = CORPORA["iemocap"]
    batch = max(64, 8 * world)
    per_epoch = plan.steps_per_epoch(len(lengths), batch)
    drawn = list(itertools.islice(scale.batches(lengths, batch), per_epoch))
    for cut in (lambda m: plan.cut(lengths, m, world, 60.0).ranks, lambda m: scale.deal(m, world, 8)):
        seen = [i for members in drawn for i in members_of(cut(members))]
        assert sorted(seen) == list(range(len(lengths)))
    again = list(itertools.islice(scale.batches(lengths, batch), 2 * per_epoch))[per_epoch:]
    assert sorted(np.concatenate(again).tolist()) == list(range(len(lengths)))
    assert any((a != b).any() for a, b in zip(drawn, again, strict=True) if len(a) == len(b))


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_one_rank_waits_for_nobody(name: str) -> None:
    found = simulate(name, 1)
    assert found["plan_waiting"] == found["random_waiting"] == 0.0
    # Nor does it reduce anything.
    assert found["plan_step"] == pytest.approx(found["plan_slowest"] + COSTS.update)


@pytest.mark.parametrize("name", sorted(CORPORA))
@pytest.mark.parametrize("world", scale.WORLDS)
def test_the_plan_pads_and_waits_less_than_random_batches(name: str, world: int) -> None:
    found = simulate(name, world)
    assert found["batch"] == max(64, 8 * world)
    assert 0 <= found["plan_padding"] < found["random_padding"] < 1
    assert found["plan_waiting"] <= found["random_waiting"]
    assert found["bound"] <= found["plan_slowest"] * (1 + 1e-9)
    assert found["plan_slowest"] <= found["length_slowest"] * (1 + 1e-9)
    assert found["plan_step"] < found["random_step"]


def test_costs_by_hand() -> None:
    costs = scale.Costs(start=1.0, second=0.1, square=0.01, update=0.5, megabytes=1000.0)
    assert costs.micro(3, 2.0) == pytest.approx(1 + 0.6 + 0.12)
    lengths = np.array([2.0, 1.0, 4.0, 3.0])
    ranks = (plan.Micro((0, 1)), plan.Micro((2,))), (plan.Micro((3,)), plan.Micro((1,), filler=True))
    slow, fast = (1 + 0.4 + 0.08) + (1 + 0.4 + 0.16), (1 + 0.3 + 0.09) + (1 + 0.1 + 0.01)
    assert [costs.rank(lengths, rank) for rank in ranks] == pytest.approx([slow, fast])
    found = scale.figures(lengths, [ranks], costs)
    assert found["slowest"] == pytest.approx(slow)
    assert found["waiting"] == pytest.approx(2 * slow / (slow + fast) - 1)
    assert found["padding"] == pytest.approx(1 - 10 / 12)
    # A ring sends 2 (W - 1) / W of the bytes, in 2 (W - 1) messages.
    assert costs.reduce(1, 10.0, 1.0) == 0.0
    assert costs.reduce(2, 10.0, 0.0) == pytest.approx(0.1)
    assert costs.reduce(4, 10.0, 0.001) == pytest.approx(0.15 + 0.006)


def test_a_slow_network_costs_both_ways_the_same() -> None:
    near, far = (simulate("iemocap", 8, network=network) for network in ((12.5, 0.0), (0.01, 0.0)))
    more = COSTS.reduce(8, 0.01, 0.0) - COSTS.reduce(8, 12.5, 0.0)
    assert more > 0.5
    for way in ("plan", "random"):
        assert far[f"{way}_step"] - near[f"{way}_step"] == pytest.approx(more)
        assert far[f"{way}_waiting"] == near[f"{way}_waiting"]


@quick
@given(st.floats(0.001, 0.1), st.floats(0.001, 0.1), st.floats(0.0, 0.01), st.integers(0, 99))
def test_the_fit_finds_the_costs_that_made_the_times(start, second, square, seed) -> None:
    random = np.random.default_rng(seed)
    shapes = [(int(rows), float(longest)) for rows, longest in zip(*random.uniform(1, 20, (2, 12)), strict=True)]
    true = scale.Costs(start, second, square, 0.0, 0.0)
    found = scale.fit([(rows, longest, true.micro(rows, longest)) for rows, longest in shapes], 0.0, 0.0)
    for shape in shapes:
        assert found.micro(*shape) == pytest.approx(true.micro(*shape), rel=1e-6)


def test_no_cost_is_below_zero() -> None:
    """Times that fall with length can't be had from costs: the fit gives what is nearest."""
    found = scale.fit([(1, 1.0, 3.0), (1, 2.0, 2.0), (1, 3.0, 1.0)], 0.1, 2.0)
    assert min(found.start, found.second, found.square) >= 0
    assert (found.update, found.megabytes) == (0.1, 2.0)


def test_a_measured_run_is_predicted_by_its_slowest_rank() -> None:
    steps = [[[(1, 2.0)], [(2, 2.0)]], [[(1, 4.0)], [(1, 1.0)]]]
    seconds = [COSTS.micro(2, 2.0), COSTS.micro(1, 4.0)]
    assert scale.predicted({"shapes": steps}, COSTS) == pytest.approx(np.mean(seconds) + COSTS.update)
