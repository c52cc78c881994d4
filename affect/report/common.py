"""The rows of an evaluation that two experiments have in common, with equal labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affect.report.rows import Record
from affect.report.study import Study
from affect.report.systems import Groups, Key, Samples, Scored, System
from affect.task import Measure

_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class Side:
    """One experiment's scores on the common rows: of each seed and fold, of all rows pooled, and replicates."""

    scored: Scored
    pooled: float
    samples: Samples


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both experiments on their common rows; `pooled` says which of the two scores their difference is of."""

    ours: Side
    theirs: Side
    pooled: bool
    rows: int
    groups: int
    unit: str


def common(ours: Study, theirs: Study, evaluation: str, measure: Measure, notes: list[str]) -> Sides | None:
    """Return both sides on the rows that they share, cut to these; None where there are none, or none labelled alike.

    `notes` gets a sentence for everything that differs. Our groups count for both.
    """
    if ours.signature(evaluation) == theirs.signature(evaluation):
        pooled = ours.pooled(evaluation, measure)
        groups = ours.groups(evaluation, measure)
        sides = [
            Side(
                scored=study.scored(evaluation, measure),
                pooled=study.system(evaluation).pooled(measure) if pooled else math.nan,
                samples=study.samples(evaluation, measure),
            )
            for study in (ours, theirs)
        ]
        return Sides(ours=sides[0], theirs=sides[1], pooled=pooled, rows=len(groups.keys), groups=groups.count,
                     unit=groups.unit)  # fmt: skip
    first, second = ours.system(evaluation), theirs.system(evaluation)
    pooled = ours.pooled(evaluation, measure) and not second.shared
    if not pooled and (both := first.units.keys() & second.units.keys()):
        # Seeds are the pairs: what only one side has is no part of them.
        first, second = (system.cut(lambda seed, fold, i: seed in both) for system in (first, second))
    cut = _cut(first, second, evaluation, pooled, notes)
    if cut is None:
        return None
    repeated = first.repeated or second.repeated
    rows = cut[0].keys(repeated)
    groups = Groups.of(rows, measure.groups, repeated)
    sides = [
        Side(scored=side.scored(measure), pooled=side.pooled(measure), samples=groups.samples(side, measure, pooled))
        for side in cut
    ]
    return Sides(ours=sides[0], theirs=sides[1], pooled=pooled, rows=len(rows), groups=groups.count, unit=groups.unit)


def _cut(first: System, second: System, name: str, pooled: bool, notes: list[str]) -> tuple[System, System] | None:
    """Return both systems with the rows that all seeds of both have, and with the labels that both give them."""
    repeated = first.repeated or second.repeated
    sides = [system.keys(repeated) for system in (first, second)]
    # Seeds that are pooled must have the same rows; of others each is compared with its like.
    seeds = [[set(system.keyed(seed, repeated)) for seed in system.units] for system in (first, second)]
    known = [set.intersection(*one) if pooled and one else set[Key]().union(*one) for one in seeds]
    shared = known[0] & known[1]
    if not shared:
        notes.append(f"{name}: no row in common ({len(sides[0]):,} and {len(sides[1]):,} rows).")
        return None
    extra = [len(side) - len(shared) for side in sides]
    if any(extra):
        notes.append(
            f"{name}: {len(shared):,} rows are in both; {extra[0]:,} are only here and {extra[1]:,} only there, and "
            "left out."
        )
    if pooled and not repeated:
        moved = _moved(first, second, shared)
        if moved:
            notes.append(
                f"{name}: {moved:,} common rows are tested in different folds: the two were trained on different "
                "splits."
            )
    kept = _labels(sides[0], sides[1], shared, name, notes)
    if not any(kept.values()):
        return None
    ours = sides[0]

    def change(key: Key, row: Record) -> Record:
        place = key if repeated else (0, key[1])
        labels = {t: v if place in kept.get(t, ()) else None for t, v in row["target"].items()}
        return {**ours[place], **row, "target": labels}

    def keep(seed: int, fold: int, i: str) -> bool:
        key = (fold if repeated else 0, i)
        like = [system.keyed(seed, repeated) for system in (first, second) if seed in system.units]
        return key in shared and (pooled or all(key in rows for rows in like))

    return first.cut(keep, change), second.cut(keep, change)


def _moved(first: System, second: System, shared: set[Key]) -> int:
    """Return how many common rows are in another fold there."""
    folds = [
        {i: f for units in system.units.values() for f, rows in units.items() for i in rows}
        for system in (first, second)
    ]
    return sum(folds[0].get(i) != folds[1].get(i) for _, i in shared)


def _labels(
    first: dict[Key, Record], second: dict[Key, Record], shared: set[Key], name: str, notes: list[str]
) -> dict[str, set[Key]]:
    """Return by target the rows that both label alike; a sentence says of each target how many they don't."""
    kept: dict[str, set[Key]] = {}
    order = sorted(shared)
    for target in sorted({t for key in order for t in first[key]["target"]}):
        pairs = [(key, first[key]["target"].get(target), second[key]["target"].get(target)) for key in order]
        known = [(key, a, b) for key, a, b in pairs if not (_missing(a) or _missing(b))]
        kept[target] = {key for key, a, b in known if _same(a, b)}
        wrong = [(a, b) for key, a, b in known if key not in kept[target]]
        if wrong:
            notes.append(
                f"{name}: {target} of {len(wrong):,} of {len(order):,} common rows is labelled differently "
                f"(the first {wrong[0][0]} and {wrong[0][1]}), and left out."
            )
    return kept


def _missing(value: object) -> bool:
    return value is None or isinstance(value, float) and math.isnan(value)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME)
    return a == b
