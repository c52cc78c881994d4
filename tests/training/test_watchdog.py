"""The watchdog's judgement: who keeps the others waiting."""

from __future__ import annotations

import time
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from affect.training import watchdog
from affect.training.watchdog import PHASES, Place, Watchdog, hindmost


def place(rank: int, step: int, phase: str, where: str = "loop.py:1 take") -> Place:
    return Place(rank=rank, host=f"node{rank}", step=step, phase=phase, seconds=31.2, where=where, beat=1)


def test_the_one_furthest_behind_is_named_with_its_machine_and_line():
    words = hindmost([place(0, 8, "exchange"), place(1, 8, "loading", "audio.py:7 decode"), place(2, 9, "loading")], [])
    assert words == "rank 1 (node1) has been at step 8, loading, for 31 s, in audio.py:7 decode"


def test_of_several_at_one_place_those_inside_a_collective_wait():
    waiting = "distributed_c10d.py:2900 all_reduce"
    words = hindmost([place(0, 8, "update", waiting), place(1, 8, "update"), place(2, 8, "update", waiting)], [])
    assert words.startswith("rank 1 (node1)")
    assert "rank 0" not in words
    assert hindmost([place(r, 8, "update", waiting) for r in (0, 1)], []).count("rank") == 2


def test_the_silent_come_before_all():
    words = hindmost([place(0, 1, "loading"), place(1, 8, "saving")], [place(1, 8, "saving")])
    assert words == "no sign of life from rank 1 (node1), last seen at step 8, saving"


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(PHASES)), min_size=1, max_size=6))
def test_nobody_ahead_of_another_is_named(stands):
    words = hindmost([place(rank, *stand) for rank, stand in enumerate(stands)], [])
    least = min((step, PHASES.index(phase)) for step, phase in stands)
    for rank, (step, phase) in enumerate(stands):
        assert (f"rank {rank} " in words) == ((step, PHASES.index(phase)) == least)


def test_what_moves_is_left_alone(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(Watchdog, "_end", lambda self: ended.append(self._place()))
    with Watchdog(SimpleNamespace(world=1, rank=0), tmp_path / "log", 0.5 / 60):
        time.sleep(0.9)
        assert ended == [], "preparing may take hours"
        for step in range(20):
            watchdog.mark("loading", step)
            time.sleep(0.05)
        assert ended == []
        watchdog.mark("backward")
        time.sleep(0.9)
        assert (ended[0].step, ended[0].phase) == (19, "backward")
        assert ended[0].where.startswith("test_watchdog.py:")
    count = len(ended)
    time.sleep(0.7)
    assert len(ended) == count, "it watches no more"
    watchdog.mark("loading")
