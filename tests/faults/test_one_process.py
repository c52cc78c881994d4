"""One process is signalled, killed, or loses its workers; the run that goes on is the run that was never stopped."""

from __future__ import annotations

import signal
import socket
import time

import pytest

from affect.training import checkpoint
from tests.faults.harness import Forked, lines, losses, same


def saved(session) -> str:
    return checkpoint.steps(session.folder / "checkpoints")[-1].name


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_a_signal_between_steps_saves_and_ends(small_corpus, whole, tmp_path, number, code):
    session = Forked(small_corpus, tmp_path, fault="slow=0.05")
    session.wait_step(4)
    session.ranks()[0].send_signal(number)
    assert session.end(10) == code
    step = session.steps()
    assert step % 3, "the test must stop inside an epoch"
    assert saved(session) == f"step-{step:07d}"
    assert session.text().splitlines()[-1] == f"stopped: saved at step {step}; give the command again to go on"
    assert f"stopped: saved at step {step}" in (session.folder / "train.log").read_text()
    assert Forked(small_corpus, tmp_path).end() == 0
    same(session.folder, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_a_signal_while_the_corpus_is_read_ends_at_once(small_corpus, whole, tmp_path, number, code):
    session = Forked(small_corpus, tmp_path, fault="read=20")
    session.wait(lambda: "reading" in session.text())
    session.ranks()[0].send_signal(number)
    assert session.end(10) == code
    assert session.text().splitlines()[-1].startswith("stopped: ")


def test_one_session_at_a_time(small_corpus, whole, tmp_path):
    first = Forked(small_corpus, tmp_path, fault="slow=0.3")
    first.wait_step(2)
    pid = first.process.pid
    for more in ([], ["--overwrite"]):
        second = Forked(small_corpus, tmp_path, *more, said="second.txt")
        assert second.end(20) == 2
        [line] = second.errors()
        assert f"fold1 is being trained by pid {pid} on host {socket.gethostname()}: wait for it, or end it" in line
        assert first.poll() is None, "the test must not be too slow"
    first.ranks()[0].kill()
    assert first.end() == -signal.SIGKILL
    again = Forked(small_corpus, tmp_path)
    assert again.end() == 0, again.text()
    same(first.folder, whole)
    assert not (first.folder / ".lock").exists()


def test_a_kill_inside_a_long_epoch_costs_minutes(small_corpus, whole, tmp_path):
    often = ("--train.checkpoint-minutes", "0.002")
    session = Forked(small_corpus, tmp_path, *often, fault="slow=0.15")
    session.wait(lambda: (session.folder / "checkpoints" / "step-0000005").exists())
    session.ranks()[0].kill()
    assert session.end() == -signal.SIGKILL
    step = int(saved(session).removeprefix("step-"))
    assert step % 3, "the test must kill inside an epoch"
    again = Forked(small_corpus, tmp_path)
    assert again.end() == 0, again.text()
    assert f"step-{step:07d} after step {step}" in again.text()
    same(session.folder, whole)


def test_a_stop_inside_an_evaluation_makes_it_again(small_corpus, whole, tmp_path):
    session = Forked(small_corpus, tmp_path, fault="predict=1")
    session.wait_step(3)
    begun = time.monotonic()
    session.ranks()[0].send_signal(signal.SIGUSR1)
    assert session.end(20) == 75
    assert time.monotonic() - begun < 3, "not all its batches, of a second each, were waited for"
    assert saved(session) == "step-0000003"
    assert not [line for line in lines(session.folder) if line["event"] == "eval"]
    assert Forked(small_corpus, tmp_path).end() == 0
    same(session.folder, whole)


def test_a_stop_inside_the_last_predictions_loses_nothing(small_corpus, whole, tmp_path):
    session = Forked(small_corpus, tmp_path, "--train.evaluate-every", "100", fault="predict=0.3")
    session.wait(lambda: (session.folder / "checkpoints" / "step-0000018").exists())
    time.sleep(0.15)
    session.ranks()[0].send_signal(signal.SIGTERM)
    assert session.end(20) == 143
    assert "trained and saved at step 18, not yet predicted" in session.text()
    again = Forked(small_corpus, tmp_path, "--train.evaluate-every", "100")
    assert again.end() == 0
    assert losses(session.folder) == losses(whole)
    assert [line["event"] for line in lines(session.folder)][-2:] == ["selection", "end"]


def test_a_second_sigterm_ends_at_once_but_not_one_that_comes_with_the_first(small_corpus, whole, tmp_path):
    session = Forked(small_corpus, tmp_path, fault="hang@5:0,impatience=1")
    session.wait_step(4)
    time.sleep(0.3)
    process = session.ranks()[0]
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)
    assert session.poll() is None, "a launcher and a batch system each send the first"
    process.send_signal(signal.SIGTERM)
    assert session.end(5) == -signal.SIGTERM
    assert Forked(small_corpus, tmp_path).end() == 0
    same(session.folder, whole)


def test_a_worker_that_dies_is_replaced(small_corpus, whole, tmp_path):
    session = Forked(small_corpus, tmp_path, "--train.workers", "2", fault="slow=0.2")
    session.wait_step(2)
    session.workers()[0].kill()
    assert session.end() == 0, session.text()
    assert session.text().count("they are started anew and go on where they were") == 1
    same(session.folder, whole)


def test_workers_end_with_a_rank_that_is_killed(small_corpus, tmp_path):
    session = Forked(small_corpus, tmp_path, "--train.workers", "2", fault="slow=0.2")
    session.wait_step(2)
    assert len(session.workers()) == 2
    session.ranks()[0].kill()
    session.poll(5)
    time.sleep(0.5)
    assert session.processes() == []
    assert session.end() == -signal.SIGKILL


def test_a_process_that_hangs_ends_and_says_where(small_corpus, whole, tmp_path):
    session = Forked(small_corpus, tmp_path, fault="hang@0:0,timeout=1")
    assert session.end(30) == 75
    assert "at step 0, measuring" in session.errors()[0], session.text()
    session = Forked(small_corpus, tmp_path, fault="hang@5:0,timeout=1")
    assert session.end(30) == 75
    assert len(session.errors()) == 1
    assert "rank 0" in session.errors()[0]
    assert "step 5, forward" in session.errors()[0]
    assert "recipe.py:" in session.errors()[0]
    assert session.errors()[0] in (session.folder / "train.log").read_text()
    assert Forked(small_corpus, tmp_path).end() == 0
    same(session.folder, whole)


def test_killed_inside_saves(small_corpus, whole, tmp_path):
    """Killed as soon as files of a checkpoint are there that is not whole yet."""
    session = None
    for _ in range(6):
        session = Forked(small_corpus, tmp_path, fault="slow=0.01")
        hidden = session.folder / "checkpoints"
        session.wait(lambda at=hidden: any(at.glob(".*.tmp")))
        session.ranks()[0].kill()
        assert session.end() == -signal.SIGKILL
        if session.steps() >= 15:
            break
    assert Forked(small_corpus, tmp_path).end() == 0
    same(session.folder, whole)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_random_kills_change_nothing(small_corpus, whole, tmp_path, draw):
    kills = 0
    arguments = ["--train.epochs", "250", "--train.keep", "2"]
    reference = Forked(small_corpus, tmp_path / "whole", *arguments)
    assert reference.end() == 0
    while kills < 100:
        session = Forked(small_corpus, tmp_path / "killed", *arguments, fault=f"slow={draw.uniform(0, 0.02)}")
        begun = session.steps()
        if draw.random() < 0.8:
            with_steps = begun + int(draw.integers(1, 8))
            session.wait(lambda at=with_steps, of=session: of.steps() >= at or of.poll() is not None)
        code = session.poll(float(draw.uniform(0, 0.3)))
        if code is None:
            session.ranks()[0].send_signal(draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            kills += 1
        session.end()
        if code == 0:
            break
    assert kills == 100, "the run was over before it was killed enough"
    assert Forked(small_corpus, tmp_path / "killed", *arguments).end() == 0
    same(session.folder, reference.folder)
