"""The report's plots, as PNG files that are the same bytes for the same runs.

Colours are those of Okabe and Ito (2008), told apart with every common kind of colour blindness.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from affect.metrics.regression import Floats, ccc
from affect.report.runs import Record, Run
from affect.report.scores import Scores, arrays, by_fold, held_out, section
from affect.report.tables import label

_Dash = Literal["-", "--", ":", "-."]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DASHES: tuple[_Dash, ...] = ("-", "--", ":", "-.")
_BASELINES: dict[str, tuple[str, _Dash]] = {
    "mean": ("#999999", ":"),
    "ridge": ("#D55E00", "--"),
    "svr": ("#000000", "-."),
}
_STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlesize": 10.0,
    "legend.frameon": False,
}
_MANY = 3000
"""More points than this are shown as a density: dots would only hide each other."""


def draw(runs: Sequence[Run], folder: Path) -> list[tuple[str, str]]:
    """Write the plots that the runs allow into `folder`; return (caption, path beside the page) of each."""
    scores = Scores(runs=[run for run in runs if run.finished and run.test])
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    # The reader's own matplotlibrc must not change the bytes.
    with matplotlib.style.context(["default", _STYLE]):
        for name, caption, figure in (
            ("folds", "Test CCC by fold", folds(scores)),
            ("predicted", "Predicted against true, all test parts", predicted(scores)),
            ("curves", "Training loss and validation CCC by epoch (dots: the chosen checkpoint)", curves(runs)),
        ):
            path = folder / f"{name}.png"
            if figure is None:
                # A plot of an earlier state would contradict the page.
                path.unlink(missing_ok=True)
                continue
            FigureCanvasAgg(figure)
            # matplotlib would write its version into the file.
            figure.savefig(path, dpi=130, metadata={"Software": None})
            drawn.append((caption, f"{folder.name}/{name}.png"))
    return drawn


def folds(scores: Scores) -> Figure | None:
    """Return a panel a target: a bar a fold, a point a seed, a line a baseline."""
    if not scores.runs:
        return None
    numbers = sorted({run.fold for run in scores.runs})
    figure, panels = _panels(len(scores.targets), min(max(2.8, 0.7 * len(numbers) + 1.2), 5.0), 3.2)
    for axes, target in zip(panels, scores.targets, strict=True):
        values = by_fold(scores.runs, lambda run, t=target: scores.part(run, "test")[t])  # type: ignore[misc]
        places = np.arange(len(numbers))
        axes.bar(places, [_drawn(values[fold]) for fold in numbers], width=0.62, color="#56B4E9")
        _seeds(axes, scores, target, numbers)
        for name in scores.baselines:
            colour, dash = _BASELINES.get(name, ("#009E73", "-"))
            found = by_fold(scores.covered(name), lambda run, n=name, t=target: _baseline(run, n, t))  # type: ignore[misc]
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


def predicted(scores: Scores) -> Figure | None:
    """Return a panel a target: every test utterance's prediction over its label, with the mean at each label."""
    if not scores.runs:
        return None
    dense = sum(len(run.test) for run in scores.runs) > _MANY
    figure, panels = _panels(len(scores.targets), 4.4 if dense else 4.0, 3.6 if dense else 4.1)
    for axes, target in zip(panels, scores.targets, strict=True):
        p, t = arrays((row for run in scores.runs for row in run.test.values()), target)
        known = np.isfinite(p) & np.isfinite(t)
        p, t = p[known], t[known]
        if not len(p):
            axes.set_title(f"{target}: nothing to show")
            continue
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
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def curves(runs: Sequence[Run]) -> Figure | None:
    """Return the training loss and each target's validation CCC over epochs, a line a run."""
    drawn = [run for run in runs if run.steps or run.evals]
    if not drawn:
        return None
    numbers = sorted({run.fold for run in drawn})
    keys = {key for run in drawn for event in run.evals for key in section(event, "scores") if key.startswith("ccc_")}
    order = {"ccc_valence": 0, "ccc_arousal": 1, "ccc_dominance": 2}
    names = sorted(keys, key=lambda key: (order.get(key, 3), key))
    targets = [name.removeprefix("ccc_") for name in names]
    figure, panels = _panels(1 + len(names), 3.7, 3.4)
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


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(max(count, 1) * width, height + 0.5), layout="constrained")
    layout = figure.get_layout_engine()
    if isinstance(layout, ConstrainedLayoutEngine):
        layout.set(w_pad=0.1, wspace=0.03)
    return figure, [figure.add_subplot(1, max(count, 1), i + 1) for i in range(count)]


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


def _baseline(run: Run, name: str, target: str) -> float:
    rows: dict[str, Record] = run.baselines.get(name, {})
    p, t = arrays(rows.values(), target)
    return ccc(p, t) if np.isfinite(p).all() else math.nan


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
