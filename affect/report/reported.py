"""Numbers reported elsewhere (a paper, an earlier report), read as runs so that they stand beside measured ones.

`reported.json` in an experiment's folder, or a file of any name that ends in .json:

    {
      "name": "v1",                             what it is called
      "source": "report 000, table 1",          where the numbers are from
      "corpus": "a_corpus",                     optional, as recipes name it
      "task": "some_task",                      optional
      "date": "2026-01-14",                     optional, orders experiments in comparison.md
      "measures": {"recall": "UA"},             optional, where a score is of ua_recall
      "scores": {"1": {"test": {"accuracy": 0.65, "recall": 0.73}, "valid": {"accuracy": 0.69}}},
      "mean": {"test": {"accuracy": 0.5896, "recall": 0.6867}}
    }

`scores` and `mean` hold scores by evaluation (test, or test1, test2 ...; valid, also called cv), and there by measure:
its name, its title or an alias, as `affect report` shows them. `task` names the task whose measures they are; without
it the task whose measures bear the most of these names. `scores` are by fold, from 1; `mean` is for reports that give
no folds. At least one of them is needed. Where both are given, `mean` must be that of the folds, to three decimals.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from affect import tasks
from affect.errors import AffectError, first_line, nearest
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
    path = Path(path)
    document = _document(path)
    _check_fields(path, document)
    kinds = _kinds(path, document)
    folds = {
        _fold(path, key): _parts(path, f"scores.{key}", value, kinds)
        for key, value in _object(path, "scores", document.get("scores", {})).items()
    }
    mean = _parts(path, "mean", document["mean"], kinds) if "mean" in document else {}
    if not folds and not mean:
        raise AffectError(f"{str(path)!r} holds neither scores nor mean")
    if folds and mean:
        _check_mean(path, folds, mean)
    task = _task(path, document, [*folds.values(), mean])
    measures = list(task.measures) if task is not None else []
    recipe: Record = {"experiment": document["name"]}
    recipe |= {"task": document["task"]} if "task" in document else {}
    recipe |= {"data": {"corpus": document["corpus"]}} if "corpus" in document else {}
    runs = [
        Run(
            name=f"fold{fold}" if fold else "mean",
            seed=0,
            fold=fold,
            finished=True,
            recipe=recipe,
            environment={key: document[key] for key in ("source", "corpus", "date") if key in document},
            end={"event": "end", "scores": {part: _named(measures, given) for part, given in scores.items()}},
            reported=True,
        )
        for fold, scores in sorted(folds.items() if folds else [(0, mean)])
    ]
    return runs, task


def _named(measures: list[Measure], scores: dict[str, float]) -> dict[str, float]:
    """Return scores by their measures' own names, with those that follow from them."""
    found = {(m.name if (m := asking.named(measures, name)) is not None else name): v for name, v in scores.items()}
    return asking.derived(measures, found)


def _task(path: Path, document: Record, scores: list[Scored]) -> Task | None:
    names = {name for parts in scores for given in parts.values() for name in given}
    if "task" not in document:
        return asking.task_like(names)
    if document["task"] not in tasks.TASKS:
        raise _wrong(path, "task", f"is no task; {nearest(str(document['task']), tasks.TASKS)}")
    task, _ = asking.task_of({"task": document["task"], "experiment": document["name"]})
    for name in sorted(names):
        if task is not None and asking.named(task.measures, name) is None:
            known = [other for m in task.measures for other in (m.name, *m.aliases)]
            raise _wrong(path, f"scores of {name}", f"are of no measure; {nearest(name, known)}")
    return task


def _kinds(path: Path, document: Record) -> dict[str, str]:
    """Return by target what kind of measure its score is of, where the file says it ({"recall": "UA"})."""
    kinds = _object(path, "measures", document.get("measures", {}))
    for target, kind in kinds.items():
        if not isinstance(kind, str) or not re.fullmatch(r"\w+", kind):
            raise _wrong(path, f"measures.{target}", f"must be a measure, not {json.dumps(kind)[:40]}")
    return kinds


def _document(path: Path) -> Record:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AffectError(
            f"{str(path)!r} is no file of reported numbers: it is no JSON: {first_line(error)}"
        ) from error
    except OSError as error:
        raise AffectError(f"{str(path)!r} can't be read: {error.strerror or error}") from error
    found = _object(path, "", document)
    # A recipe or a log that was named by mistake: its fields are no misspelt ones of ours.
    if not {"scores", "mean"} & found.keys():
        raise AffectError(f"{str(path)!r} is no file of reported numbers: it holds neither scores nor mean")
    return found


def _check_fields(path: Path, document: Record) -> None:
    for name in document:
        if name not in _FIELDS:
            raise _wrong(path, name, f"is no field; {nearest(name, _FIELDS)}")
    for name in ("name", "source", "corpus", "date", "task"):
        value = document.get(name)
        if name in document and not (isinstance(value, str) and value.strip()):
            raise _wrong(path, name, f"must be a text, not {json.dumps(value)[:40]}")
        if name in ("name", "source") and name not in document:
            raise _wrong(path, name, "is missing")
    if "date" in document and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", document["date"]):
        raise _wrong(path, "date", f"must be like 2026-01-14, not {document['date'][:40]!r}")


def _fold(path: Path, key: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", key):
        raise _wrong(path, f"scores.{key[:40]}", "is no fold: they are numbered from 1")
    return int(key)


def _parts(path: Path, field: str, value: object, kinds: dict[str, str]) -> Scored:
    found: Scored = {}
    for part, scores in _object(path, field, value).items():
        if not re.fullmatch(r"[\w@=.+-]+", part):
            raise _wrong(path, f"{field}.{part[:40]}", "is no evaluation: letters, digits and _ alone")
        given = _object(path, f"{field}.{part}", scores)
        if not given:
            raise _wrong(path, f"{field}.{part}", "is empty")
        found[VALID if part == "cv" else part] = {
            (f"{kinds[name].lower()}_{name}" if name in kinds else name): _score(
                path, f"{field}.{part}.{name}", name, score
            )
            for name, score in given.items()
        }
    if not found:
        raise _wrong(path, field, "is empty")
    return found


def _score(path: Path, field: str, name: str, score: Any) -> float:
    if name == "mean":
        raise _wrong(path, field, "is taken from the others: leave it out")
    if not name.strip():
        raise _wrong(path, field, "is no measure")
    # An error has no upper end; what that of a score is only its measure knows.
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
        raise _wrong(path, field, f"must be a number, not {json.dumps(score)[:40]}")
    return float(score)


def _check_mean(path: Path, folds: dict[int, Scored], mean: Scored) -> None:
    for part, scores in mean.items():
        for name, given in scores.items():
            known = [fold[part][name] for fold in folds.values() if name in fold.get(part, {})]
            # A mean over folds of which some are unknown can't be checked.
            if len(known) == len(folds) and abs(sum(known) / len(known) - given) > _ROUNDING:
                told = f"is {given:g}, but the {len(known)} folds' is {sum(known) / len(known):.4f}"
                raise _wrong(path, f"mean.{part}.{name}", told)


def _object(path: Path, field: str, value: object) -> Record:
    if not isinstance(value, dict):
        if not field:
            raise AffectError(f"{str(path)!r} is no file of reported numbers: it holds no JSON object")
        raise _wrong(path, field, f"must be an object, not {json.dumps(value)[:40]}")
    return value


def _wrong(path: Path, field: str, words: str) -> AffectError:
    return AffectError(f"{str(path)!r}: {field} {words}")
