"""Two ranks, one of which is signalled, killed, stopped, hangs, diverges or runs out of memory; and their launcher."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from affect.training import checkpoint
from tests.faults.conftest import NAMES
from tests.faults.harness import Forked, Launched, Ranked, Session, losses, same
from tests.training.disks import small_disk

pytestmark = pytest.mark.distributed


def newest(session: Session) -> str:
    return checkpoint.steps(session.folder / "checkpoints")[-1].name


def codes(session: Session) -> set[int]:
    """Return the exit codes of ranks that the launcher speaks of."""
    return {int(line.split()[2]) for line in session.text().splitlines() if line.split()[:2] == ["exitcode", ":"]}


def said(session: Session) -> list[str]:
    return [line for line in session.text().splitlines() if line.startswith("stopped: ")]


def test_a_life_of_signals_and_losses(engine, small_corpus, whole_of_two, tmp_path):
    """Each session goes on from the one before; the last ends as a run that nothing happened to."""

    def session(fault: str = "slow=0.05") -> tuple[Ranked, int]:
        begun = Ranked(engine, small_corpus, tmp_path, fault=fault)
        return begun, begun.steps()

    now, step = session()
    now.wait_step(step + 2)
    now.ranks()[1].send_signal(signal.SIGUSR1)
    assert now.end(30) == 75
    assert codes(now) == {75}
    assert said(now) == [f"stopped: saved at step {now.steps()}; give the command again to go on"]
    assert newest(now) == f"step-{now.steps():07d}"

    # The launcher is killed and can tell nobody; its ranks hear of it.
    now, step = session()
    now.wait_step(step + 2)
    os.kill(now.process.pid, signal.SIGKILL)
    assert now.end(30) == -signal.SIGKILL
    assert said(now) == [f"stopped: saved at step {now.steps()}; give the command again to go on"]

    now, step = session()
    now.wait_step(step + 2)
    now.ranks()[1].kill()
    assert now.end(30) == 128 + signal.SIGKILL
    assert codes(now) == {-signal.SIGKILL, 75}
    assert len(now.errors()) == 1
    assert "another rank of this run was lost" in now.errors()[0]

    now, step = session()
    now.wait_step(step + 1)
    for process in now.processes():
        process.kill()
    assert now.end(30) == -signal.SIGKILL

    now, _ = session("")
    assert now.end() == 0, now.text()
    assert f"engine {NAMES[engine]}, 2 ranks" in now.text()
    same(now.folder, whole_of_two)


def test_signals_to_torchrun(small_corpus, whole, tmp_path):
    """It hands SIGTERM on, and dies of SIGUSR1."""
    now = Launched("ddp", small_corpus, tmp_path, fault="slow=0.05")
    now.wait_step(2)
    now.process.send_signal(signal.SIGTERM)
    now.end(30)
    assert said(now) == [f"stopped: saved at step {now.steps()}; give the command again to go on"]
    now = Launched("ddp", small_corpus, tmp_path, fault="slow=0.05")
    now.wait_step(now.steps() + 2)
    now.process.send_signal(signal.SIGUSR1)
    assert now.end(30) == -signal.SIGUSR1
    assert said(now) == [f"stopped: saved at step {now.steps()}; give the command again to go on"]


def test_a_rank_that_hangs_is_named(engine, small_corpus, whole_of_two, tmp_path):
    often = ("--train.checkpoint-minutes", "0.001")
    now = Ranked(engine, small_corpus, tmp_path, *often, fault="slow=0.1,hang@5:1,timeout=2")
    assert now.end(60) == 75
    assert newest(now) == "step-0000004", "saved inside an epoch"
    [named] = [line for line in now.errors() if "another rank of this run was lost" not in line]
    assert "rank 1 (" in named
    assert "step 5, forward" in named
    assert "recipe.py:" in named
    assert "rank 0 " not in named
    assert named in (now.folder / "train.log").read_text()

    now = Ranked(engine, small_corpus, tmp_path, fault="slow=0.05,timeout=2")
    now.wait_step(now.steps() + 2)
    now.ranks()[1].send_signal(signal.SIGSTOP)
    now.end(60)
    assert 75 in codes(now)
    assert [line for line in now.errors() if "no sign of life from rank 1 (" in line] == now.errors(), now.text()
    assert now.errors(), now.text()

    now = Ranked(engine, small_corpus, tmp_path)
    assert now.end() == 0, now.text()
    same(now.folder, whole_of_two)


def test_a_gradient_that_is_no_number_stops_both(engine, small_corpus, whole_of_two, tmp_path):
    now = Ranked(engine, small_corpus, tmp_path, fault="nan@5:1")
    assert now.end(60) == 2
    assert codes(now) == {2}
    assert [line for line in now.errors() if "step 5: the gradient is not a finite number" not in line] == []
    assert now.errors()
    assert newest(now) == "step-0000003"
    assert "Traceback" not in now.text()
    now = Ranked(engine, small_corpus, tmp_path)
    assert now.end() == 0, now.text()
    same(now.folder, whole_of_two)


STILL = ("--model.dropout", "0")
"""A mask belongs to a micro-batch: where the cut changes, losses are those of one process without any."""


@pytest.fixture(scope="module")
def still(small_corpus, whole, tmp_path_factory):
    """The losses of one process without dropout."""
    session = Forked(small_corpus, tmp_path_factory.mktemp("still"), *STILL)
    assert session.end() == 0, session.text()
    return losses(session.folder)


def test_memory_that_runs_out_before_anything_is_reduced_repeats_the_step(small_corpus, still, tmp_path):
    now = Ranked("ddp", small_corpus, tmp_path, *STILL, fault="memory@5:1,memory_alone@9:0")
    assert now.end(60) == 0, now.text()
    assert "step 5: out of memory; repeating it with a budget of 0.75 instead of 1.5" in now.text()
    assert "step 9: out of memory; repeating it with a budget of 0.375 instead of 0.75" in now.text()
    np.testing.assert_allclose(losses(now.folder), still, rtol=1e-5)


@pytest.mark.parametrize("kind", ["memory", "memory_reducing"])
def test_memory_that_runs_out_where_ranks_can_not_repeat_leaves_a_budget_to_the_next_session(
    engine, kind, small_corpus, still, tmp_path
):
    if (engine, kind) == ("ddp", "memory"):
        pytest.skip("ranks of DDP repeat it")
    named = STILL if kind == "memory" else (*STILL, "--train.budget", "auto")
    now = Ranked(engine, small_corpus, tmp_path, *named, fault=f"{kind}@5:1")
    assert now.end(60) == 75
    assert codes(now) == {75}
    mine = [line for line in now.errors() if "rank 1 ran out of memory; give the command again" in line]
    assert len(mine) == 1, now.text()
    left = json.loads((now.folder / "checkpoints" / "budget.json").read_text())
    assert left["mode"] == "replay"
    now = Ranked(engine, small_corpus, tmp_path, *named)
    assert now.end() == 0, now.text()
    assert f"an earlier session ran out of memory: budget {left['budget']:.4g} at most" in now.text()
    np.testing.assert_allclose(losses(now.folder), still, rtol=1e-5)


def test_a_full_disk_ends_both_with_one_line(engine, small_corpus, whole_of_two, tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        now = Ranked(engine, small_corpus, disk, fault="slow=0.1")
        now.wait_step(4)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"0" * 4096):
                pass
        assert now.end(60) == 2
        assert {line for line in now.errors() if "No space left on device" in line} == set(now.errors())
        assert now.errors()
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        now = Ranked(engine, small_corpus, disk)
        assert now.end() == 0, now.text()
        same(now.folder, whole_of_two)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_random_kills_of_ranks_and_launcher_change_nothing(engine, small_corpus, whole_of_two, tmp_path, draw):
    for _ in range(20):
        now = Ranked(engine, small_corpus, tmp_path, fault="slow=0.05")
        begun = now.steps()
        now.wait(lambda at=begun, of=now: of.steps() > at)
        time.sleep(draw.uniform(0, 0.2))
        victims = [[now.process.pid], [p.pid for p in now.ranks()[:1]], [p.pid for p in now.ranks()[1:]]]
        for pid in victims[int(draw.integers(3))]:
            os.kill(pid, signal.SIGKILL)
        now.end()
        if begun >= 14:
            break
    now = Ranked(engine, small_corpus, tmp_path)
    assert now.end() == 0, now.text()
    same(now.folder, whole_of_two)
