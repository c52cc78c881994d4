"""The report's plots, as PNG files that are the same bytes for the same runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from affect.metrics.regression import Floats
from affect.report.compare import Comparison, fold_scores
from affect.report.experiment import Experiment, with_scores
from affect.report.figure import COLOURS, DASHES, Dash, lay_out, save
from affect.report.margins import beside, differences
from affect.report.runs import Run
from affect.report.scatter import predicted
from affect.report.scores import Scores, Targets, by_fold, held_out, section
from affect.report.tables import label

_BASELINES: dict[str, tuple[str, Dash]] = {
    "mean": ("#999999", ":"),
    "ridge": ("#D55E00", "--"),
    "svr": ("#000000", "-."),
}


def draw(
    runs: Sequence[Run],
    folder: Path,
    other: Experiment | None = None,
    comparison: Comparison | None = None,
    known: Scores | None = None,
) -> list[tuple[str, str]]:
    """Write the plots that the runs allow into `folder`; return (caption, path beside the page) of each."""
    return list(save(_figures(runs, other, comparison, known), folder).values())


def _figures(
    runs: Sequence[Run], other: Experiment | None, comparison: Comparison | None, known: Scores | None
) -> Iterator[tuple[str, str, Figure | None]]:
    scores = known if known is not None else with_scores(runs)
    measure = "score" if scores.targets.classes else "CCC"
    yield "folds", f"Test {measure} by fold", folds(scores)
    compared = None if comparison is None else differences(comparison)
    name = other.name if other else ""
    yield "differences", f"Difference to {name}, with its 95 % interval", compared
    yield "beside", f"Fold by fold beside {name} (lines: means)", beside(scores, other.scores, name) if other else None
    yield "predicted", "Predicted against true, all test parts", predicted(scores)
    words = f"Training loss and validation {measure} by epoch (dots: the chosen checkpoint"
    words += "; the seeds of a fold share its colour)" if len({run.seed for run in runs}) > 1 else ")"
    yield "curves", words, curves(runs)


def folds(scores: Scores) -> Figure | None:
    """Return a panel a target: a bar a fold, a point a seed, a line a baseline."""
    # Fold 0 is a mean whose folds are unknown.
    numbers = sorted({run.fold for run in scores.runs} - {0})
    if not numbers:
        return None
    figure, panels = lay_out(len(scores.targets), min(max(2.8, 0.7 * len(numbers) + 1.2), 5.0), 3.2)
    for axes, target in zip(panels, scores.targets, strict=True):
        values = fold_scores(scores, target)
        places = np.arange(len(numbers))
        axes.bar(places, [_drawn(values[fold]) for fold in numbers], width=0.62, color="#56B4E9")
        _seeds(axes, scores, target, numbers)
        for name in scores.baselines:
            colour, dash = _BASELINES.get(name, ("#009E73", "-"))
            found = by_fold(scores.covered(name), _baseline(scores, name, target))
            heights = [found.get(fold, math.nan) for fold in numbers]
            axes.hlines(heights, places - 0.4, places + 0.4, colors=colour, linestyles=dash, lw=1.8, label=name)
        axes.axhline(0, color="black", lw=0.8, zorder=1.5)
        axes.set_xlim(-0.7, len(numbers) - 0.3)
        crowded = len(numbers) > 6
        axes.set_xticks(places, [_tick(scores, fold) for fold in numbers], rotation=90 if crowded else 0)
        axes.set_xlabel("fold (held out)")
        axes.set_ylabel(label(target, scores.targets))
        axes.set_title(target)
        axes.grid(axis="x", visible=False)
        axes.spines["bottom"].set_visible(False)
    # One scale for all targets, so that heights compare.
    low, high = min(axes.get_ylim()[0] for axes in panels), max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(min(low, -0.01), high)
    handles, _ = panels[0].get_legend_handles_labels()
    network = Patch(color="#56B4E9", label="network (mean of seeds)" if _seed_count(scores) > 1 else "network")
    figure.legend(handles=[network, *handles], loc="outside lower center", ncols=5)
    return figure


def curves(runs: Sequence[Run]) -> Figure | None:
    """Return the training loss and each target's validation CCC over epochs, a line a run."""
    drawn = [run for run in runs if run.steps or run.evals]
    if not drawn:
        return None
    numbers = sorted({run.fold for run in drawn})
    targets = _evaluated(drawn)
    names = [f"{'ua' if target in targets.classes else 'ccc'}_{target}" for target in targets]
    figure, panels = lay_out(1 + len(names), 3.7, 3.4)
    for run in drawn:
        place = numbers.index(run.fold)
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        pace = run.pace
        losses = _binned([(r["step"] * pace, _number(r.get("loss"))) for r in run.steps])
        panels[0].plot(*losses, color=colour, ls=dash, lw=1.2)
        for axes, name in zip(panels[1:], names, strict=True):
            evals = [event for event in run.evals if event.get("split") == "valid"]
            epochs = [event["step"] * pace for event in evals]
            course = [_number(section(event, "scores").get(name)) for event in evals]
            axes.plot(epochs, course, color=colour, ls=dash, lw=1.2, marker="." if len(evals) < 3 else None)
            best = [i for i, event in enumerate(evals) if event["step"] == run.end.get("best_step")]
            axes.plot([epochs[i] for i in best], [course[i] for i in best], "o", color=colour, ms=5)
    for axes in panels:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set(title="training", xlabel="epoch", ylabel="loss")
    for axes, target in zip(panels[1:], targets, strict=True):
        axes.set(title=f"validation, {target}", xlabel="epoch", ylabel=label(target, targets))
    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], ls=DASHES[i // len(COLOURS) % len(DASHES)], label=f"fold {f}")
        for i, f in enumerate(numbers)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8))
    return figure


def _evaluated(runs: Sequence[Run]) -> Targets:
    """Return the targets that some evaluation scored."""
    keys = {key for run in runs for event in run.evals for key in section(event, "scores")}
    classes = {key.removeprefix("ua_") for key in keys if key.startswith("ua_")}
    return Targets({key.removeprefix("ccc_") for key in keys if key.startswith("ccc_")} | classes, classes)


def _seeds(axes: Axes, scores: Scores, target: str, numbers: list[int]) -> None:
    if _seed_count(scores) < 2:
        return
    seeds = sorted({run.seed for run in scores.runs})
    offsets = dict(zip(seeds, np.linspace(-0.18, 0.18, len(seeds)), strict=True))
    points = [(numbers.index(r.fold) + offsets[r.seed], scores.part(r, "test")[target]) for r in scores.runs]
    axes.plot(*zip(*points, strict=True), "o", color=COLOURS[0], ms=4, mec="white", mew=0.5, label="a seed")


def _seed_count(scores: Scores) -> int:
    return len({run.seed for run in scores.runs})


def _tick(scores: Scores, fold: int) -> str:
    name = held_out(next(run for run in scores.runs if run.fold == fold))
    return f"{fold}\n{name}" if name else str(fold)


def _baseline(scores: Scores, name: str, target: str) -> Callable[[Run], float]:
    return lambda run: scores.score(run.baselines[name].values(), target)


def _drawn(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _binned(points: Iterable[tuple[float, float]], most: int = 30) -> tuple[Floats, Floats]:
    """Return at most `most` points, each the mean of neighbours: single batches are mostly noise."""
    both: Floats = np.array(list(points), np.float64).reshape(-1, 2)
    parts = [part for part in np.array_split(both, most) if len(part)]
    means: Floats = np.array([part.mean(axis=0) for part in parts]).reshape(-1, 2)
    return means[:, 0], means[:, 1]
