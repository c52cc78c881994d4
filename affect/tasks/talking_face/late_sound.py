"""What a report says of late sound: by how much each score changes, and whether the model hears it.

Imports no tensor library.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from affect.findings import Flag, Plot, Section, finite
from affect.tables import grid, number, signed
from affect.tasks.talking_face.config import DELAY, OFFSET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from affect.report.study import Study

HEARD = 0.1
"""By how much of its labels' deviation a score of sync (without one, some score) has to fall where sound is late."""
_LEFT = 0.5
"""Share of its sound that a clip must have in its order to count: by more it would be early."""


@dataclass(frozen=True)
class Sweep:
    """How scores change with late sound: by lateness how many clips count, and by score its mean over these.

    `unit` is seconds or frames, of which there are `rate` a second (None: nobody knows).
    """

    unit: str
    rate: float | None
    clips: Mapping[float, int]
    before: Mapping[str, float]
    changes: Mapping[str, Mapping[float, float]]

    def named(self, by: float) -> str:
        """Return how late in words."""
        if self.unit == "seconds":
            return f"{by:g} s late"
        return f"{by:g} frames{f' ({by / self.rate:g} s)' if self.rate else ''} late"


def swept(study: Study, part: str) -> Sweep | None:
    """Return how the scores of a part's clips change where their sound is late; None where none was moved.

    A clip counts where that is half of its sound at most, and is held against itself as it is.
    """
    kinds = [name.partition("=")[0] for name in study.conditions(part)]
    kind = next((kind for kind in (DELAY, OFFSET) if kind in kinds), None)
    return study.remember(("late sound", part), lambda: _swept(study, part, kind)) if kind else None


def _swept(study: Study, part: str, kind: str) -> Sweep | None:
    plain = study.system(part)
    clips: dict[float, int] = {}
    changes: dict[str, dict[float, float]] = defaultdict(dict)
    for condition in (name for name in study.conditions(part) if name.startswith(f"{kind}=")):
        by, units = float(condition.partition("=")[2]), study.system(f"{part}@{condition}").units
        # Runs from before rows said what is left have all of them.
        pairs = [
            (row["prediction"], plain.units[cell][id]["prediction"])
            for cell, rows in units.items() for id, row in rows.items()
            if row.get("left", 1.0) >= _LEFT and id in plain.units.get(cell, ())
        ]  # fmt: skip
        for name in pairs[0][0] if pairs else ():
            changes[name][by] = float(np.mean([moved[name] - before[name] for moved, before in pairs]))
            clips[by] = len(pairs) // len(study.seeds)
    if not clips:
        return None
    rate = study.environment.get("sound_rate")
    as_it_is = {name: float(np.mean([row["prediction"][name] for row in plain.rows()])) for name in changes}
    return Sweep("seconds" if kind == DELAY else "frames", rate if finite(rate) else None, clips, as_it_is, changes)


def section(study: Study, part: str) -> list[Section]:
    """Return the table and the plot of the sweep; nothing where no sound was moved."""
    sweep = swept(study, part)
    if sweep is None:
        return []
    head = ["score", "as it is", *map(sweep.named, sweep.clips)]
    rows = [
        [name, number(value), *(signed(sweep.changes[name][by]) for by in sweep.clips)]
        for name, value in sweep.before.items()
    ]
    rows.append(["clips", f"{study.size(part):,}", *(f"{count:,}" for count in sweep.clips.values())])
    words = (
        f"Mean prediction ({part}), and by how much it changes where sound is late, over the clips of which that is "
        "half at most. A score of sync should fall, one of sound alone should not."
    )
    drawn = Plot(name="late_sound", caption="Change of the mean prediction with late sound", draw=partial(_draw, sweep))
    return [Section(title="Late sound", markdown=f"{words}\n\n{grid(head, rows)}", plots=[drawn])]


def flags(study: Study, part: str, deviations: Mapping[str, float], synced: Sequence[str]) -> Iterator[Flag]:
    """Yield a flag where late sound lowers none of the scores of sync (`synced`; without one, none at all).

    `deviations` are those of the labels, by score.
    """
    sweep = swept(study, part)
    if sweep is None:
        return
    # Of few clips left, chance lowers some score.
    offsets = [by for by, count in sweep.clips.items() if 2 * count >= study.size(part)] or [min(sweep.clips)]
    falls = {
        name: max((-changes[by] / deviations[name], by) for by in offsets)
        for name, changes in sweep.changes.items() if deviations.get(name, 0) > 0
    }  # fmt: skip
    judged = [name for name in synced if name in falls] or [*falls]
    if judged and max(falls[name] for name in judged)[0] < HEARD:
        name = max(judged, key=falls.__getitem__)
        fell, by = falls[name]
        words = f"late sound lowers {name} by {max(0.0, fell):.2f} of its labels' deviation at most ({sweep.named(by)})"
        advice = "it does not compare sound and picture: more clips whose sound alone is late, and rated so"
        yield Flag("deaf to late sound", part, words, advice)


def _draw(sweep: Sweep) -> Figure | None:
    from affect.figures import COLOURS, GREY, lay_out, plain

    figure, (axes,) = lay_out(1, 5.0, 2.6)
    axes.axhline(0, color=GREY, lw=1)
    for k, (name, changes) in enumerate(sweep.changes.items()):
        axes.plot([0, *changes], [0, *changes.values()], "o-", ms=4, color=COLOURS[k % len(COLOURS)], label=plain(name))
    rate = f" ({sweep.rate:g} a second)" if sweep.rate else ""
    axes.set(xlabel=f"{sweep.unit}{rate} that sound is late", ylabel="change of the mean prediction")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
