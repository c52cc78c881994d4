"""What a report is made of: sections with their plots, and flags. A task adds its own, the report lays them out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 4


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot by the name of its file; `draw` is called when pages are written, None has nothing to show."""

    name: str
    caption: str
    draw: Callable[[], Figure | None]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report's page in Markdown, its plots after it; without a title it stands at the top of the page."""

    title: str = ""
    markdown: str = ""
    plots: Sequence[Plot] = ()
    level: int = 2
    """2 a part of the page, 3 a part of the section before it."""


@dataclass(frozen=True)
class Flag:
    """A sign: its kind in a few words, where it shows, the numbers that show it, and what to try ("": nothing).

    `size` orders flags of one kind, the worst first. `grave` says that numbers are wrong or not all there, of a kind
    that the report does not know.
    """

    kind: str
    where: str
    evidence: str
    advice: str = ""
    size: float = 0.0
    grave: bool = False


def gathered(signs: Sequence[Flag], names: Collection[str]) -> list[Flag]:
    """Return flags with those of a kind and a place in one, and then those of a kind in several runs (by `names`).

    The evidence is the worst run's; of the others some are named.
    """
    places: dict[tuple[str, str], list[Flag]] = {}
    for flag in signs:
        places.setdefault((flag.kind, flag.where), []).append(flag)
    kinds: dict[tuple[str, bool], list[Flag]] = {}
    for flags in places.values():
        one = replace(flags[0], evidence=_some([f.evidence for f in flags], "; "), size=max(f.size for f in flags))
        kinds.setdefault((one.kind, one.where in names), []).append(one)
    merged: list[Flag] = []
    for (_, of_runs), flags in kinds.items():
        if not of_runs or len(flags) == 1:
            merged += flags
            continue
        top = max(flags, key=lambda flag: flag.size)
        others = _some([flag.where for flag in flags if flag is not top], ", ")
        where = f"{len(flags)} of {len(names)} runs, {'most in' if top.size else 'the first'} {top.where}"
        merged.append(replace(top, where=where, evidence=f"{top.evidence}; also in {others}"))
    return merged


def finite(value: object) -> bool:
    """Say whether a recorded value is a number, neither NaN nor infinite."""
    return isinstance(value, int | float) and math.isfinite(value)


def _some(words: Sequence[str], between: str) -> str:
    different = list(dict.fromkeys(words))
    more = f"{between}and {len(different) - _MOST} more" if len(different) > _MOST else ""
    return between.join(different[:_MOST]) + more
