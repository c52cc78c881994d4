"""Run folders as the trainer leaves them: `<experiment folder>/seed<S>/fold<F>/`."""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affect.errors import AffectError, first_line, nearest

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One seed and fold of an experiment, finished or not.

    `evals` and `steps` are ordered by step; after a resumption the later record of a step counts. `predictions` and
    `baselines` hold rows on the raw scale by id: {"id", "prediction", "target", group keys}; a value is a number, or
    the name of a class. `problems` names what could not be read, a line each. `reported` says that the numbers were
    taken from a paper: there is nothing but the scores in `end`, and fold 0 stands for a mean whose folds are unknown.
    `folder` is where the run lies, for what only some kinds of report read.
    """

    name: str
    seed: int
    fold: int
    finished: bool
    recipe: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    steps: list[Record] = field(default_factory=list)
    evals: list[Record] = field(default_factory=list)
    end: Record = field(default_factory=dict)
    timing: list[Record] = field(default_factory=list)
    predictions: dict[str, dict[str, Record]] = field(default_factory=dict)
    baselines: dict[str, dict[str, Record]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    reported: bool = False
    folder: Path | None = None

    @property
    def test(self) -> dict[str, Record]:
        """The rows predicted on the test part, by id."""
        return self.predictions.get("test", {})

    @property
    def pace(self) -> float:
        """Epochs a step, told by the first evaluation (they come every `train.evaluate_every` epochs)."""
        train = self.recipe.get("train")
        every = train.get("evaluate_every") if isinstance(train, dict) else None
        first = next((event["step"] for event in self.evals if event["step"] > 0), None)
        if first is None:
            # One epoch that is not over yet.
            first, every = max((record["step"] for record in self.steps), default=1) or 1, 1
        return (every if isinstance(every, int) and every > 0 else 1) / first


def read(folder: Path, *, scores_only: bool = False) -> list[Run]:
    """Return every run under an experiment folder (or the one run that `folder` is), by seed and fold.

    `scores_only` leaves out what no test score needs (losses, evaluations, timing, baselines, other predictions).
    Lines that can't be read are named in `Run.problems`. Raises AffectError where there is no run at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.glob("*") if p.is_dir()] if folder.parent.is_dir() else []
        hint = f"; {nearest(folder.name, siblings)}" if siblings else ""
        raise AffectError(f"no run folder {str(folder)!r}{hint}")
    found = []
    for path in [folder, *folder.glob("seed*/fold*")]:
        # Resolved, so that "." says where it is.
        place = re.fullmatch(r"seed(\d+)/fold(\d+)", "/".join(path.resolve().parts[-2:]))
        if place and path.is_dir():
            found.append((int(place[1]), int(place[2]), path))
    if not found:
        raise AffectError(f"{str(folder)!r} holds no runs (no seed<S>/fold<F> folder in it)")
    one = _scores if scores_only else _run
    return [one(path, seed, fold) for seed, fold, path in sorted(found)]


def _run(path: Path, seed: int, fold: int) -> Run:
    problems: list[str] = []
    events = _lines(path / "metrics.jsonl", problems)
    end = events[-1] if events and events[-1].get("event") == "end" else {}
    named = {p.name: p for p in sorted(path.glob("*.jsonl"))}
    return Run(
        name=f"seed{seed}/fold{fold}",
        seed=seed,
        fold=fold,
        finished=bool(end),
        recipe=_document(path / "recipe.json", problems),
        environment=_document(path / "environment.json", problems),
        steps=_last_by_step(events, "step"),
        evals=_last_by_step(events, "eval"),
        end=end,
        timing=_lines(path / "timing.jsonl", problems),
        predictions={
            match[1]: rows_of(file, problems)
            for name, file in named.items()
            if (match := re.fullmatch(r"predictions-(\w+)\.jsonl", name))
        },
        baselines={
            match[1]: rows_of(file, problems)
            for name, file in named.items()
            if (match := re.fullmatch(r"baseline-(\w+)-test\.jsonl", name))
        },
        problems=problems,
        folder=path,
    )


def _scores(path: Path, seed: int, fold: int) -> Run:
    problems: list[str] = []
    end = _last(path / "metrics.jsonl")
    return Run(
        name=f"seed{seed}/fold{fold}",
        seed=seed,
        fold=fold,
        finished=end.get("event") == "end",
        recipe=_document(path / "recipe.json", problems),
        environment=_document(path / "environment.json", problems),
        end=end if end.get("event") == "end" else {},
        predictions={"test": rows_of(path / "predictions-test.jsonl", problems)},
        problems=problems,
        folder=path,
    )


def _last(path: Path) -> Record:
    """Return the last JSON object of a file; empty where there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                return record
    return {}


def _document(path: Path, problems: list[str]) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(f"{path.name} is missing")
        return {}
    except (ValueError, OSError) as error:
        problems.append(f"{path.name} can't be read: {first_line(error)}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} holds no JSON object")
        return {}
    return content


def _lines(path: Path, problems: list[str]) -> list[Record]:
    """Return the JSON objects of a file, a line each; those that are none are counted, the first one named."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{path.name} can't be read: {first_line(error)}")
        return []
    records, wrong = [], []
    # Not splitlines(), which also breaks at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            wrong.append(number)
    if wrong:
        problems.append(f"{path.name}: {len(wrong)} corrupt line(s), the first is line {wrong[0]}")
    return records


def rows_of(path: Path, problems: list[str]) -> dict[str, Record]:
    """Return the rows of a file of predictions by id, none where there is no file; `problems` gets a line each."""
    rows: dict[str, Record] = {}
    wrong: list[str] = []
    twice: list[str] = []
    for record in _lines(path, problems):
        name = str(record.get("id", ""))
        prediction, target = record.get("prediction"), record.get("target")
        if not name or not isinstance(prediction, dict) or not isinstance(target, dict):
            wrong.append(name or "without an id")
        elif name in rows:
            twice.append(name)
        else:
            rows[name] = record | {"prediction": _values(prediction), "target": _values(target)}
    if wrong:
        problems.append(f"{path.name}: {len(wrong)} row(s) without prediction and target, the first is {wrong[0]}")
    if twice:
        problems.append(f"{path.name}: {len(twice)} id(s) more than once (the first row counts), as {twice[0]}")
    return rows


def _values(values: Record) -> dict[str, float | str]:
    """Return numbers as floats and classes as they are; null, an empty name and anything else is NaN."""
    return {name: _value(value) for name, value in values.items()}


def _value(value: object) -> float | str:
    if isinstance(value, str):
        return value or math.nan
    return float(value) if isinstance(value, int | float) else math.nan


def _last_by_step(events: list[Record], kind: str) -> list[Record]:
    by_step: dict[tuple[int, str], Record] = {}
    for event in events:
        if event.get("event") == kind and isinstance(event.get("step"), int):
            by_step[event["step"], str(event.get("split", ""))] = event
    return [by_step[key] for key in sorted(by_step)]
