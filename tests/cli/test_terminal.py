"""What a command shows of its log, and how its process ends."""

from __future__ import annotations

import errno
import logging
import re
import signal
from pathlib import Path

import pytest

from affect.cli import terminal
from affect.errors import AffectError, LostError, StoppedError, lost_rank
from affect.extraction import IncompleteError
from tests.launching import exit_code, own_log

LOG = logging.getLogger("affect")


def test_what_one_of_several_runs_says_of_itself_stays_in_its_own_log(capsys):
    with own_log():
        terminal.show_log()
        LOG.info("of all")
        LOG.info("of one", extra={"run": Path("runs/a/seed0/fold1")})
        LOG.warning("a warning of all")
    first, second = capsys.readouterr().err.splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    assert re.fullmatch(f"{time}of all", first)
    assert re.fullmatch(f"{time}warning: a warning of all", second)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (AffectError("a mistake"), 2, "error: a mistake\n"),
        (AffectError("a name\nof two lines"), 2, "error: a name of two lines\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 9000), 2, "error: 'xxxx"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/a"), 2, "error: '/root/a': Permission denied\n"),
        (LostError("out of memory here"), 75, "error: out of memory here\n"),
        (
            StoppedError(signal.SIGUSR1, "saved at step 3"),
            75,
            "stopped: saved at step 3; give the command again to go on",
        ),
        (
            StoppedError(signal.SIGTERM, "saved at step 3"),
            143,
            "stopped: saved at step 3; give the command again to go on",
        ),
        (IncompleteError("2 of 5 failed"), 1, "error: 2 of 5 failed\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; "),
    ],
)
def test_what_ends_a_command_is_one_line_and_a_code(capsys, error, code, words):
    def work() -> None:
        raise error

    assert exit_code(lambda: terminal.guarded(work)) == code
    said = capsys.readouterr().err
    assert said.startswith(words)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:43211"), True),
        (RuntimeError("Expected all tensors to be on the same device"), False),
        (ConnectionResetError("Connection reset by peer"), False),
        (AffectError("Connection reset by peer"), False),
    ],
)
def test_the_loss_of_another_rank_is_told_by_its_words(monkeypatch, error, lost):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert lost_rank(error) == lost
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not lost_rank(error)


def test_an_error_that_is_no_loss_is_raised_whole():
    def work() -> None:
        raise RuntimeError("Expected all tensors to be on the same device")

    with pytest.raises(RuntimeError, match="same device"):
        terminal.guarded(work)


def test_only_the_first_rank_says_where_it_stopped(capsys, monkeypatch):
    def work() -> None:
        raise StoppedError(signal.SIGUSR1, "saved at step 3")

    monkeypatch.setenv("RANK", "1")
    assert exit_code(lambda: terminal.guarded(work)) == 75
    assert capsys.readouterr().err == ""
