"""What a command shows of its log, and how its process ends."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from affect import terminal
from affect.errors import AffectError
from affect.extraction import IncompleteError
from tests.launching import exit_code, own_log

LOG = logging.getLogger("affect")


def test_what_one_of_several_runs_says_of_itself_stays_in_its_own_log(capsys):
    with own_log():
        terminal.show_log()
        LOG.info("of all")
        LOG.info("of one", extra={"run": Path("runs/a/seed0/fold1")})
        LOG.warning("a warning of all")
    assert capsys.readouterr().err.splitlines() == ["of all", "a warning of all"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (AffectError("a mistake"), 2, "error: a mistake\n"),
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
