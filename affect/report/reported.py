"""Numbers reported elsewhere (a paper, an earlier report), read as runs so that they stand beside measured ones.

`reported.json` in an experiment's folder, or a file of any name that ends in .json:

    {
      "name": "v1",                             what it is called
      "source": "report 000, table 1",          where the numbers are from
      "corpus": "emotions",                     optional, as recipes name it
      "date": "2026-01-14",                     optional, orders experiments in comparison.md
      "measures": {"emotion": "UA"},            optional; CCC for every target that is not named
      "scores": {"1": {"test": {"valence": 0.65, "arousal": 0.73}, "valid": {"valence": 0.69}}},
      "mean": {"test": {"valence": 0.5896, "arousal": 0.6867}}
    }

Of multimodal emotion, where a test part is predicted by all folds together, a mean alone, by part and score:

    {
      "name": "robust_v3", "source": "report 001", "task": "multimodal_emotion",
      "mean": {"test2": {"f1": 0.7609, "acc": 0.7621, "val": 0.6316}, "cv": {"acc": 0.7516}}
    }

`scores` holds test (and, where known, validation) scores by fold, from 1; `mean` is for reports that give no folds.
At least one of them is needed. Where both are given, `mean` must be that of the folds, to three decimals.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from affect.errors import AffectError, first_line, nearest
from affect.report.multimodal.names import LOWER, PARTS, SCORES, TASK, shown
from affect.report.runs import Record, Run

FILE = "reported.json"
_FIELDS = ("name", "source", "task", "corpus", "date", "measures", "scores", "mean")
_PARTS = ("test", "valid")
_EMOTION_PARTS = {shown(part): part for part in PARTS}
_MEASURES = ("CCC", "UA")
_ROUNDING = 1.5e-3
"""A mean of rounded scores may differ from the reported mean by this much."""

Scored = dict[str, dict[str, float]]
"""Scores by part ("test", "valid") and then by their name in metrics.jsonl ("ccc_valence")."""


def read(path: Path) -> list[Run]:
    """Return the runs of a file of reported numbers: one a fold, or fold 0 where it gives a mean alone.

    Raises AffectError naming the file and the field where it can't be read.
    """
    path = Path(path)
    document = _document(path)
    _check_fields(path, document)
    if "task" in document:
        return [_emotions(path, document)]
    measures = _measures(path, document)
    folds = {
        _fold(path, key): _parts(path, f"scores.{key}", value, measures)
        for key, value in _object(path, "scores", document.get("scores", {})).items()
    }
    mean = _parts(path, "mean", document["mean"], measures) if "mean" in document else {}
    if not folds and not mean:
        raise AffectError(f"{str(path)!r} holds neither scores nor mean")
    if folds and mean:
        _check_mean(path, folds, mean)
    recipe: Record = {"experiment": document["name"]}
    if "corpus" in document:
        recipe["data"] = {"corpus": document["corpus"]}
    return [
        Run(
            name=f"fold{fold}" if fold else "mean",
            seed=0,
            fold=fold,
            finished=True,
            recipe=recipe,
            environment=_facts(document),
            end={"event": "end", "scores": scores},
            reported=True,
        )
        for fold, scores in sorted(folds.items() if folds else [(0, mean)])
    ]


def _facts(document: Record) -> Record:
    return {"source": document["source"]} | {key: document[key] for key in ("corpus", "date") if key in document}


def _emotions(path: Path, document: Record) -> Run:
    """Return the run of a mean alone of multimodal emotion: scores by part, cv under its own name."""
    if document["task"] != TASK:
        raise _wrong(path, "task", f"must be {TASK} or left out, not {json.dumps(document['task'])[:40]}")
    for name in ("scores", "measures"):
        if name in document:
            raise _wrong(path, name, f"is none of {TASK}: give mean, by part and score")
    if "mean" not in document:
        raise _wrong(path, "mean", "is missing")
    found: Scored = {}
    for part, scores in _object(path, "mean", document["mean"]).items():
        if part not in _EMOTION_PARTS:
            raise _wrong(path, f"mean.{part}", f"is no part; {nearest(part, list(_EMOTION_PARTS))}")
        named = _object(path, f"mean.{part}", scores)
        for score, value in named.items():
            if score not in SCORES:
                raise _wrong(path, f"mean.{part}.{score}", f"is no score; {nearest(score, SCORES)}")
            # An error has no upper end.
            _number(path, f"mean.{part}.{score}", value, 0, math.inf if score in LOWER else 1)
        if not named:
            raise _wrong(path, f"mean.{part}", "is empty")
        found[_EMOTION_PARTS[part]] = {score: float(value) for score, value in named.items()}
    if not found:
        raise _wrong(path, "mean", "is empty")
    recipe: Record = {"experiment": document["name"], "task": TASK}
    recipe |= {"data": {"corpus": document["corpus"]}} if "corpus" in document else {}
    end = {"event": "end", "scores": found}
    return Run(
        name="mean", seed=0, fold=0, finished=True, recipe=recipe, environment=_facts(document), end=end, reported=True
    )


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
    for name in ("name", "source", "corpus", "date"):
        value = document.get(name)
        if name in document and not (isinstance(value, str) and value.strip()):
            raise _wrong(path, name, f"must be a text, not {json.dumps(value)[:40]}")
        if name in ("name", "source") and name not in document:
            raise _wrong(path, name, "is missing")
    if "date" in document and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", document["date"]):
        raise _wrong(path, "date", f"must be like 2026-01-14, not {document['date'][:40]!r}")


def _measures(path: Path, document: Record) -> dict[str, str]:
    measures = _object(path, "measures", document.get("measures", {}))
    for target, measure in measures.items():
        if measure not in _MEASURES:
            raise _wrong(path, f"measures.{target}", f"must be CCC or UA, not {json.dumps(measure)[:40]}")
    return measures


def _fold(path: Path, key: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", key):
        raise _wrong(path, f"scores.{key[:40]}", "is no fold: they are numbered from 1")
    return int(key)


def _parts(path: Path, field: str, value: object, measures: dict[str, str]) -> Scored:
    parts = _object(path, field, value)
    for part in parts:
        if part not in _PARTS:
            raise _wrong(path, f"{field}.{part}", f"is no part; {nearest(part, _PARTS)}")
    if "test" not in parts:
        raise _wrong(path, f"{field}.test", "is missing")
    found = {}
    for part, scores in parts.items():
        named = _object(path, f"{field}.{part}", scores)
        if not named:
            raise _wrong(path, f"{field}.{part}", "is empty")
        found[part] = {
            f"{measures.get(target, 'CCC').lower()}_{target}": _score(path, f"{field}.{part}.{target}", target, score)
            for target, score in named.items()
        }
    return found


def _score(path: Path, field: str, target: str, score: Any) -> float:
    if target == "mean":
        raise _wrong(path, field, "is taken from the targets: leave it out")
    if not re.fullmatch(r"\w+", target):
        raise _wrong(path, field, "is no target: letters, digits and _ alone")
    _number(path, field, score, -1, 1)
    return float(score)


def _number(path: Path, field: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        within = f"from {low} to {high}" if math.isfinite(high) else f"of {low} or more"
        raise _wrong(path, field, f"must be a number {within}, not {json.dumps(value)[:40]}")


def _check_mean(path: Path, folds: dict[int, Scored], mean: Scored) -> None:
    for part, scores in mean.items():
        for name, given in scores.items():
            known = [fold[part][name] for fold in folds.values() if name in fold.get(part, {})]
            # A mean over folds of which some are unknown can't be checked.
            if len(known) == len(folds) and abs(sum(known) / len(known) - given) > _ROUNDING:
                field = f"mean.{part}.{name.split('_', 1)[1]}"
                raise _wrong(path, field, f"is {given:g}, but the {len(known)} folds' is {sum(known) / len(known):.4f}")


def _object(path: Path, field: str, value: object) -> Record:
    if not isinstance(value, dict):
        if not field:
            raise AffectError(f"{str(path)!r} is no file of reported numbers: it holds no JSON object")
        raise _wrong(path, field, f"must be an object, not {json.dumps(value)[:40]}")
    return value


def _wrong(path: Path, field: str, words: str) -> AffectError:
    return AffectError(f"{str(path)!r}: {field} {words}")
