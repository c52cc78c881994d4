"""Plots of a comparison: the differences with their intervals, and the folds of both side by side."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from affect.report.against import judged
from affect.report.compare import Comparison, fold_scores
from affect.report.figure import COLOURS, lay_out
from affect.report.scores import MEAN, Scores
from affect.report.tables import label

_NOISE = "#767676"
_SIDES = {(True, True): COLOURS[2], (True, False): "#8ccfba", (False, True): COLOURS[1], (False, False): "#ecb48c"}
"""Colours by whether it is better, and whether it really is."""


def differences(comparison: Comparison) -> Figure | None:
    """Return a line a target: the difference with its interval, coloured as the words judge it (strong: real)."""
    rows = [*comparison.targets, MEAN]
    known = [target for target in rows if not math.isnan(comparison.differences[target].estimate.value)]
    if not known:
        return None
    figure, (axes,) = lay_out(1, 6.4, 0.5 + 0.42 * len(known))
    shown: dict[str, str] = {}
    for place, target in enumerate(known):
        found = comparison.differences[target].estimate
        colour, words = _judged(comparison, target)
        shown.setdefault(words, colour)
        if not math.isnan(found.low):
            axes.plot([found.low, found.high], [place, place], color=colour, lw=2.4, solid_capstyle="butt")
        axes.plot([found.value], [place], "o", color=colour, ms=7)
    axes.axvline(0, color="black", lw=1)
    # Both sides of 0 are shown, however far the intervals lie from it.
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.02), max(high, 0.02))
    axes.set_yticks(range(len(known)), [label(target, comparison.targets) for target in known])
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_xlabel("difference (right: better here)")
    axes.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=colour, marker="o", lw=2.4, label=words) for words, colour in shown.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _judged(comparison: Comparison, target: str) -> tuple[str, str]:
    """Return the colour of a difference and what it stands for, as the page's words have it."""
    found = judged(comparison, comparison.differences[target])
    if found.strength in ("unknown", "no interval", "within noise"):
        return _NOISE, "no interval" if found.strength == "no interval" else "within noise"
    side, really = "better" if found.better else "worse", found.strength == "really"
    words = f"really {side}" if really else f"{side} with one seed" if found.strength == "one seed" else ""
    return _SIDES[found.better, really], words or f"{side}, not confirmed"


def beside(ours: Scores, theirs: Scores, name: str) -> Figure | None:
    """Return a panel a target: each fold's score here and there, joined; the lines are the means over folds."""
    targets = [target for target in ours.targets if target in theirs.targets]
    sides = [{target: fold_scores(scores, target) for target in targets} for scores in (ours, theirs)]
    if not targets:
        return None
    numbers = sorted({fold for side in sides for values in side.values() for fold in values} - {0})
    if not numbers:
        return None
    figure, panels = lay_out(len(targets), min(max(2.8, 0.7 * len(numbers) + 1.2), 5.0), 3.2)
    styles = ((COLOURS[0], "o", "-"), (COLOURS[1], "D", "--"))
    for axes, target in zip(panels, targets, strict=True):
        places = np.arange(len(numbers))
        here, there = ([side[target].get(fold, math.nan) for fold in numbers] for side in sides)
        axes.vlines(places, here, there, color="#b0b0b0", lw=1.6)
        for side, (colour, mark, dash), values in zip(sides, styles, (here, there), strict=True):
            axes.plot(places, values, mark, color=colour, ms=6, mec="white", mew=0.6)
            mean = [value for value in side[target].values() if not math.isnan(value)]
            if mean:
                axes.axhline(float(np.mean(mean)), color=colour, ls=dash, lw=1.1)
        axes.set_xlim(-0.6, len(numbers) - 0.4)
        axes.set_xticks(places, [str(fold) for fold in numbers])
        axes.set(title=target, xlabel="fold", ylabel=label(target, ours.targets))
        axes.grid(axis="x", visible=False)
    shown = [value for side in sides for values in side.values() for value in values.values() if math.isfinite(value)]
    if not shown:
        return None
    margin = 0.08 * (max(shown) - min(shown)) or 0.05
    for axes in panels:
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
    handles = [
        Line2D([], [], color=colour, marker=mark, ls=dash, lw=1.1, label=words)
        for (colour, mark, dash), words in zip(styles, ("here", _plain(name)), strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _plain(name: str) -> str:
    """Return a name in which matplotlib reads no formula and no hidden label."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    return " " * shown.startswith("_") + shown.replace("$", r"\$")
