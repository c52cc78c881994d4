"""Who speaks when as a plot: a line a speaker, in stretches one below the other where a recording is long."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from affect import figures
from affect.data.rttm import Turn
from affect.figures import COLOURS
from affect.findings import Plot

_STRETCH, _MOST = 120.0, 12
"""Seconds side by side, and how many stretches there are at most: those of longer recordings are longer."""


def timeline(name: str, turns: Sequence[Turn], seconds: float) -> Plot:
    """Return the timeline of a recording of `seconds`; the legend tells for how long each speaks."""
    return Plot(name=name, caption="", draw=lambda: _drawn(name, turns, seconds))


def _drawn(name: str, turns: Sequence[Turn], seconds: float) -> Figure:
    speakers = list(dict.fromkeys(turn.speaker for turn in sorted(turns)))
    size = max(_STRETCH, seconds / _MOST)
    count = max(1, -int(-seconds // size))
    size = min(size, seconds)
    height = 0.5 + 0.22 * max(1, len(speakers))
    figure = Figure(figsize=(10, 0.4 + count * height), layout="constrained")
    figure.suptitle(figures.plain(name), fontsize=10)
    for k in range(count):
        axes = figure.add_subplot(count, 1, k + 1)
        for row, speaker in enumerate(speakers):
            bars = [(turn.start, turn.end - turn.start) for turn in turns if turn.speaker == speaker]
            axes.broken_barh(bars, (row - 0.4, 0.8), color=COLOURS[row % len(COLOURS)])
        axes.set_xlim(k * size, (k + 1) * size)
        axes.set_ylim(max(1, len(speakers)) - 0.4, -0.6)
        spoken = [sum(turn.end - turn.start for turn in turns if turn.speaker == speaker) for speaker in speakers]
        words = [f"speaker {figures.plain(who)}, {long:.0f} s" for who, long in zip(speakers, spoken, strict=True)]
        axes.set_yticks(range(len(speakers)), words if not k else [figures.plain(who) for who in speakers])
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    return figure
