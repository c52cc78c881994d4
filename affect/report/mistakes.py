"""Where a model is wrong: its errors by speaker, gender, class, length and what else rows name, and its worst rows.

Legend: R rows of an evaluation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from affect.findings import finite
from affect.metrics.average_predictions import missing
from affect.report.rows import Record
from affect.report.study import Study
from affect.report.systems import spread
from affect.tables import NONE, escaped, filled, grid, number, signed

LENGTHS = ("seconds", "words", "frames")
"""What rows may say of their length."""
_FIRST = ("speaker", "gender")
_OTHERS = {"id", "session", "dialogue", "present", "condition"}
"""What rows name and no table is of: it is told elsewhere, or of too few rows each."""
_PARTS, _GROUPS, _WORST, _QUARTERS = 3, 8, 8, 4
_FEWEST = 8
"""Rows from which there is something to tell apart."""
_NOTE = (
    "Error: the mean distance to the label, on the labels' scale; bias: the mean of prediction minus label; wrong: the "
    "share of rows. Seeds are averaged. A group of few rows is worse or better by chance alone."
)


@dataclass(frozen=True)
class _Said:
    """What the seeds say of a row: of a number the mean prediction minus the label, of a class the share that is wrong.

    `size` is how wrong that is: in deviations of the labels, of a class the share; the mean over targets.
    """

    row: Record
    off: dict[str, float]
    predicted: dict[str, str]
    size: float = 0.0


def section(study: Study) -> str:
    """Return the tables of each test, in Markdown; "" where nothing with a label is predicted as a number or class."""
    if study.reported or study.task is None:
        return ""
    names = study.tests or study.evaluations
    parts = []
    for name in names[:_PARTS]:
        answers = _answers(study, name)
        if len(answers) < _FEWEST:
            continue
        parts += [f"### {escaped(name)}"] if len(names) > 1 else []
        parts += [*_by_group(study, answers), _worst(study, answers)]
    return "\n\n".join([*parts, _NOTE]) if parts else ""


def _answers(study: Study, evaluation: str) -> list[_Said]:
    """Return what is said of the rows of an evaluation that have a label."""
    system = study.system(evaluation)
    by_key: dict[object, list[Record]] = {}
    for rows in system.keyed(system.repeated).values():
        for key, row in rows.items():
            by_key.setdefault(key, []).append(row)
    answers = []
    for same in by_key.values():
        off, predicted = {}, {}
        for target in (*study.numeric, *study.categorical):
            label, values = same[0]["target"].get(target), [row["prediction"].get(target) for row in same]
            if missing(label) or any(map(missing, values)):
                continue
            if isinstance(label, str):
                off[target] = sum(value != label for value in values) / len(values)
                predicted[target] = str(Counter(values).most_common(1)[0][0])
            elif all(map(finite, (label, *values))):
                mean = float(np.mean(values))
                off[target], predicted[target] = mean - label, number(mean)
        if off:
            answers.append(_Said(same[0], off, predicted))
    deviations = {target: _deviation(answers, target) for target in study.numeric}
    return [
        _Said(one.row, one.off, one.predicted, spread(abs(v) / deviations.get(t, 1.0) for t, v in one.off.items())[0])
        for one in answers
    ]  # fmt: skip


def _deviation(answers: Sequence[_Said], target: str) -> float:
    labels = [one.row["target"][target] for one in answers if target in one.off]
    return float(np.std(labels)) or 1.0 if labels else 1.0


def _by_group(study: Study, answers: Sequence[_Said]) -> Iterator[str]:
    """Yield a table for each thing that rows name: the worst groups first, lengths in their order."""
    for kind in _kinds(answers):
        groups: dict[str, list[_Said]] = {}
        for one in answers:
            groups.setdefault(_named(one.row, kind), []).append(one)
        ordered = sorted(groups.items(), key=lambda item: -spread(one.size for one in item[1])[0])
        yield _table(study, kind, ordered[:_GROUPS], len(groups))
    for kind in LENGTHS:
        lengths = np.array([v if finite(v := one.row.get(kind)) else math.nan for one in answers], np.float64)
        if not np.isfinite(lengths).all() or len(np.unique(lengths)) < _QUARTERS:
            continue
        parts = [part for part in np.array_split(np.argsort(lengths, kind="stable"), _QUARTERS) if len(part)]
        named = [(f"{lengths[part[0]]:.3g} to {lengths[part[-1]]:.3g}", [answers[k] for k in part]) for part in parts]
        yield _table(study, kind, named, len(named))


def _kinds(answers: Sequence[_Said]) -> list[str]:
    """Return the names of texts that tell groups of rows apart, the usual ones first."""
    there = {name for one in answers for name, value in one.row.items() if isinstance(value, str)} - _OTHERS
    there |= {name for one in answers for name, value in one.row["target"].items() if isinstance(value, str)}
    kinds = []
    for kind in sorted(there, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)):
        count = len({_named(one.row, kind) for one in answers})
        if 1 < count <= len(answers) / 2:
            kinds.append(kind)
    return kinds


def _named(row: Record, kind: str) -> str:
    value = row["target"].get(kind, row.get(kind))
    return NONE if value is None or value == "" or missing(value) else str(value)


def _table(study: Study, kind: str, groups: Sequence[tuple[str, Sequence[_Said]]], count: int) -> str:
    numbers, classes = study.numeric, study.categorical
    biased = numbers if len(numbers) <= 2 else []
    head = [kind if count <= len(groups) else f"{kind} (the worst {len(groups)} of {count})", "n"]
    for target in numbers:
        head += [f"{target}: error", *([f"{target}: bias"] if target in biased else [])]
    head += [f"{target}: wrong" for target in classes]
    rows = []
    for name, members in groups:
        line = [name, f"{len(members):,}"]
        for target in numbers:
            own = [one.off[target] for one in members if target in one.off]
            line += [number(spread(map(abs, own))[0]), *([signed(spread(own)[0])] if target in biased else [])]
        for target in classes:
            share = spread(one.off[target] for one in members if target in one.off)[0]
            line.append(NONE if math.isnan(share) else f"{100 * share:.0f} %")
        rows.append(line)
    return grid(*filled(head, rows))


def _worst(study: Study, answers: Sequence[_Said]) -> str:
    """Return the rows that are most wrong: whose they are, and of each target the label and what is predicted."""
    worst = sorted(answers, key=lambda one: (-one.size, str(one.row["id"])))[:_WORST]
    targets = [*study.numeric, *study.categorical]
    kinds = [*dict.fromkeys([*_FIRST, *_kinds(answers)]), *LENGTHS]
    named = [kind for kind in kinds if kind not in targets]
    rows = []
    for one in worst:
        line = [str(one.row["id"])]
        for kind in named:
            value = one.row.get(kind)
            line.append(f"{value:.3g}" if finite(value) else _named(one.row, kind))
        for target in targets:
            label = one.row["target"].get(target)
            shown = label if isinstance(label, str) else f"{label:.3g}" if finite(label) else ""
            line.append(f"{shown}, predicted {one.predicted[target]}" if target in one.predicted else NONE)
        rows.append(line)
    return f"The worst of {len(answers):,} rows:\n\n{grid(*filled(['id', *named, *targets], rows), left=True)}"
