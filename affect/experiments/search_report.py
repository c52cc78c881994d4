"""The report of a search: its trials, best first, what mattered, and the command of the best recipe."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from affect.experiments.definitions import Range, Search
from affect.experiments.optuna_study import Trial
from affect.figures import COLOURS, save
from affect.findings import Plot
from affect.tables import grid, text
from affect.training import run_dir


def write(
    top: Path, search: Search, ranges: Sequence[Range], trials: Sequence[Trial], importance: dict[str, float],
    best: dict[str, Any] | None, sign: int,
) -> None:  # fmt: skip
    """Write report.md and plots/history.png into the search's folder `top`; `trials` come best first."""
    parts = [f"# {top.resolve().name}: a search over {search.of}", _result(trials, best)]
    if best is not None:
        command = shlex.join(best["command"])
        parts += ["## The best recipe", f"    {command}\n\nThe same as JSON, with the whole recipe: `best.json`."]
    parts += ["## Trials", _table(ranges, trials), "## What mattered", _importance(importance)]
    if best is not None:
        caption = "Validation score by trial, and the best so far"
        save([Plot(name="history", caption=caption, draw=lambda: _history(trials, sign))], top / "plots")
        parts += ["## History", f"![{caption}](plots/history.png)"]
    parts += ["## Ranges", "\n".join(f"- `{field.text}`" for field in ranges)]
    run_dir.write_text(top / "report.md", "\n\n".join(parts) + "\n")


def _history(trials: Sequence[Trial], sign: int) -> Figure:
    """Draw each finished trial's score by its number, and the best so far (`sign` -1: the lowest)."""
    done = sorted((t.number, t.score) for t in trials if t.state == "finished" and t.score is not None)
    numbers, scores = [number for number, _ in done], np.array([score for _, score in done])
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(numbers, scores, "o", color=COLOURS[0], label="trial")
    best = sign * np.maximum.accumulate(sign * scores)
    axes.step(numbers, best, where="post", color=COLOURS[1], label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("validation score")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def _result(trials: Sequence[Trial], best: dict[str, Any] | None) -> str:
    counts = {state: sum(t.state == state for t in trials) for state in dict.fromkeys(t.state for t in trials)}
    many = ", ".join(f"{count} {state}" for state, count in counts.items())
    if best is None:
        return f"No trial is finished ({many})."
    return (
        f"Trial {best['trial']} is the best: validation score **{best['score']:.4f}** ({many}).\n\n"
        "It is the best of several and so leans upwards; no test part was looked at. The command below trains the best "
        "recipe and tests it once."
    )


def _table(ranges: Sequence[Range], trials: Sequence[Trial]) -> str:
    head = ["trial", "state", "validation", *(field.name for field in ranges), "note"]
    rows = [
        [
            str(trial.number), trial.state, "" if trial.score is None else f"{trial.score:.4f}",
            *(text(trial.values.get(field.name)) for field in ranges), text(trial.note),
        ]
        for trial in trials
    ]  # fmt: skip
    return grid(head, rows, left=True)


def _importance(importance: dict[str, float]) -> str:
    if not importance:
        return "Too few finished trials, or scores too much alike, to say which range matters."
    rows = [[name, f"{share:.2f}"] for name, share in importance.items()]
    words = "Share of the score's variance over the trials (fANOVA). With few trials it is rough."
    return f"{grid(['field', 'share'], rows)}\n\n{words}"
