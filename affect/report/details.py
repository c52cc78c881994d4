"""What says more than the main scores: further measures, and targets that are classes.

Legend: C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affect.metrics.classification import Counts, confusion
from affect.report.study import Study
from affect.report.systems import Floats
from affect.tables import NONE, escaped, filled, grid, number, with_deviation

_CLASSES = "F1 and recall are means over seeds, of all folds' rows together. Rows without a label are left out."
_FURTHER = (
    "± is the deviation over folds where folds hold out groups, else over seeds. Rows of folds that hold out groups "
    "are scored together too (all rows)."
)


def further(study: Study) -> str:
    """Return a line an evaluation with the measures that no main table has; "" without any."""
    measures = [measure for measure in study.measures if not measure.headline]
    if not measures or study.reported:
        return ""
    rows = []
    for name in study.evaluations:
        pooled = study.task is not None and len(study.folds) > 1 and any(study.pooled(name, m) for m in measures)
        scored = [study.scored(name, m) for m in measures]
        rows.append([name, *(with_deviation(s.mean, s.over_folds if pooled else s.over_seeds) for s in scored)])
        if pooled:
            rows.append([f"{name}, all rows", *(number(study.system(name).pooled(m)) for m in measures)])
    return f"{grid(*filled(['evaluation', *(m.shown for m in measures)], rows))}\n\n{_FURTHER}" if rows else ""


def classes(study: Study) -> str:
    """Return F1 and recall of the classes of every categorical target, and its confusion matrices; "" without one."""
    parts = []
    for target in study.categorical:
        names = names_of(study, target)
        counts = {e: counted(study, e, target, names) for e in study.evaluations}
        counts = {e: tables for e, tables in counts.items() if sum(map(np.sum, tables))}
        if not counts:
            continue
        # Means over seeds; a class that no label and no prediction names is NaN.
        f1, recall = (
            {e: np.mean([ratio(table) for table in tables], axis=0) for e, tables in counts.items()}
            for ratio in (_f1, _recall)
        )
        rows = [
            [name, *(NONE if math.isnan(f1[e][i]) else f"{number(f1[e][i])} ({number(recall[e][i])})" for e in counts)]
            for i, name in enumerate(names)
        ]
        parts += [f"### {escaped(target)}"] if len(study.categorical) > 1 else []
        parts += [grid([f"{target}: F1 (recall)", *counts], rows), _CLASSES]
        several = f", the {len(study.seeds)} seeds together" if len(study.seeds) > 1 else ""
        for evaluation, tables in counts.items():
            total = np.sum(tables, axis=0)
            matrix = [
                [name, *map(str, row), str(row.sum()), number(value)]
                for name, row, value in zip(names, total, _recall(total), strict=True)
            ]
            parts.append(f"Confusion on {escaped(evaluation)}{several} (rows: labels, columns: predictions).")
            parts.append(grid(["label", *names, "n", "recall"], matrix))
    return "\n\n".join(parts)


def names_of(study: Study, target: str) -> list[str]:
    """Return the classes of a target: those that occur, in the order that the data has them, else by name."""
    rows = [row for name in study.evaluations for row in study.system(name).rows()]
    values = (row[side].get(target) for row in rows for side in ("prediction", "target"))
    occur = {value for value in values if isinstance(value, str)}
    order = study.classes
    return order if occur <= set(order) else sorted(occur)


def counted(study: Study, evaluation: str, target: str, names: Sequence[str]) -> list[Counts]:
    """Return by seed how often each class was taken for each [C, C]: rows are labels, columns predictions."""
    tables = []
    for rows in study.system(evaluation).by_seed.values():
        pairs = [(row["prediction"].get(target), row["target"].get(target)) for row in rows]
        both = np.array([pair for pair in pairs if all(isinstance(name, str) for name in pair)], np.str_).reshape(-1, 2)
        tables.append(confusion(both[:, 0], both[:, 1], names))
    return tables


def _f1(table: Counts) -> Floats:
    return _ratio(2 * np.diag(table), table.sum(0) + table.sum(1))


def _recall(table: Counts) -> Floats:
    return _ratio(np.diag(table), table.sum(1))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
