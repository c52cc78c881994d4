"""What several runs do at the same time: read from their folders, shown as a table or as lines."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from affect.tables import hours
from affect.task import VALID

_EVERY = 1.0
"""Seconds between two tables on a terminal."""
_RECENT = 20
"""Steps that speed and time left are told by."""
_SAYS = 60.0
"""Seconds after which a run has a line without news, where there is no table."""
_HEAD = ["seed", "fold", "on", "state", "epoch", "step", "loss", "validation", "speed", "left"]
_PACE = {"units_per_second", "seconds"}
"""What a line of timing.jsonl tells of the speed."""


class Tail:
    """The lines that were added to a .jsonl file since it was last asked; from the start where it was replaced."""

    def __init__(self, path: Path):
        self.path = path
        self._place, self._file = 0, 0

    def new(self) -> list[dict[str, Any]]:
        """Return the new whole lines as objects."""
        try:
            with self.path.open("rb") as file:
                number = self.path.stat().st_ino
                file.seek(self._place if number == self._file else 0)
                start, text = file.tell(), file.read()
        except OSError:
            # Not there yet, or not readable: then the run itself says why.
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._place, self._file = start + len(whole), number
        return [record for line in whole.splitlines() if (record := _record(line)) is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    # Of a damaged one the run itself says where it is.
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(kw_only=True)
class Progress:
    """How far one run is. `unit` is what its lengths are counted in, `shown` the measures to tell."""

    seed: int
    fold: int
    folder: Path
    steps: int
    epochs: int
    unit: str
    shown: tuple[str, ...]
    state: str = "waiting"
    place: str = ""
    error: str = ""
    step: int = 0
    epoch: int = 0
    loss: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    recent: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def __post_init__(self) -> None:
        self._metrics, self._timing = Tail(self.folder / "metrics.jsonl"), Tail(self.folder / "timing.jsonl")

    @property
    def name(self) -> str:
        """The run's place below the experiment's folder."""
        return f"seed{self.seed}/fold{self.fold}"

    def look(self) -> None:
        """Read what the run has written since the last look."""
        for line in self._metrics.new():
            # What a damaged line lacks the run itself tells of.
            with contextlib.suppress(LookupError, TypeError):
                if line["event"] == "step":
                    self.step, self.epoch, self.loss = line["step"], line["epoch"] + 1, line["loss"]
                elif line["event"] == "eval" and line["evaluation"] == VALID:
                    self.scores = line["scores"]
        self.recent.extend(line for line in self._timing.new() if line.keys() >= _PACE)

    def row(self) -> list[str]:
        """Return the run's line of the table."""
        return [
            str(self.seed), str(self.fold), self.place, self.state,
            f"{self.epoch}/{self.epochs}" if self.epoch else "", f"{self.step}/{self.steps}" if self.step else "",
            "" if self.loss is None else f"{self.loss:.3f}", self.said_scores(), *self.pace(),
        ]  # fmt: skip

    def said_scores(self) -> str:
        """Return the newest validation scores in words."""
        kept = {name: value for name, value in self.scores.items() if name in self.shown and value is not None}
        return " ".join(f"{name} {value:.3f}" for name, value in kept.items())

    def pace(self) -> tuple[str, str]:
        """Return the speed of the last steps, and the time that those to come would take, while the run goes on."""
        if self.state != "running" or not self.recent:
            return "", ""
        speed, seconds = (sum(t[n] for t in self.recent) / len(self.recent) for n in ("units_per_second", "seconds"))
        left = hours((self.steps - self.step) * seconds)
        return f"{speed:.1f} {self.unit} a second", left


class Display:
    """A table refreshed in place on a terminal; elsewhere a line whenever a run changes."""

    def __init__(self, out: TextIO):
        self._console = Console(file=out, soft_wrap=not out.isatty(), highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False) if out.isatty() else None
        self._drawn = 0.0
        self._said: dict[str, tuple[tuple[str, str], float]] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, runs: Sequence[Progress], *, now: bool = False) -> None:
        """Show how far the runs are; on a terminal once a second, or `now`."""
        if self._live is None:
            for run in runs:
                self._line(run)
        elif now or time.monotonic() - self._drawn >= _EVERY:
            self._drawn = time.monotonic()
            # A table that is higher than the terminal could not be drawn over.
            room = max(1, self._console.size.height - 6)
            hidden = len(runs) - room
            table = Table(*_HEAD, box=SIMPLE_HEAD, caption=f"... and {hidden} more" if hidden > 0 else None)
            for run in sorted(runs, key=lambda run: hidden > 0 and run.state != "running")[:room]:
                table.add_row(*run.row())
            self._live.update(table, refresh=True)

    def say(self, line: str) -> None:
        """Write a line that stays, with the time, above the table."""
        self._console.print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")

    def _line(self, run: Progress) -> None:
        news = (run.state, run.said_scores())
        last, now = self._said.get(run.name), time.monotonic()
        long_ago = run.state == "running" and last is not None and now - last[1] > _SAYS
        if run.state == "waiting" or (last is not None and last[0] == news and not long_ago):
            return
        self._said[run.name] = news, now
        where = f" on {run.place}" if run.place else ""
        place = f"epoch {run.epoch}/{run.epochs}, step {run.step}/{run.steps}" if run.step else ""
        loss = "" if run.loss is None else f"loss {run.loss:.3f}"
        speed, left = run.pace()
        told = f"{run.name}{where}: {run.state}"
        parts = [told, place, loss, run.said_scores(), speed, f"{left} left" if left else ""]
        self.say(", ".join(part for part in parts if part))
