"""Numbers reported elsewhere (a paper, an earlier report), read as runs so that they stand beside measured ones.

They are in `reported.json` in an experiment's folder, or in a file of any name that ends in .json; docs/adding.md says
what it holds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from affect import tasks
from affect.errors import AffectError, first_line, nearest, reading
from affect.report import asking
from affect.report.rows import Record
from affect.report.runs import VALID, Run
from affect.task import Measure, Task

FILE = "reported.json"
_FIELDS = ("name", "source", "task", "corpus", "date", "measures", "scores", "mean")
_ROUNDING = 1.5e-3
"""A mean of rounded scores may differ from the reported mean by this much."""

Scored = dict[str, dict[str, float]]
"""Scores by evaluation and then by their measure's name."""


def read(path: Path) -> tuple[list[Run], Task | None]:
    """Return the runs of a file of reported numbers, and the task whose measures they are (None: unknown).

    The runs are one a fold, or fold 0 where the file gives a mean alone. Raises AffectError naming the file and the
    field where it can't be read.
    """
    document = _document(path)
    try:
        return _runs(document)
    except AffectError as error:
        raise AffectError(f"{str(path)!r}: {error}") from error


def _document(path: Path) -> Record:
    other = f"{str(path)!r} is no file of reported numbers: it"
    try:
        with reading(path):
            document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AffectError(f"{other} is no JSON: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise AffectError(f"{other} holds no JSON object")
    # A recipe or a log that was named by mistake: its fields are no misspelt ones of ours.
    if not {"scores", "mean"} & document.keys():
        raise AffectError(f"{other} holds neither scores nor mean")
    return document


def _runs(document: Record) -> tuple[list[Run], Task | None]:
    _check_fields(document)
    kinds = _object("measures", document.get("measures", {}))
    for target, kind in kinds.items():
        if not isinstance(kind, str) or not re.fullmatch(r"\w+", kind):
            raise AffectError(f"measures.{target} must be a measure, not {_shown(kind)}")
    folds = {}
    for key, parts in _object("scores", document.get("scores", {})).items():
        if not re.fullmatch(r"[1-9]\d{0,5}", key):
            raise AffectError(f"scores.{key[:40]} is no fold: they are numbered from 1")
        folds[int(key)] = _parts(f"scores.{key}", parts, kinds)
    mean = _parts("mean", document["mean"], kinds) if "mean" in document else {}
    _check_mean(folds, mean)
    if not folds and not mean:
        raise AffectError("scores is empty")
    task = _task(document, {name for parts in (*folds.values(), mean) for given in parts.values() for name in given})
    measures = task.measures if task is not None else ()
    data = {"corpus": document.get("corpus")}
    recipe: Record = {"experiment": document["name"], "task": document.get("task"), "data": data}
    runs = [
        Run(
            name=f"fold{fold}" if fold else "mean", seed=0, fold=fold, finished=True, recipe=recipe,
            environment={key: document[key] for key in ("source", "corpus", "date") if key in document},
            end={"event": "end", "scores": {part: _named(measures, given) for part, given in parts.items()}},
            reported=True,
        )
        for fold, parts in sorted(folds.items() or [(0, mean)])
    ]  # fmt: skip
    return runs, task


def _check_fields(document: Record) -> None:
    for name in document:
        if name not in _FIELDS:
            raise AffectError(f"{name} is no field; {nearest(name, _FIELDS)}")
    for name in ("name", "source", "corpus", "date", "task"):
        value = document.get(name)
        if name in document and not (isinstance(value, str) and value.strip()):
            raise AffectError(f"{name} must be a text, not {_shown(value)}")
        if name in ("name", "source") and name not in document:
            raise AffectError(f"{name} is missing")
    if "date" in document and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", document["date"]):
        raise AffectError(f"date must be like 2026-01-14, not {document['date'][:40]!r}")


def _parts(field: str, parts: object, kinds: Mapping[str, str]) -> Scored:
    """Return the scores of a fold (or of a mean) by evaluation and measure, whose kind the file may say (UA)."""
    scored: Scored = {}
    for part, scores in _object(field, parts).items():
        if not re.fullmatch(r"[\w@=.+-]+", part):
            raise AffectError(f"{field}.{part[:40]} is no evaluation: letters, digits and _ alone")
        given = scored[VALID if part == "cv" else part] = {}
        for name, score in _object(f"{field}.{part}", scores).items():
            place = f"{field}.{part}.{name}"
            if name == "mean":
                raise AffectError(f"{place} is taken from the others: leave it out")
            if not name.strip():
                raise AffectError(f"{place} is no measure")
            # An error has no upper end; what that of a score is only its measure knows.
            if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
                raise AffectError(f"{place} must be a number, not {_shown(score)}")
            given[f"{kinds[name].lower()}_{name}" if name in kinds else name] = float(score)
        if not given:
            raise AffectError(f"{field}.{part} is empty")
    if not scored:
        raise AffectError(f"{field} is empty")
    return scored


def _check_mean(folds: dict[int, Scored], mean: Scored) -> None:
    for part, scores in mean.items():
        for name, given in scores.items():
            values = [fold[part][name] for fold in folds.values() if name in fold.get(part, {})]
            # A mean over folds of which some are unknown can't be checked.
            if values and len(values) == len(folds) and abs(sum(values) / len(values) - given) > _ROUNDING:
                words = f"is {given:g}, but the {len(values)} folds' is {sum(values) / len(values):.4f}"
                raise AffectError(f"mean.{part}.{name} {words}")


def _task(document: Record, names: set[str]) -> Task | None:
    if "task" not in document:
        return asking.task_like(names)
    if document["task"] not in tasks.TASKS:
        raise AffectError(f"task is no task; {nearest(str(document['task']), tasks.TASKS)}")
    task, _ = asking.task_of({"task": document["task"], "experiment": document["name"]})
    for name in sorted(names):
        if task is not None and asking.named(task.measures, name) is None:
            choices = [other for m in task.measures for other in (m.name, *m.aliases)]
            raise AffectError(f"scores of {name} are of no measure; {nearest(name, choices)}")
    return task


def _named(measures: Sequence[Measure], scores: dict[str, float]) -> dict[str, float]:
    """Return scores by their measures' own names, with those that follow from them: a mean of measures all there."""
    named = {(m.name if (m := asking.named(measures, name)) is not None else name): v for name, v in scores.items()}
    for measure in measures:
        if measure.name not in named and measure.combine is not None and all(p.name in named for p in measure.parts):
            named[measure.name] = float(measure.combine([named[part.name] for part in measure.parts]))
    return named


def _object(field: str, value: object) -> Record:
    if not isinstance(value, dict):
        raise AffectError(f"{field} must be an object, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return json.dumps(value)[:40]
