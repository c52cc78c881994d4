"""What all plots of the report share: colours, style and panels.

Colours are those of Okabe and Ito (2008), told apart with every common kind of colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

Dash = Literal["-", "--", ":", "-."]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
STYLE = {
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


def lay_out(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels side by side, each `width` by `height` inches, with room for a legend."""
    figure = Figure(figsize=(max(count, 1) * width, height + 0.5), layout="constrained")
    layout = figure.get_layout_engine()
    if isinstance(layout, ConstrainedLayoutEngine):
        layout.set(w_pad=0.1, wspace=0.03)
    return figure, [figure.add_subplot(1, max(count, 1), i + 1) for i in range(count)]


def save(figures: Iterable[tuple[str, str, Figure | None]], folder: Path) -> dict[str, tuple[str, str]]:
    """Write figures (name, caption, figure) as PNGs; return (caption, path beside the folder) of each by name.

    A figure that is None has nothing to show; a plot of that name from an earlier state is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    # The reader's own matplotlibrc must not change the bytes. Figures are made as they are asked for, so in here too.
    with matplotlib.style.context(["default", STYLE]):
        for name, caption, figure in figures:
            path = folder / f"{name}.png"
            if figure is None:
                # It would contradict the page.
                path.unlink(missing_ok=True)
                continue
            FigureCanvasAgg(figure)
            # matplotlib would write its version into the file.
            figure.savefig(path, dpi=130, metadata={"Software": None})
            drawn[name] = (caption, f"{folder.name}/{name}.png")
    return drawn
