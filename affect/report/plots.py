"""The report's plots, as PNG files that are the same bytes for the same runs.

Legend: R rows, n points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from affect.figures import COLOURS, DASHES, GREY, Dash, heat, lay_out, plain, same_scale
from affect.report.compare import Comparison, Difference
from affect.report.details import counted, names_of
from affect.report.runs import VALID
from affect.report.study import Study
from affect.report.systems import Floats
from affect.task import Measure

_MANY = 3000
"""More points than this are shown as a density: dots would only hide each other."""

_WIDE = 36
"""Letters of the names below a panel that fit beside each other."""

_SIDES = {(True, True): COLOURS[2], (True, False): "#8ccfba", (False, True): COLOURS[1], (False, False): "#ecb48c"}
"""Colours of a difference by whether it is better, and whether it really is."""


def scores(study: Study) -> Figure | None:
    """Return a panel a measure: each evaluation's score with its interval, its seeds, and trivial models."""
    if study.reported or not study.finished or study.task is None:
        return None
    figure, panels = lay_out(len(study.headline), 3.2, 2.9)
    dashes = {name: DASHES[1 + i % 3] for i, name in enumerate(study.baselines)}
    for axes, measure in zip(panels, study.headline, strict=True):
        names = [name for name in study.evaluations if not math.isnan(study.estimate(name, measure).value)]
        for place, name in enumerate(names):
            estimate = study.estimate(name, measure)
            if estimate.bounded:
                axes.plot(
                    [place, place], [estimate.low, estimate.high], color=COLOURS[0], lw=2.2, solid_capstyle="butt"
                )
            axes.plot([place], [estimate.value], "o", color=COLOURS[0], ms=7)
            values = list(study.scored(name, measure).by_seed.values())
            if len(values) > 1:
                axes.plot(place + 0.27 + np.linspace(-0.1, 0.1, len(values)), values, "o", color=COLOURS[5], ms=3.2)
            for model, dash in dashes.items():
                trivial = study.estimate(name, measure, model).value
                axes.hlines(trivial, place - 0.3, place + 0.3, colors=GREY, linestyles=dash, lw=1.5)
        crowded = sum(map(len, names)) > _WIDE
        turned: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
        axes.set_xticks(range(len(names)), [plain(name) for name in names], **turned)
        axes.set_xlim(-0.6, max(len(names), 1) - 0.4)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.set_title(plain(_named(measure)))
        axes.grid(axis="x", visible=False)
    handles = [Line2D([], [], color=COLOURS[0], marker="o", lw=2.2, label="score with its 95 % interval")]
    if len(study.seeds) > 1:
        handles.append(Line2D([], [], color=COLOURS[5], marker="o", lw=0, ms=4, label="a seed's mean over folds"))
    handles += [Line2D([], [], color=GREY, ls=dash, lw=1.5, label=plain(name)) for name, dash in dashes.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _named(measure: Measure) -> str:
    return f"{measure.shown} (lower is better)" if measure.sign < 0 else measure.shown


def folds(study: Study, evaluation: str) -> Figure | None:
    """Return a panel a measure: each fold's score as a bar, the seeds as points, trivial models as lines."""
    if len(study.folds) < 2:
        return None
    numbers = study.folds
    figure, panels = lay_out(len(study.headline), min(max(2.8, 0.7 * len(numbers) + 1.2), 5.0), 3.2)
    places = np.arange(len(numbers))
    for axes, measure in zip(panels, study.headline, strict=True):
        scored = study.scored(evaluation, measure)
        heights = [scored.by_fold.get(fold, math.nan) for fold in numbers]
        axes.bar(places, np.nan_to_num(heights), width=0.62, color="#56B4E9")
        if len(study.seeds) > 1:
            offsets = dict(zip(study.seeds, np.linspace(-0.18, 0.18, len(study.seeds)), strict=True))
            points = [(numbers.index(f) + offsets[s], v) for (s, f), v in scored.cells.items() if f]
            axes.plot(*np.array(points).T, "o", color=COLOURS[0], ms=4, mec="white", mew=0.5)
        for i, model in enumerate(study.baselines):
            trivial = study.scored(evaluation, measure, model).by_fold
            values = [trivial.get(fold, math.nan) for fold in numbers]
            colour, dash = _line(i)
            axes.hlines(values, places - 0.4, places + 0.4, colors=colour, linestyles=dash, lw=1.5)
        names = [_tick(study, evaluation, fold) for fold in numbers]
        crowded = max(max(map(len, tick.split("\n"))) for tick in names) * len(numbers) > 60
        axes.set_xticks(places, names, rotation=90 if crowded else 0)
        axes.set_xlabel("fold (held out)")
        axes.set_title(plain(_named(measure)))
        axes.grid(axis="x", visible=False)
        axes.spines["bottom"].set_visible(False)
    if len({measure.better for measure in study.headline}) == 1:
        same_scale(panels)
    mean = "network (mean of seeds)" if len(study.seeds) > 1 else "network"
    handles = [Line2D([], [], color="#56B4E9", lw=7, label=mean)]
    handles += [Line2D([], [], color=COLOURS[0], marker="o", lw=0, label="a seed")] if len(study.seeds) > 1 else []
    for i, model in enumerate(study.baselines):
        handles.append(Line2D([], [], color=_line(i)[0], ls=_line(i)[1], label=plain(model)))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def _line(place: int) -> tuple[str, Dash]:
    return ("#999999", COLOURS[1], "#000000", COLOURS[2])[place % 4], DASHES[place % 4]


def _tick(study: Study, evaluation: str, fold: int) -> str:
    run = next(run for run in study.finished if run.fold == fold)
    name = study.held_out(run, evaluation)
    return f"{fold}\n{plain(name)}" if name else str(fold)


def curves(study: Study) -> Figure | None:
    """Return the training loss and validation scores over epochs: a line a run, a dot where it was kept."""
    drawn = [run for run in study.runs if (run.steps or run.evals) and not run.reported]
    if not drawn:
        return None
    numbers = sorted({run.fold for run in drawn})
    measures = [m for m in study.measures if any(run.course(VALID, m.name) for run in drawn)]
    shown = [m for m in measures if m.headline and not m.parts or m is study.measures[0]][:5]
    figure, panels = lay_out(1 + len(shown), 3.7, 3.4)
    thin = 0.9 if len(drawn) > 10 else 1.2
    for run in drawn:
        colour, dash = _of_fold(numbers.index(run.fold))
        losses = _binned([(r["step"] * run.pace, _number(r.get("loss"))) for r in run.steps])
        panels[0].plot(*losses, color=colour, ls=dash, lw=thin)
        for axes, measure in zip(panels[1:], shown, strict=True):
            course = run.course(VALID, measure.name)
            epochs = [step * run.pace for step in course]
            mark, best = "." if len(course) < 3 else None, run.end.get("best_step")
            axes.plot(epochs, list(course.values()), color=colour, ls=dash, lw=thin, marker=mark)
            if best in course:
                axes.plot([best * run.pace], [course[best]], "o", color=colour, ms=5)
    for axes in panels:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set(title="training", xlabel="epoch", ylabel="loss")
    for axes, measure in zip(panels[1:], shown, strict=True):
        axes.set(title=plain(f"validation, {measure.shown}"), xlabel="epoch", ylabel=plain(_named(measure)))
    styles = [(f"fold {fold}", *_of_fold(i)) for i, fold in enumerate(numbers)]
    handles = [Line2D([], [], color=colour, ls=dash, label=label) for label, colour, dash in styles]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8))
    return figure


def _of_fold(place: int) -> tuple[str, Dash]:
    return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]


def predicted(study: Study) -> Figure | None:
    """Return a panel a numeric target: predictions of the tests over labels, with the mean at each label."""
    rows = [row for name in study.tests or study.evaluations for row in study.system(name).rows()]
    if not rows or not study.numeric:
        return None
    pairs = {}
    for target in study.numeric:
        both = np.array([[_number(row[side].get(target)) for side in ("target", "prediction")] for row in rows])
        pairs[target] = both[np.isfinite(both).all(1)]
    dense = any(len(both) > _MANY for both in pairs.values())
    figure, panels = lay_out(len(pairs), 4.4 if dense else 4.0, 3.6 if dense else 4.1)
    for axes, (target, both) in zip(panels, pairs.items(), strict=True):
        if len(both):
            _points(figure, axes, both[:, 1], both[:, 0], target, dense)
        else:
            axes.set_title(plain(f"{target}: nothing to show"))
    drawn = [panel.get_legend_handles_labels() for panel in panels]
    handles, words = next((legend for legend in drawn if legend[0]), ([], []))
    if handles:
        figure.legend(handles, words, loc="outside lower center", ncols=3)
    return figure


def _points(figure: Figure, axes: Axes, p: Floats, t: Floats, target: str, dense: bool) -> None:
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
    axes.set(xlim=limits, ylim=limits, aspect="equal", title=plain(f"{target}, {len(p):,} predictions"))
    for axis, side in ((axes.xaxis, "true"), (axes.yaxis, "predicted")):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_label_text(plain(f"{side} {target} (raw scale)"))


def confusion(study: Study, target: str) -> Figure | None:
    """Return a panel an evaluation: the share of each label's rows that were taken for each class."""
    names = names_of(study, target)
    tables = {name: counted(study, name, target, names) for name in study.evaluations}
    matrices = {name: np.sum(each, axis=0) for name, each in tables.items() if sum(table.sum() for table in each)}
    if not matrices:
        return None
    size = max(3.0, 0.42 * len(names))
    figure, panels = lay_out(len(matrices), size, size)
    for axes, (name, counts) in zip(panels, matrices.items(), strict=True):
        total = counts.sum(1, keepdims=True)
        heat(axes, np.where(total > 0, counts / np.maximum(total, 1), np.nan), names, names, percent=True)
        axes.tick_params(axis="x", rotation=45 if len(names) < 9 else 90)
        axes.set_title(plain(f"{name} ({int(counts.sum()):,} in all)"))
        axes.set_xlabel("predicted")
    panels[0].set_ylabel("label")
    for axes in panels[1:]:
        axes.set_yticklabels([])
    return figure


def differences(comparison: Comparison) -> Figure | None:
    """Return a line a difference with its interval and its pairs, coloured as the words judge it (strong: real).

    All lie on one scale, so of measures whose differences are far larger than the main one's there are panels apart.
    """
    judged = [one for one in comparison.differences if not math.isnan(one.estimate.value)]
    sides = [side for sign in (1, -1) if (side := [one for one in judged if one.measure.sign == sign])]
    if not sides:
        return None
    figure, panels = lay_out(len(sides), 6.4, 0.6 + 0.36 * max(map(len, sides)))
    legend: dict[str, str] = {}
    for axes, side in zip(panels, sides, strict=True):
        for place, one in enumerate(side):
            colour, words = _judged(one)
            legend.setdefault(words, colour)
            if one.estimate.bounded:
                ends = [one.estimate.low, one.estimate.high]
                axes.plot(ends, [place, place], color=colour, lw=2.4, solid_capstyle="butt")
            axes.plot([one.estimate.value], [place], "o", color=colour, ms=7)
            axes.plot(list(one.pairs.values()), [place + 0.25] * len(one.pairs), "|", color=GREY, ms=5)
        axes.axvline(0, color="black", lw=1)
        # Both sides of 0 are shown, however far the intervals lie from it.
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -0.02), max(high, 0.02))
        axes.set_yticks(range(len(side)), [plain(f"{one.evaluation} {one.measure.shown}") for one in side])
        axes.set_ylim(len(side) - 0.4, -0.6)
        axes.set_xlabel(f"difference ({'right' if side[0].measure.sign > 0 else 'left'}: better here)")
        axes.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=colour, marker="o", lw=2.4, label=words) for words, colour in legend.items()]
    if any(one.pairs for one in judged):
        handles.append(Line2D([], [], color=GREY, marker="|", lw=0, label="a fold or seed"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _judged(difference: Difference) -> tuple[str, str]:
    """Return the colour of a difference and what it stands for, as the page's words have it."""
    judgement = difference.judged
    if judgement.strength in ("unknown", "no interval", "within noise"):
        return GREY, "no interval" if judgement.strength == "no interval" else "within noise"
    side = "better" if judgement.better else "worse"
    # Without the groups that it rests on.
    words = f"{side}, not confirmed" if judgement.strength == "not confirmed" else judgement.said()
    return _SIDES[judgement.better, judgement.strength == "really"], words


def beside(ours: Study, theirs: Study, evaluation: str) -> Figure | None:
    """Return a panel a measure: each fold's score here and there, joined; the lines are the means over folds."""
    both = [m for m in ours.headline if any(m.name == other.name for other in theirs.headline)]
    sides = [{m.name: study.scored(evaluation, m).by_fold for m in both} for study in (ours, theirs)]
    numbers = sorted({fold for side in sides for values in side.values() for fold in values} - {0})
    if not both or len(numbers) < 2:
        return None
    figure, panels = lay_out(len(both), min(max(2.8, 0.7 * len(numbers) + 1.2), 5.0), 3.2)
    styles = ((COLOURS[0], "o", "-"), (COLOURS[1], "D", "--"))
    places = np.arange(len(numbers))
    for axes, measure in zip(panels, both, strict=True):
        here, there = ([side[measure.name].get(fold, math.nan) for fold in numbers] for side in sides)
        axes.vlines(places, here, there, color="#b0b0b0", lw=1.6)
        for side, (colour, mark, dash), values in zip(sides, styles, (here, there), strict=True):
            axes.plot(places, values, mark, color=colour, ms=6, mec="white", mew=0.6)
            present = [value for value in side[measure.name].values() if not math.isnan(value)]
            if present:
                axes.axhline(float(np.mean(present)), color=colour, ls=dash, lw=1.1)
        axes.set_xlim(-0.6, len(numbers) - 0.4)
        axes.set_xticks(places, [str(fold) for fold in numbers])
        axes.set(title=plain(_named(measure)), xlabel="fold")
        axes.grid(axis="x", visible=False)
    if len({measure.better for measure in both}) == 1:
        same_scale(panels)
    handles = []
    for (colour, mark, dash), words in zip(styles, ("here", plain(theirs.name)), strict=True):
        handles.append(Line2D([], [], color=colour, marker=mark, ls=dash, lw=1.1, label=words))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


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


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _binned(points: Iterable[tuple[float, float]], most: int = 30) -> tuple[Floats, Floats]:
    """Return at most `most` points [n], each the mean of neighbours: single batches are mostly noise."""
    both: Floats = np.array(list(points), np.float64).reshape(-1, 2)
    parts = [part for part in np.array_split(both, most) if len(part)]
    means: Floats = np.array([part.mean(axis=0) for part in parts]).reshape(-1, 2)
    return means[:, 0], means[:, 1]
