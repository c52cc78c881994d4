"""How far long work is, where no terminal shows a bar."""

from __future__ import annotations

import logging
import sys

import pytest

from affect import progress


@pytest.mark.parametrize("show", [True, False])
def test_a_line_a_minute_where_there_is_no_terminal(monkeypatch, caplog, show):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO, "affect"), progress.progress(100, "prosody", show=show) as done:
        for now[0] in (30.0, 61.0, 90.0, 130.0):
            done(10)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == (["prosody: 20 of 100, 0:04:04 left", "prosody: 40 of 100, 0:03:15 left"] if show else [])
