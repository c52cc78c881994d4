"""What all plots of reports share: colours, style, panels and matrices.

Colours are those of Okabe and Ito (2008), told apart with every common kind of colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from affect.findings import Plot

Dash = Literal["-", "--", ":", "-."]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
GREY = "#767676"
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
STYLE = {
    "font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.titlesize": 10.0, "legend.frameon": False,
}  # fmt: skip


def lay_out(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels side by side, each `width` by `height` inches, with room for a legend."""
    figure = Figure(figsize=(max(count, 1) * width, height + 0.5), layout="constrained")
    layout = figure.get_layout_engine()
    if isinstance(layout, ConstrainedLayoutEngine):
        layout.set(w_pad=0.1, wspace=0.03)
    return figure, [figure.add_subplot(1, max(count, 1), i + 1) for i in range(count)]


def heat(
    axes: Axes, values: NDArray[Any], rows: Sequence[str], columns: Sequence[str], *, percent: bool = False,
    low: float = 0.0,
) -> None:  # fmt: skip
    """Draw a matrix with its numbers written in; `percent` writes shares as whole percents, `low` is white."""
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    high = max(1.0 if percent else top, low + 0.01)
    axes.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    for i, j in np.argwhere(np.isfinite(values)):
        words = f"{100 * values[i, j]:.0f}" if percent else f"{values[i, j]:.3f}"
        dark = values[i, j] > low + 0.6 * (high - low)
        axes.text(j, i, words, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), [plain(name) for name in columns])
    axes.set_yticks(range(len(rows)), [plain(name) for name in rows])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def same_scale(panels: Sequence[Axes]) -> None:
    """Give panels one vertical scale, so that heights compare."""
    low, high = min(axes.get_ylim()[0] for axes in panels), max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)


def plain(name: str) -> str:
    """Return a name in which matplotlib reads no formula and no hidden label."""
    shown = name if len(name) <= 40 else name[:39] + "…"
    return " " * shown.startswith("_") + shown.replace("$", r"\$")


def save(plots: Iterable[Plot], folder: Path) -> dict[str, str]:
    """Write plots as PNGs and return the path of each beside the folder, by its name.

    The folder's other PNGs, of an earlier state of the runs, are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for plot in plots:
        if write(plot, folder):
            drawn[plot.name] = f"{folder.name}/{plot.name}.png"
    for path in folder.glob("*.png"):
        # Plots of an earlier state would contradict the page.
        if path.stem not in drawn:
            path.unlink()
    return drawn


def write(plot: Plot, folder: Path) -> bool:
    """Write a plot as a PNG of its name to an existing folder and return whether there was something to show."""
    # The reader's own matplotlibrc must not change the bytes. A figure is made as it is asked for, so in here too.
    with matplotlib.style.context(["default", STYLE]):
        figure = plot.draw()
        if figure is None:
            return False
        FigureCanvasAgg(figure)
        # matplotlib would write its version into the file.
        figure.savefig(folder / f"{plot.name}.png", dpi=130, metadata={"Software": None})
    return True
