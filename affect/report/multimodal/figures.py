"""Plots of scores: parts with their intervals, confusion, training courses, differences to another experiment."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from affect.metrics.regression import Floats
from affect.report.figure import COLOURS, lay_out
from affect.report.multimodal.against import NAMES
from affect.report.multimodal.compare import REST, Comparison, Difference
from affect.report.multimodal.details import confused
from affect.report.multimodal.measures import MEASURES, by_seed, over_seeds
from affect.report.multimodal.names import CV, SCORES, shown
from affect.report.multimodal.study import Study
from affect.report.scores import section

_NOISE = "#767676"
_AXES = {"f1": "weighted F1", "acc": "accuracy", "val": "MSE of valence (lower is better)"}


def scores(study: Study) -> Figure | None:
    """Return a panel a score: each part's mean with its interval, its seeds, and the trivial baseline."""
    if study.reported or not study.parts:
        return None
    figure, panels = lay_out(len(SCORES), 3.2, 2.9)
    for axes, score in zip(panels, SCORES, strict=True):
        known = [part for part in study.parts if not math.isnan(study.scored(part, score)[0])]
        for place, part in enumerate(known):
            found = study.estimate(part, score)
            if not math.isnan(found.low):
                axes.plot([place, place], [found.low, found.high], color=COLOURS[0], lw=2.2, solid_capstyle="butt")
            axes.plot([place], [found.value], "o", color=COLOURS[0], ms=7)
            values = list(by_seed(study.system(part), MEASURES[score]).values())
            if len(values) > 1:
                places = place + 0.27 + np.linspace(-0.1, 0.1, len(values))
                axes.plot(places, values, "o", color=COLOURS[5], ms=3.2)
            trivial = over_seeds(study.baseline(part), MEASURES[score])[0]
            axes.hlines(trivial, place - 0.3, place + 0.3, colors=_NOISE, linestyles="--", lw=1.5)
        axes.set_xticks(range(len(known)), [shown(part) for part in known])
        axes.set_xlim(-0.6, len(known) - 0.4)
        axes.set_ylim(bottom=0)
        axes.set_title(_AXES[score])
        axes.grid(axis="x", visible=False)
    handles = [
        Line2D([], [], color=COLOURS[0], marker="o", lw=2.2, label="mean with its 95 % interval"),
        Line2D([], [], color=_NOISE, ls="--", lw=1.5, label="majority class, mean valence"),
    ]
    if len(study.seeds) > 1:
        handles.insert(1, Line2D([], [], color=COLOURS[5], marker="o", lw=0, ms=4, label="a seed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def confusion(study: Study) -> Figure | None:
    """Return a panel a part: the share of each label's utterances that were taken for each class."""
    known = [part for part in study.parts if not study.reported and confused(study, part).sum()]
    if not known:
        return None
    figure, panels = lay_out(len(known), 3.0, 3.0)
    for axes, part in zip(panels, known, strict=True):
        counts = confused(study, part)
        total = counts.sum(1, keepdims=True)
        share = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
        heat(axes, share, list(study.classes), list(study.classes), percent=True)
        axes.tick_params(axis="x", rotation=45)
        axes.set_title(shown(part))
        axes.set_xlabel("predicted")
    panels[0].set_ylabel("label")
    for axes in panels[1:]:
        axes.set_yticklabels([])
    return figure


def heat(
    axes: Axes, values: Floats, rows: list[str], columns: list[str], *, percent: bool = False, low: float = 0.0
) -> None:
    """Draw a matrix with its numbers written in; `percent` writes shares as whole percents, `low` is white."""
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    axes.imshow(values, cmap="Blues", vmin=low, vmax=max(1.0 if percent else top, low + 0.01), aspect="auto")
    middle = low + 0.6 * (max(1.0 if percent else top, low + 0.01) - low)
    for i, j in np.argwhere(np.isfinite(values)):
        words = f"{100 * values[i, j]:.0f}" if percent else f"{values[i, j]:.3f}"
        axes.text(j, i, words, ha="center", va="center", color="white" if values[i, j] > middle else "black")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def curves(study: Study) -> Figure | None:
    """Return training loss and the fold's emoval by epoch, a line a run, a dot at the epoch kept."""
    runs = [run for run in study.runs if run.evals and not run.reported]
    if not runs:
        return None
    figure, panels = lay_out(2, 4.6, 3.0)
    folds = sorted({run.fold for run in runs})
    for run in runs:
        colour = COLOURS[folds.index(run.fold) % len(COLOURS)]
        losses: dict[int, list[float]] = {}
        for step in run.steps:
            if isinstance(step.get("epoch"), int) and isinstance(step.get("loss"), int | float):
                losses.setdefault(step["epoch"] + 1, []).append(float(step["loss"]))
        panels[0].plot(list(losses), [float(np.mean(v)) for v in losses.values()], color=colour, lw=0.9, alpha=0.8)
        course = {
            event["epoch"] + 1: float(value)
            for event in run.evals
            if event.get("split") == CV and isinstance(event.get("epoch"), int)
            and isinstance(value := section(event, "scores").get("emoval"), int | float)
        }  # fmt: skip
        panels[1].plot(list(course), list(course.values()), color=colour, lw=0.9, alpha=0.8)
        best = run.end.get("best_epoch")
        if isinstance(best, int) and best + 1 in course:
            panels[1].plot([best + 1], [course[best + 1]], "o", color=colour, ms=4)
    for axes in panels:
        axes.set(xlabel="epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set(title="training", ylabel="loss")
    panels[1].set(title="validation", ylabel="emoval")
    handles = [Line2D([], [], color=COLOURS[i % len(COLOURS)], label=f"fold {f}") for i, f in enumerate(folds)]
    figure.legend(handles=handles, loc="outside lower center", ncols=8)
    return figure


def differences(comparison: Comparison) -> Figure | None:
    """Return a line a part: the differences of weighted F1 in points with intervals, coloured as the words judge."""
    known = [
        found for found in comparison.differences
        if found.score in ("f1", REST) and not math.isnan(found.estimate.value)
    ]  # fmt: skip
    if not known:
        return None
    figure, (axes,) = lay_out(1, 7.0, 0.6 + 0.36 * len(known))
    legend: dict[str, str] = {}
    for place, found in enumerate(known):
        colour, words = _judged(found)
        legend.setdefault(words, colour)
        low, value, high = (100 * bound for bound in (found.estimate.low, found.estimate.value, found.estimate.high))
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=colour, lw=2.4, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=colour, ms=7)
        seeds = [100 * found.seeds[seed] for seed in found.seeds]
        axes.plot(seeds, [place + 0.25] * len(seeds), "|", color=_NOISE, ms=5)
    axes.axvline(0, color="black", lw=1)
    left, right = axes.get_xlim()
    axes.set_xlim(min(left, -1), max(right, 1))
    axes.set_yticks(range(len(known)), [f"{shown(found.part)} {NAMES[found.score]}" for found in known])
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_xlabel("difference of weighted F1 in points (right: better here)")
    axes.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=colour, marker="o", lw=2.4, label=words) for words, colour in legend.items()]
    handles += [Line2D([], [], color=_NOISE, marker="|", lw=0, label="a seed")] if any(f.seeds for f in known) else []
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _judged(found: Difference) -> tuple[str, str]:
    """Return the colour of a difference and what it stands for."""
    strength = found.judged.strength
    if strength in ("unknown", "no interval", "within noise"):
        return _NOISE, "no interval" if strength == "no interval" else "within noise"
    side = "better" if found.improved else "worse"
    if strength == "really":
        return (COLOURS[2] if found.improved else COLOURS[1]), side
    return ("#8ccfba" if found.improved else "#ecb48c"), f"{'higher' if found.improved else 'lower'}, not confirmed"
