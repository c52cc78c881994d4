"""What the pages of all kinds of experiments share: flags, command, environment, and how a page is written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from affect.report.experiment import Experiment
from affect.report.flag import Flag
from affect.report.runs import Record, Run
from affect.report.tables import flat, grid, text


def left_out(path: Path, other: Experiment | None, targets: Mapping[str, float] | None) -> str:
    """Return a line on what the page that is about to be replaced had and this one was not asked for ("": nothing)."""
    try:
        earlier = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    against = re.search(r"^## Against (.+)$", earlier, re.MULTILINE)
    had = [(f"a comparison with {against[1]}", "--against")] if against and other is None else []
    had += [("targets", "--target")] if re.search(r"^## Targets$", earlier, re.MULTILINE) and not targets else []
    if not had:
        return ""
    what, options = (" and ".join(words) for words in zip(*had, strict=True))
    return f"The earlier page also had {what}; this one does not: give {options} again to have it back."


def replace(path: Path, content: str) -> None:
    """Write a file in one go: a reader never sees half a page."""
    half = path.with_suffix(path.suffix + ".part")
    half.write_text(content, encoding="utf-8", newline="\n")
    os.replace(half, path)


def flagged(found: Sequence[Flag], none: str) -> str:
    """Return a line a flag, or `none` where there is no flag."""
    if not found:
        return none
    rows: list[list[str]] = []
    said: dict[str, str] = {}
    for flag in found:
        # The same advice is given once: a table full of it hides what differs.
        first = said.setdefault(flag.advice, flag.kind)
        repeated = bool(flag.advice) and any(row[3] == flag.advice for row in rows)
        again = "as above" if first == flag.kind else f'as for "{first}"'
        rows.append([flag.kind, flag.where, flag.evidence, again if repeated else flag.advice])
    return grid(["flag", "where", "evidence", "what to try"], rows, left=True)


def command(runs: Sequence[Run], recipe: Record) -> str:
    """Return the command as the trainer recorded it, or what can be told of it from the recipe."""
    command = next((c for run in runs if (c := run.environment.get("command"))), None)
    if command:
        shown = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    else:
        seeds = " ".join(str(seed) for seed in sorted({run.seed for run in runs}))
        shown = f"accelerate launch recipes/RECIPE.py {recipe.get('experiment', 'EXPERIMENT')} --seeds {seeds}"
    # On one line: a block of code ends at an empty one.
    shown = " ".join(shown.splitlines())
    return (
        f"    {shown}\n\nEvery run folder holds its resolved recipe (`recipe.json`), which counts where the two differ."
    )


def environment(records: Sequence[Record]) -> str:
    """Return each fact of the runs' environments, with all its values where they differ."""
    known = [flat(record) for record in records if record]
    if not known:
        return "No readable environment.json."
    rows = []
    for name in sorted({name for record in known for name in record} - {"command"}):
        values = list(dict.fromkeys(text(record[name]) for record in known if name in record))
        rows.append([name, " or ".join(values[:3]) + (f" … ({len(values)} values)" if len(values) > 3 else "")])
    return grid(["what", "value"], rows, left=True)
