"""Predictions over labels: points or a density for numbers, a confusion matrix for classes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from affect.metrics.classification import confusion
from affect.metrics.regression import Floats
from affect.report.figure import COLOURS, lay_out
from affect.report.scores import Scores, arrays, names

_MANY = 3000
"""More points than this are shown as a density: dots would only hide each other."""


def predicted(scores: Scores) -> Figure | None:
    """Return a panel a target: test predictions over labels with the mean at each label, or a confusion matrix."""
    count = sum(len(run.test) for run in scores.runs)
    if not count:
        return None
    dense = count > _MANY
    figure, panels = lay_out(len(scores.targets), 4.4 if dense else 4.0, 3.6 if dense else 4.1)
    for axes, target in zip(panels, scores.targets, strict=True):
        if target in scores.targets.classes:
            _confused(axes, scores, target)
        else:
            _points(figure, axes, scores, target, dense)
    drawn = [panel.get_legend_handles_labels() for panel in panels]
    handles, words = next((found for found in drawn if found[0]), ([], []))
    if handles:
        figure.legend(handles, words, loc="outside lower center", ncols=3)
    return figure


def _points(figure: Figure, axes: Axes, scores: Scores, target: str, dense: bool) -> None:
    p, t = arrays((row for run in scores.runs for row in run.test.values()), target)
    known = np.isfinite(p) & np.isfinite(t)
    p, t = p[known], t[known]
    if not len(p):
        axes.set_title(f"{target}: nothing to show")
        return
    low, high = float(min(p.min(), t.min())), float(max(p.max(), t.max()))
    margin = 0.05 * ((high - low) or 1.0)
    limits = (low - margin, high + margin)
    if dense:
        image = axes.hexbin(t, p, gridsize=40, extent=(*limits, *limits), mincnt=1, cmap="Blues", bins="log")
        figure.colorbar(image, ax=axes, label="predictions", format="%g")
    else:
        axes.scatter(t, p, s=10, color=COLOURS[0], alpha=0.45, lw=0, label="a prediction")
    axes.plot(limits, limits, color="black", lw=1, ls="--", label="perfect")
    axes.plot(*_course(t, p), color=COLOURS[1], lw=1.8, marker="o", ms=4, label="mean prediction")
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=f"{target}, {len(p):,} predictions")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlabel(f"true {target} (raw scale)")
    axes.set_ylabel(f"predicted {target} (raw scale)")


def _confused(axes: Axes, scores: Scores, target: str) -> None:
    """Draw how often each class was taken for each, in percent of the label."""
    x, y = names((row for run in scores.runs for row in run.test.values()), target)
    known = (x != "") & (y != "")
    if not known.any():
        axes.set_title(f"{target}: nothing to show")
        return
    labels = [str(name) for name in np.union1d(x[known], y[known])]
    table = confusion(x[known], y[known], labels)
    percent = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate(percent):
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else "black")
    axes.set_xticks(range(len(labels)), labels, rotation=90 if len(labels) > 4 else 0)
    axes.set_yticks(range(len(labels)), labels)
    axes.grid(visible=False)
    axes.set(title=f"{target}, % of each label ({int(known.sum()):,} in all)", xlabel="predicted", ylabel="label")


def _course(t: Floats, p: Floats, bins: int = 10, least: int = 5) -> tuple[Floats, Floats]:
    """Return the mean label and mean prediction in bins of the label (its own values where they are few).

    Bins with fewer than `least` predictions are left out: their mean is noise.
    """
    kinds, index = np.unique(t, return_inverse=True)
    if len(kinds) > bins:
        edges = np.linspace(t.min(), t.max(), bins + 1)
        index = np.clip(np.digitize(t, edges) - 1, 0, bins - 1)
    count = np.bincount(index).astype(np.float64)
    used = count >= least
    mean_t, mean_p = (np.bincount(index, v)[used] / count[used] for v in (t, p))
    return mean_t, mean_p
