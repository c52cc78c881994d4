"""The rows that two experiments have in common, with equal labels and equal groups.

Legend: R rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from affect.errors import AffectError
from affect.metrics.regression import Floats
from affect.report.runs import Record, Run
from affect.report.scores import Scores, Targets

_GROUPS = ("dialogue", "speaker", "session")
_SAME = 1e-6
Key = tuple[int, str]
"""A row's fold and id; fold 0 where an id alone is enough."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """Two sides cut down to their common rows, and a sentence for everything that differed."""

    ours: Scores
    theirs: Scores
    notes: list[str]


def common(first: Scores, second: Scores, targets: Targets, pair: str) -> Common:
    """Return both sides with the rows and targets that they share; our groups count for both.

    Raises AffectError, naming the `pair`, where they share none.
    """
    notes: list[str] = []
    sides = []
    for scores in (first, second):
        runs, note = _complete(scores.runs)
        notes += note
        sides.append(runs)
    keys, note = _keys(*sides)
    notes += note
    rows = [{keys(run.fold, i): row for run in runs for i, row in run.test.items()} for runs in sides]
    shared = set.intersection(*(_of_all_seeds(runs, keys) for runs in sides))
    if not shared:
        raise AffectError(f"{pair} have no test row in common ({len(rows[0])} and {len(rows[1])} rows)")
    extra = [len(side) - len(shared) for side in rows]
    if any(extra):
        notes.append(
            f"{len(shared):,} rows are in the test parts of both; {extra[0]:,} are only here and {extra[1]:,} only "
            "there, and left out."
        )
    order = sorted(shared)
    kept: dict[str, set[Key]] = {}
    for target in targets:
        labels = [[side[key]["target"].get(target, math.nan) for key in order] for side in rows]
        check = _classes if target in targets.classes else _numbers
        known = check(target, labels[0], labels[1], notes)
        kept[target] = {key for key, keep in zip(order, known, strict=True) if keep}
    kept = {target: found for target, found in kept.items() if found}
    if not kept:
        raise AffectError(f"{pair} have no label in common: the {len(shared)} common rows are labelled differently")
    ours, theirs = (_cut(runs, keys, shared, kept, rows[0]) for runs in sides)
    return Common(ours=ours, theirs=theirs, notes=notes)


def _complete(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs of those seeds that cover the most rows: a seed of fewer folds would weigh as much."""
    sizes = {seed: sum(len(r.test) for r in runs if r.seed == seed) for seed in sorted({r.seed for r in runs})}
    left = [seed for seed, size in sizes.items() if size < max(sizes.values())]
    words = [f"Seed {', '.join(map(str, left))} is not complete and left out."] if left else []
    return [run for run in runs if run.seed not in left], words


def _keys(first: list[Run], second: list[Run]) -> tuple[Callable[[int, str], Key], list[str]]:
    """Return what makes a row's key: its id where no id is in two folds, else fold and id."""
    places = [{(run.fold, i) for run in runs for i in run.test} for runs in (first, second)]
    if any(len({i for _, i in place}) < len(place) for place in places):
        return lambda fold, i: (fold, i), []
    folds = [{i: fold for fold, i in place} for place in places]
    moved = sum(fold != folds[1].get(i, fold) for i, fold in folds[0].items())
    words = f"{moved:,} common rows are tested in different folds: the two were trained on different splits."
    return lambda fold, i: (0, i), [words] if moved else []


def _of_all_seeds(runs: list[Run], keys: Callable[[int, str], Key]) -> set[Key]:
    seeds = {run.seed for run in runs}
    return set.intersection(*({keys(r.fold, i) for r in runs if r.seed == seed for i in r.test} for seed in seeds))


def _numbers(target: str, first: Sequence[object], second: Sequence[object], notes: list[str]) -> list[bool]:
    """Return which rows [R] have the same label; on two scales, the same but for a linear map."""
    a, b = (np.array([v if isinstance(v, float) else math.nan for v in side], np.float64) for side in (first, second))
    both = np.isfinite(a) & np.isfinite(b)
    same = both & np.isclose(a, b, rtol=_SAME, atol=_SAME)
    if same.any() or not both.any():
        _differing(target, both & ~same, first, second, notes)
        return [bool(value) for value in same]
    slope, shift = _line(a[both], b[both])
    if slope > 0 and np.allclose(slope * a[both] + shift, b[both], rtol=_SAME, atol=_SAME * max(1.0, np.ptp(b[both]))):
        notes.append(
            f"{target} is on two scales (there it is {slope:.3g} times here {shift:+.3g}): each is scored on its own, "
            "which changes no CCC."
        )
        return [bool(value) for value in both]
    _differing(target, both, first, second, notes)
    return [False] * len(first)


def _line(a: Floats, b: Floats) -> tuple[float, float]:
    """Return slope and shift of the line through labels [R] (slope 0 where there are too few kinds to tell)."""
    if len(np.unique(a)) < 3:
        return 0.0, 0.0
    low, high = int(a.argmin()), int(a.argmax())
    slope = float((b[high] - b[low]) / (a[high] - a[low]))
    return slope, float(b[low] - slope * a[low])


def _classes(target: str, first: Sequence[object], second: Sequence[object], notes: list[str]) -> list[bool]:
    known = [isinstance(a, str) and isinstance(b, str) for a, b in zip(first, second, strict=True)]
    same = [k and a == b for k, a, b in zip(known, first, second, strict=True)]
    _differing(target, np.array(known) & ~np.array(same), first, second, notes)
    return same


def _differing(
    target: str, wrong: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], first: Sequence[object],
    second: Sequence[object], notes: list[str],
) -> None:  # fmt: skip
    if wrong.any():
        at = int(wrong.argmax())
        notes.append(
            f"{target}: {int(wrong.sum()):,} of {len(wrong):,} common rows have different labels "
            f"(the first {first[at]} and {second[at]}) and are left out."
        )


def _cut(
    runs: list[Run],
    keys: Callable[[int, str], Key],
    shared: set[Key],
    kept: dict[str, set[Key]],
    groups: dict[Key, Record],
) -> Scores:
    """Return runs with the shared rows alone, labels that differ made missing, and the groups of `groups`."""
    found = []
    for run in runs:
        rows = {}
        for name, row in run.test.items():
            key = keys(run.fold, name)
            if key not in shared:
                continue
            labels = {t: v for t, v in row["target"].items() if key in kept.get(t, ())}
            rows[name] = row | {"target": labels} | {g: groups[key].get(g) for g in _GROUPS}
        if rows:
            found.append(replace(run, predictions={"test": rows}, baselines={}))
    return Scores(runs=found)
