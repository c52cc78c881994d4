"""The rows of an evaluation that two experiments have in common, with equal labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affect.report.rows import Record
from affect.report.study import Study
from affect.report.systems import Cell, Groups, Key, Sampled, System
from affect.task import Measure

_SAME = 1e-6


@dataclass(frozen=True)
class Sides:
    """Both experiments on their common rows: all of them together (`pooled`), or the mean over folds."""

    ours: Sampled
    theirs: Sampled
    pooled: bool
    groups: Groups


def common(ours: Study, theirs: Study, evaluation: str, measure: Measure, notes: list[str]) -> Sides | None:
    """Return both sides on the rows that they share, cut to these; None where there are none, or none labelled alike.

    `notes` gets a sentence for everything that differs. Our groups count for both. Of a summary the mean is taken.
    """
    if members := ours.summaries.get(evaluation):
        each = [sides for name in members if (sides := common(ours, theirs, name, measure, notes))]
        here, there = [sides.ours for sides in each], [sides.theirs for sides in each]
        return Sides(Sampled.together(here), Sampled.together(there), False, each[0].groups) if each else None
    pooled = ours.pooled(evaluation, measure)
    if ours.signature(evaluation) == theirs.signature(evaluation):
        first, second = (study.sampled(evaluation, measure) for study in (ours, theirs))
        return Sides(first, second, pooled, ours.groups(evaluation, measure))
    both = [ours.system(evaluation), theirs.system(evaluation)]
    pooled = pooled and not both[1].shared
    seeds = set(both[0].by_seed) & set(both[1].by_seed)
    if not pooled and seeds:
        # Seeds are the pairs: what only one side has is no part of them.
        both = [system.cut(lambda cell, row: row if cell[0] in seeds else None) for system in both]
    repeated = any(system.repeated for system in both)
    cut = _cut(both, repeated, evaluation, pooled, notes)
    if cut is None:
        return None
    groups = Groups.of(cut[0].keys(repeated), measure.groups, repeated)
    first, second = (system.sampled(measure, groups, pooled) for system in cut)
    return Sides(first, second, pooled, groups)


def _cut(both: list[System], repeated: bool, name: str, pooled: bool, notes: list[str]) -> list[System] | None:
    """Return both systems with the rows that all seeds of both have, and with the labels that both give them."""
    rows = [system.keys(repeated) for system in both]
    keyed = [system.keyed(repeated) for system in both]
    # Seeds that are pooled must have the same rows; of others each is compared with its like.
    sets = [list(map(set, seeds.values())) for seeds in keyed]
    shared = set.intersection(*(set.intersection(*s) if pooled and s else set[Key]().union(*s) for s in sets))
    if not shared:
        notes.append(f"{name}: no row in common ({len(rows[0]):,} and {len(rows[1]):,} rows).")
        return None
    here, there = (len(side) - len(shared) for side in rows)
    if here or there:
        notes.append(
            f"{name}: {len(shared):,} rows are in both; {here:,} are only here and {there:,} only there, and left out."
        )
    if pooled and not repeated:
        folds = [{i: fold for (_, fold), each in system.units.items() for i in each} for system in both]
        if moved := sum(folds[0].get(i) != folds[1].get(i) for _, i in shared):
            notes.append(
                f"{name}: {moved:,} common rows are tested in different folds: the two were trained on different "
                "splits."
            )
    alike = _labels(rows[0], rows[1], sorted(shared), name, notes)

    def change(cell: Cell, row: Record) -> Record | None:
        key = (cell[1] if repeated else 0, row["id"])
        if key not in shared or not pooled and any(key not in seeds.get(cell[0], shared) for seeds in keyed):
            return None
        labels = {t: label if key in alike.get(t, ()) else None for t, label in row["target"].items()}
        # What joins rows to groups is ours.
        return {**rows[0][key], **row, "target": labels}

    return [system.cut(change) for system in both] if any(alike.values()) else None


def _labels(
    ours: dict[Key, Record], theirs: dict[Key, Record], keys: list[Key], name: str, notes: list[str]
) -> dict[str, set[Key]]:
    """Return by target the rows that both label alike; a sentence says of each target how many they don't."""
    alike: dict[str, set[Key]] = {}
    for target in sorted({t for key in keys for t in ours[key]["target"]}):
        pairs = {key: (ours[key]["target"].get(target), theirs[key]["target"].get(target)) for key in keys}
        labelled = {key: pair for key, pair in pairs.items() if not any(map(_missing, pair))}
        wrong = {key: pair for key, pair in labelled.items() if not _same(*pair)}
        alike[target] = labelled.keys() - wrong.keys()
        if wrong:
            first, second = next(iter(wrong.values()))
            notes.append(
                f"{name}: {target} of {len(wrong):,} of {len(keys):,} common rows is labelled differently "
                f"(the first {first} and {second}), and left out."
            )
    return alike


def _missing(label: object) -> bool:
    return label is None or isinstance(label, float) and math.isnan(label)


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME)
    return a == b
