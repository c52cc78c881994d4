"""Evaluations under conditions (test@snr=10): what each leaves of the main measure, as tables and plots by kind.

Legend: P parts, K conditions of a kind.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from affect.findings import Plot, Section
from affect.report.study import Study
from affect.report.systems import Floats, Scored
from affect.tables import escaped, filled, grid, number, slug, with_deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLEAN = "as it is"


def sections(study: Study) -> list[Section]:
    """Return a subsection a kind of condition, under one heading; none where no part has a condition."""
    kinds = kinds_of(study)
    if study.main is None or not kinds or study.task is None:
        return []
    shown = study.main.shown
    parts = [Section(title="Conditions", markdown=(
        f"{escaped(shown)} of the parts under conditions, mean ± deviation over seeds; everything else is the same."
    ))]  # fmt: skip
    several = " (bands: deviation over seeds)" if len(study.seeds) > 1 else ""
    for kind, names in kinds.items():
        numeric = all(re.fullmatch(r"-?\d+(\.\d+)?", value(name)) for name in names)
        beside = f", {study.other.name} dashed" if numeric and study.other and kinds_of(study.other).get(kind) else ""
        caption = f"{shown} by {kind}{several if numeric else ''}{beside}"
        draw = partial(_curves if numeric else _matrix, study, kind, names)
        plot = Plot(name=f"condition-{slug(kind)}", caption=caption, draw=draw)
        parts.append(Section(title=kind, level=3, markdown=_table(study, names), plots=[plot]))
    return parts


def kinds_of(study: Study) -> dict[str, list[str]]:
    """Return the conditions that some part was predicted under, by their kind (snr of snr=10)."""
    kinds: dict[str, list[str]] = {}
    for name in (c for part in study.evaluations for c in study.conditions(part)):
        names = kinds.setdefault(name.partition("=")[0], [])
        names += [] if name in names else [name]
    return kinds


def value(condition: str) -> str:
    """Return what a condition of its kind is (10 of snr=10)."""
    return condition.partition("=")[2] or condition


def _means(study: Study, names: list[str]) -> list[str]:
    """Return the summaries whose members are conditions of these, without their parts' names."""
    under = [{f"{part}@{name}" for name in names} for part in study.evaluations]
    summaries = (s for each in under for s, members in study.summaries.items() if each.issuperset(members))
    return list(dict.fromkeys(s.partition("@")[2] for s in summaries))


def _table(study: Study, names: list[str]) -> str:
    """Return a line a part: its score as it is, under each condition, and the means that the task takes."""
    assert study.main is not None
    rows, means = [], _means(study, names)
    for part in filter(study.conditions, study.evaluations):
        scores = _scored(study, part, [CLEAN, *names, *means])
        cells = [with_deviation(scored.mean, scored.over_seeds) if scored else "" for scored in scores]
        trivial = [number(study.scored(part, study.main, model).mean) for model in study.baselines]
        rows.append([part, *cells, *trivial])
    return grid(*filled(["part", CLEAN, *map(value, names), *means, *study.baselines], rows))


def _scored(study: Study, part: str, names: list[str]) -> list[Scored | None]:
    """Return the scores [K] of the main measure under conditions, None where it was not predicted under one."""
    assert study.main is not None
    evaluations = {*study.names, *study.summaries}
    each = [part if name == CLEAN else f"{part}@{name}" for name in names]
    return [study.scored(name, study.main) if name in evaluations else None for name in each]


def scores_of(study: Study, part: str, names: list[str]) -> Floats:
    """Return mean and deviation over seeds [K, 2] of the main measure, NaN where it is unknown."""
    return np.array([(s.mean, s.over_seeds) if s else (np.nan, np.nan) for s in _scored(study, part, names)])


def _matrix(study: Study, kind: str, names: list[str]) -> Figure | None:
    """Return the scores of parts and conditions [P, K] as a heat map."""
    from affect.figures import heat, lay_out

    parts, means = [part for part in study.evaluations if study.conditions(part)], _means(study, names)
    columns = [*names, CLEAN, *means]
    scores = np.array([scores_of(study, part, columns)[:, 0] for part in parts])
    if not np.isfinite(scores).any():
        return None
    figure, (axes,) = lay_out(1, 1.6 + 0.8 * len(columns), 0.5 + 0.45 * len(parts))
    heat(axes, scores, parts, [value(name) for name in columns], low=max(0.0, float(np.nanmin(scores)) - 0.1))
    if means:
        axes.axvline(len(names) + 0.5, color="white", lw=4)
    axes.xaxis.tick_top()
    return figure


def _curves(study: Study, kind: str, names: list[str]) -> Figure | None:
    """Return the scores of each part over a condition's number: as it is dotted, another experiment dashed."""
    from matplotlib.lines import Line2D

    from affect.figures import COLOURS, DASHES, GREY, lay_out, plain, same_scale

    parts = [part for part in study.evaluations if study.conditions(part)]
    sides = [(study, COLOURS[0], DASHES[0])]
    if study.other is not None and kinds_of(study.other).get(kind):
        sides.append((study.other, GREY, DASHES[1]))
    figure, panels = lay_out(len(parts), 2.9, 2.7)
    places = [float(value(name)) for name in names]
    for axes, part in zip(panels, parts, strict=True):
        for side, colour, dash in sides:
            scores = scores_of(side, part, names)
            axes.plot(places, scores[:, 0], color=colour, ls=dash, lw=1.8, marker=".")
            axes.fill_between(places, scores[:, 0] - scores[:, 1], scores[:, 0] + scores[:, 1], color=colour, alpha=0.2)
            axes.axhline(scores_of(side, part, [CLEAN])[0, 0], color=colour, ls=":", lw=1)
        axes.set_title(plain(part))
        axes.set_xlabel(plain(kind))
    same_scale(panels)
    assert study.main is not None
    panels[0].set_ylabel(plain(study.main.shown))
    handles = [Line2D([], [], color=c, ls=d, lw=1.8, label=plain(side.name or "here")) for side, c, d in sides]
    handles.append(Line2D([], [], color=GREY, ls=":", lw=1, label=CLEAN))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
