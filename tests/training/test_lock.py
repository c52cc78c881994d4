"""The lock of a run's folder: one session at a time, gone with its process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import time

import psutil
import pytest

from affect.errors import AffectError
from affect.training import lock, run_dir
from tests.training import runs


def fork(work) -> int:
    """Return the process of a child that does `work` and ends, with 1 where it raises."""
    child = os.fork()
    if child == 0:
        lock._held.clear()
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `run`, until it is killed."""

    def hold() -> None:
        with lock.held(tmp_path / "run"):
            (tmp_path / "held").touch()
            time.sleep(60)

    child = fork(hold)
    end = time.monotonic() + 20
    while not (tmp_path / "held").exists() and time.monotonic() < end:
        time.sleep(0.01)
    yield child
    if psutil.pid_exists(child):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.2)
    words = f"run is being trained by pid {holder} on host {socket.gethostname()}: wait for it, or end it$"
    for _ in range(2):
        with pytest.raises(AffectError, match=words), lock.held(tmp_path / "run"):
            raise AssertionError("held twice")
    kill(holder)
    monkeypatch.setattr(lock, "_PATIENCE", 0.0)
    with lock.held(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / lock.NAME).read_text())["pid"] == os.getpid()


def test_the_job_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with lock.held(tmp_path):
        assert lock._holder(tmp_path / lock.NAME).endswith("(Slurm job 17)")
    (tmp_path / lock.NAME).write_text("{")
    assert lock._holder(tmp_path / lock.NAME) == "another session"


def test_a_process_may_hold_it_again_and_leaves_nothing(tmp_path):
    with lock.held(tmp_path / "a"), lock.held(tmp_path / "b"):
        with lock.held(tmp_path / "b" / ".." / "a"):
            pass
        assert (tmp_path / "a" / lock.NAME).exists(), "still the outer one's"
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(KeyError), lock.held(tmp_path / "a"):
        raise KeyError
    assert list((tmp_path / "a").iterdir()) == []


def test_what_is_held_is_no_other_session_s_to_overwrite(small_corpus, tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.0)
    recipe = runs.recipe(small_corpus)
    (tmp_path / "run" / "recipe.json").write_text("{}")
    with pytest.raises(AffectError, match="is being trained by pid"):
        run_dir.claim(tmp_path / "run", recipe, experiment="test", overwrite=True)
    assert (tmp_path / "run" / "recipe.json").read_text() == "{}"
    kill(holder)
    (tmp_path / "run" / "checkpoints" / "step-0000003").mkdir(parents=True)
    with lock.held(tmp_path / "run"):
        run_dir.claim(tmp_path / "run", recipe, experiment="test", overwrite=True)
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [lock.NAME, "recipe.json"]


def test_a_file_that_was_let_go_of_is_no_lock(tmp_path):
    with lock.held(tmp_path):
        late = os.open(tmp_path / lock.NAME, os.O_RDWR)
    assert not lock._take(late, tmp_path / lock.NAME), "it has no name any more"
    with lock.held(tmp_path):
        assert not lock._take(late, tmp_path / lock.NAME), "another has it"
    os.close(late)


def test_of_many_that_come_and_go_one_is_inside(tmp_path):
    """Each removes the file at its end, which the others may have opened already."""

    def work() -> None:
        for _ in range(30):
            with lock.held(tmp_path / "run"):
                mark = os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL)
                os.close(mark)
                time.sleep(0.001)
                (tmp_path / "inside").unlink()

    before, lock._PATIENCE = lock._PATIENCE, 30.0
    try:
        children = [fork(work) for _ in range(4)]
    finally:
        lock._PATIENCE = before
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4


def test_a_disk_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with lock.held(tmp_path), lock.held(tmp_path):
        pass
    assert "can't be locked (No locks available): see to it that no other session trains it" in caplog.text


def test_where_nothing_can_be_written_another_line_says_so(tmp_path, caplog):
    (tmp_path / "file").touch()
    with lock.held(tmp_path / "file" / "run"):
        pass
    assert caplog.text == ""
