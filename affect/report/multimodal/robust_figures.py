"""Plots of what is left when modalities are missing or noisy, of attention, and of modality dropout by epoch.

Legend: K conditions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from affect.report.figure import COLOURS, DASHES, lay_out
from affect.report.multimodal.attention import effective_dropout, normalised, weights
from affect.report.multimodal.figures import heat
from affect.report.multimodal.names import MODALITIES, NOISES, RATES, SUBSETS, shown
from affect.report.multimodal.robustness import CLEAN, incomplete, measured, score
from affect.report.multimodal.schedule import warmup
from affect.report.multimodal.study import Study
from affect.report.multimodal.training import kept

_OTHER = "#767676"


def subsets(study: Study) -> Figure | None:
    """Return the matrix of weighted F1 over parts and subsets, and the mean of the incomplete ones, as a heat map."""
    if study.reported or not measured(study, SUBSETS, "subset="):
        return None
    values = [
        [*(score(study, f"subset={subset}", part)[0] for subset in SUBSETS), incomplete(study, part)[0]]
        for part in study.parts
    ]
    found = np.array(values, np.float64)
    figure, (axes,) = lay_out(1, 7.6, 0.5 + 0.45 * len(values))
    low = max(0.0, float(np.nanmin(found)) - 0.1) if np.isfinite(found).any() else 0.0
    heat(axes, found, [shown(part) for part in study.parts], [*SUBSETS, "mean of\nincomplete"], low=low)
    axes.axvline(len(SUBSETS) - 0.5, color="white", lw=4)
    axes.xaxis.tick_top()
    return figure


def missing(study: Study, other: Study | None = None) -> Figure | None:
    """Return weighted F1 by the rate at which modalities are dropped, a panel a part."""
    places = [float(name.removeprefix("missing=")) for name in RATES]
    return _courses(study, other, RATES, places, "missing rate")


def noise(study: Study, other: Study | None = None) -> Figure | None:
    """Return weighted F1 by the signal-to-noise ratio of all modalities, a panel a part, clean ones to the left."""
    names = (CLEAN, *NOISES)
    labels = ["clean", *(name.removeprefix("snr=") for name in NOISES)]
    return _courses(study, other, names, list(range(len(names))), "signal-to-noise ratio (dB)", labels)


def attention(study: Study) -> Figure | None:
    """Return the mean weight of each modality by the subset that was given, a panel a part."""
    parts = [
        part for part in study.parts
        if not study.reported and all(weights(study, part, subset) is not None for subset in SUBSETS)
    ]  # fmt: skip
    if not parts:
        return None
    figure, panels = lay_out(len(parts), 3.0, 2.6)
    for axes, part in zip(panels, parts, strict=True):
        found = np.array([weights(study, part, subset) for subset in SUBSETS])
        places, left = np.arange(len(SUBSETS)), np.zeros(len(SUBSETS))
        for i in range(len(MODALITIES)):
            if normalised(study):
                axes.bar(places, found[:, i], 0.75, bottom=left, color=COLOURS[i])
                left += found[:, i]
            else:
                axes.bar(places + 0.26 * (i - 1), found[:, i], 0.25, color=COLOURS[i])
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xticks(places, SUBSETS)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(shown(part))
        axes.set_xlabel("given")
        axes.grid(axis="x", visible=False)
    low, high = min(axes.get_ylim()[0] for axes in panels), max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, 1.0 if normalised(study) else high)
    panels[0].set_ylabel("share of attention" if normalised(study) else "weight (no softmax)")
    handles = [Patch(color=COLOURS[i], label=name) for i, name in enumerate(MODALITIES)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def dropout(study: Study) -> Figure | None:
    """Return the probability of modality dropout by epoch, with the epochs whose weights were kept."""
    found = effective_dropout(study)
    if not found:
        return None
    figure, (axes,) = lay_out(1, 6.4, 2.6)
    axes.plot(list(found), list(found.values()), color=COLOURS[0], lw=2)
    best = [epoch for run in study.finished if (epoch := kept(run)) is not None]
    heights = np.interp(best, list(found), list(found.values()))
    # Runs that kept the same epoch are drawn one over the other.
    axes.plot(best, heights, "o", color=COLOURS[1], ms=6, alpha=0.6, mec="white", mew=0.5)
    handles = [
        Line2D([], [], color=COLOURS[0], lw=2, label="probability"),
        Line2D([], [], color=COLOURS[1], marker="o", lw=0, label="epoch kept by a run"),
    ]
    full = max((warmup(run) for run in study.finished), default=0)
    if full:
        axes.axvline(full + 1, color=_OTHER, ls="--", lw=1.2)
        handles.append(Line2D([], [], color=_OTHER, ls="--", lw=1.2, label="full rate (2W)"))
    axes.set_ylim(0, 1.15 * max(found.values()))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="modality dropout")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _courses(
    study: Study, other: Study | None, names: Sequence[str], places: Sequence[float], axis: str,
    labels: Sequence[str] = (),
) -> Figure | None:  # fmt: skip
    if study.reported or not measured(study, names):
        return None
    parts = [part for part in study.parts if all(study.under(name, part) for name in names)]
    figure, panels = lay_out(len(parts), 2.9, 2.7)
    sides = [(study, COLOURS[0], DASHES[0])]
    if other is not None and not other.reported and measured(other, names):
        sides.append((other, _OTHER, DASHES[1]))
    for axes, part in zip(panels, parts, strict=True):
        for side, colour, dash in sides:
            found = np.array([score(side, name, part) for name in names])
            axes.plot(places, found[:, 0], color=colour, ls=dash, lw=1.8, marker=".")
            axes.fill_between(places, found[:, 0] - found[:, 1], found[:, 0] + found[:, 1], color=colour, alpha=0.2)
        axes.set_title(shown(part))
        axes.set_xlabel(axis)
        if labels:
            axes.set_xticks(list(places), list(labels))
    low, high = min(axes.get_ylim()[0] for axes in panels), max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)
    panels[0].set_ylabel("weighted F1")
    handles = [Line2D([], [], color=c, ls=d, lw=1.8, label=side.name or "here") for side, c, d in sides]
    if len(sides) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
