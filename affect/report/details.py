"""What says more than the main scores: further measures, and targets that are classes.

Legend: C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from affect.metrics.classification import Counts, confusion
from affect.report.rows import Record
from affect.report.study import Study
from affect.report.systems import Floats
from affect.tables import NONE, escaped, filled, grid, number, with_deviation

_CLASSES = "F1 and recall are means over seeds, of all folds' rows together. Rows without a label are left out."
_FURTHER = (
    "± is the deviation over folds where folds hold out groups, else over seeds. Rows of folds that hold out "
    "groups are "
    "scored together too (all rows)."
)


def further(study: Study) -> str:
    """Return a line an evaluation with the measures that no main table has; "" without any."""
    measures = [measure for measure in study.measures if not measure.headline]
    if not measures or study.reported:
        return ""
    rows = []
    for name in study.evaluations:
        cells = []
        pooled = study.task is not None and any(study.pooled(name, m) for m in measures) and len(study.folds) > 1
        for measure in measures:
            found = study.scored(name, measure)
            cells.append(with_deviation(found.mean, found.over_folds if pooled else found.over_seeds))
        rows.append([name, *cells])
        if pooled:
            rows.append([f"{name}, all rows", *(number(study.system(name).pooled(m)) for m in measures)])
    return f"{grid(*filled(['evaluation', *(m.shown for m in measures)], rows))}\n\n{_FURTHER}" if rows else ""


def classes(study: Study) -> str:
    """Return F1 and recall of the classes of every categorical target, and its confusion matrices; "" without one."""
    parts = []
    targets = study.categorical()
    for target in targets:
        names = names_of(study, target)
        counts = {e: counted(study, e, target, names) for e in study.evaluations}
        counts = {e: tables for e, tables in counts.items() if sum(map(np.sum, tables))}
        if not counts:
            continue
        rows = []
        found = {e: _by_class(tables) for e, tables in counts.items()}
        for i, name in enumerate(names):
            rows.append(
                [name, *(f"{number(f1[i])} ({number(r[i])})" if f1[i] == f1[i] else NONE for f1, r in found.values())]
            )
        parts += [f"### {escaped(target)}"] if len(targets) > 1 else []
        parts += [grid([f"{target}: F1 (recall)", *found], rows), _CLASSES]
        several = f", the {len(study.seeds)} seeds together" if len(study.seeds) > 1 else ""
        for evaluation, tables in counts.items():
            parts.append(f"Confusion on {escaped(evaluation)}{several} (rows: labels, columns: predictions).")
            parts.append(_matrix(np.sum(tables, axis=0), names))
    return "\n\n".join(parts)


def names_of(study: Study, target: str) -> list[str]:
    """Return the classes of a target: those that occur, in the order that the data has them, else by name."""
    rows = [row for name in study.evaluations for row in study.system(name).rows()]
    occur = {
        value for row in rows for side in ("prediction", "target") if isinstance(value := row[side].get(target), str)
    }
    told = study.environment.get("classes")
    order = [str(name) for name in told] if isinstance(told, list) else []
    return order if occur <= set(order) else sorted(occur)


def counted(study: Study, evaluation: str, target: str, names: Sequence[str]) -> list[Counts]:
    """Return by seed how often each class was taken for each [C, C]: rows are labels, columns predictions."""
    system = study.system(evaluation)
    return [
        _confusion([row for rows in folds.values() for row in rows.values()], target, names)
        for folds in system.units.values()
    ]


def _confusion(rows: Sequence[Record], target: str, names: Sequence[str]) -> Counts:
    pairs = [(row["prediction"].get(target), row["target"].get(target)) for row in rows]
    known = [(p, t) for p, t in pairs if isinstance(p, str) and isinstance(t, str)]
    return confusion(np.array([p for p, _ in known], np.str_), np.array([t for _, t in known], np.str_), names)


def _by_class(tables: Sequence[Counts]) -> tuple[Floats, Floats]:
    """Return F1 [C] and recall [C], means over seeds; a class that no label and no prediction names is NaN."""
    f1 = [_ratio(2 * np.diag(t), t.sum(0) + t.sum(1)) for t in tables]
    recall = [_ratio(np.diag(t), t.sum(1)) for t in tables]
    return np.mean(f1, axis=0), np.mean(recall, axis=0)


def _matrix(counts: Counts, names: Sequence[str]) -> str:
    rows = []
    for i, name in enumerate(names):
        total = int(counts[i].sum())
        recall = counts[i, i] / total if total else math.nan
        rows.append([name, *map(str, counts[i]), str(total), number(float(recall))])
    return grid(["label", *names, "n", "recall"], rows)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
