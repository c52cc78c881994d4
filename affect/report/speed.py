"""How fast runs were: what a step took, phase by phase, and how much of its device's peak it used."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from affect.findings import finite
from affect.report.rows import Record
from affect.report.study import Study
from affect.tables import NONE, filled, grid

_PHASES = ("loading", "forward", "exchange", "backward", "update")
_NOTE = (
    "Medians over steps (of stacked runs: epochs, a run's share). Phases are seconds of the main rank. What the rows "
    "need, each forward and backward once at its own length, counts as work: padding, replays and recomputation lower "
    "the share of the peak, which is that of a large product at the run's precision."
)


def medians(timing: Iterable[Record]) -> dict[str, float]:
    """Return the median of each number that a run's timing.jsonl holds: its first steps warm up and count little."""
    values: dict[str, list[float]] = {}
    for record in timing:
        for name, value in record.items():
            if finite(value):
                values.setdefault(name, []).append(float(value))
    return {name: median(series) for name, series in values.items()}


def table(study: Study) -> str:
    """Return a line a run with the seconds of its steps, TFLOP/s and share of the peak; "" where none is known."""
    rows = []
    for run in study.measured:
        values = medians(run.timing)
        seconds = [_shown(values, name) for name in ("seconds", *(f"{phase}_seconds" for phase in _PHASES))]
        rate, share = _shown(values, "tflops_per_second"), values.get("peak_share")
        rows.append([run.name, *seconds, rate, NONE if share is None else f"{100 * share:.2g} %"])
    head = ["run", "s a step", *_PHASES, "TFLOP/s", "of the peak"]
    # Runs of before have the seconds alone.
    told = any(row[-2] != NONE for row in rows)
    return f"{grid(*filled(head, rows))}\n\n{_NOTE}" if told else ""


def _shown(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.3g}" if name in values else NONE
