"""Run folders as the trainer leaves them: `<experiment folder>/seed<S>/fold<F>/`."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from affect import archive
from affect import recipe as recipes
from affect.archive import DamagedArchiveError
from affect.errors import AffectError, first_line, nearest
from affect.report.rows import Files, Later, Record, Rows, lines
from affect.tables import inside

TRAIN, VALID = "train", "valid"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One seed and fold of an experiment, finished or not.

    `evals` and `steps` are ordered by step; after a resumption the later record of a step counts. `predictions` holds
    rows on the raw scale by evaluation and id: {"id", "prediction", "target", group keys}; `baselines` those of trivial
    models by name. `problems` names what could not be read, a line each, as far as it was asked for. `reported` says
    that the numbers were taken from a paper: there is nothing but the scores in `end`, and fold 0 stands for a mean
    whose folds are unknown. `folder` is where the run lies.
    """

    name: str
    seed: int
    fold: int
    finished: bool
    recipe: Record = field(default_factory=dict)
    environment: Record = field(default_factory=dict)
    steps: Sequence[Record] = field(default_factory=list)
    evals: Sequence[Record] = field(default_factory=list)
    end: Record = field(default_factory=dict)
    timing: Sequence[Record] = field(default_factory=list)
    predictions: Mapping[str, Rows] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Rows]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    reported: bool = False
    folder: Path | None = None

    def recorded(self, evaluation: str, measure: str) -> float:
        """Return the score that the trainer (or a paper) wrote of an evaluation (NaN: none)."""
        value = inside(inside(self.end, "scores"), evaluation).get(measure)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan

    def course(self, evaluation: str, measure: str) -> dict[int, float]:
        """Return by step the finite scores of an evaluation that runs while training does."""
        events = (e for e in self.evals if e.get("evaluation") == evaluation)
        scores = {event["step"]: inside(event, "scores").get(measure) for event in events}
        return {step: float(v) for step, v in scores.items() if isinstance(v, int | float) and math.isfinite(v)}

    @cached_property
    def kept_epoch(self) -> int | None:
        """The epoch whose weights were kept, from 1."""
        best, step = self.end.get("best_epoch"), self.end.get("best_step")
        if isinstance(best, int):
            return best + 1
        return round(step * self.pace) if isinstance(step, int) else None

    @cached_property
    def last_epoch(self) -> int | None:
        """The last epoch that was trained, from 1."""
        told = [event["epoch"] for event in [*self.steps, *self.evals] if isinstance(event.get("epoch"), int)]
        return max(told) + 1 if told else None

    @property
    def pace(self) -> float:
        """Epochs a step, told by the first evaluation (they come every `train.evaluate_every` epochs)."""
        every = inside(self.recipe, "train").get("evaluate_every")
        first = next((event["step"] for event in self.evals if event["step"] > 0), None)
        if first is None:
            # One epoch that is not over yet.
            first, every = max((record["step"] for record in self.steps), default=1) or 1, 1
        return (every if isinstance(every, int) and every > 0 else 1) / first


def read(folder: Path, *, scores_only: bool = False) -> list[Run]:
    """Return every run under an experiment folder (or the one run that `folder` is), by seed and fold.

    `scores_only` leaves out what no comparison needs (baselines), and reads losses, courses and timing where they are
    asked for, as rows always are; lines that can't be read are named in `Run.problems`. Raises AffectError where there
    is no run at all.
    """
    folder = Path(folder)
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.glob("*") if p.is_dir()] if folder.parent.is_dir() else []
        hint = f"; {nearest(folder.name, siblings)}" if siblings else ""
        raise AffectError(f"no run folder {str(folder)!r}{hint}")
    folders = []
    for path in [folder, *folder.glob("seed*/fold*")]:
        # Resolved, so that "." says where it is.
        place = re.fullmatch(r"seed(\d+)/fold(\d+)", "/".join(path.resolve().parts[-2:]))
        if place and path.is_dir():
            folders.append((int(place[1]), int(place[2]), path))
    if not folders:
        raise AffectError(f"{str(folder)!r} holds no runs (no seed<S>/fold<F> folder in it)")
    return [_run(path, seed, fold, scores_only) for seed, fold, path in sorted(folders)]


def _run(path: Path, seed: int, fold: int, scores_only: bool) -> Run:
    problems: list[str] = []

    def logged(kind: str) -> list[Record]:
        return _last_by_step(lines(path / "metrics.jsonl", problems, containing=f'"{kind}"'), kind)

    def timing() -> list[Record]:
        return lines(path / "timing.jsonl", problems)

    events = _last(path / "metrics.jsonl") if scores_only else lines(path / "metrics.jsonl", problems)
    end = events[-1] if events and events[-1].get("event") == "end" else {}
    predictions: dict[str, Path] = {}
    baselines: dict[str, dict[str, Path]] = {}
    for file in sorted(path.glob("*.jsonl")):
        if match := re.fullmatch(r"predictions-(.+)\.jsonl", file.name):
            predictions[match[1]] = file
        elif match := re.fullmatch(r"baseline-(\w+)-(.+)\.jsonl", file.name):
            # What earlier versions called as columns and rows of tables are called.
            baselines.setdefault("constant" if match[1] == "mean" else match[1], {})[match[2]] = file
    conditions = path / "predictions-conditions.zip"
    try:
        predictions |= {name.removesuffix(".jsonl"): conditions / name for name in sorted(archive.names(conditions))}
    except FileNotFoundError:
        pass
    except (DamagedArchiveError, OSError) as error:
        problems.append(f"{conditions.name} can't be read: {first_line(error)}")
    recipe = _document(path / "recipe.json", problems)
    if recipe:
        try:
            recipes.check_own(path)
        except AffectError as error:
            problems.append(str(error))
    return Run(
        name=f"seed{seed}/fold{fold}", seed=seed, fold=fold, finished=bool(end),
        recipe=recipe, environment=_document(path / "environment.json", problems),
        steps=Later(lambda: logged("step")) if scores_only else _last_by_step(events, "step"),
        evals=Later(lambda: logged("eval")) if scores_only else _last_by_step(events, "eval"), end=end,
        timing=Later(timing) if scores_only else timing(), predictions=Files(predictions, problems),
        baselines={name: Files(files, problems) for name, files in baselines.items() if not scores_only},
        problems=problems, folder=path,
    )  # fmt: skip


def _last(path: Path) -> list[Record]:
    """Return the last JSON object of a file; a log is long, and its end is all that a comparison needs."""
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in reversed(content.split("\n")):
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict):
                return [record]
    return []


def _document(path: Path, problems: list[str]) -> Record:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        problem = "holds no JSON object"
    except FileNotFoundError:
        problem = "is missing"
    except (ValueError, OSError, RecursionError) as error:
        problem = f"can't be read: {first_line(error)}"
    problems.append(f"{path.name} {problem}")
    return {}


def _last_by_step(events: list[Record], kind: str) -> list[Record]:
    by_step: dict[tuple[int, str], Record] = {}
    for event in events:
        if event.get("event") == kind and isinstance(event.get("step"), int):
            by_step[event["step"], str(event.get("evaluation", ""))] = event
    return [by_step[key] for key in sorted(by_step)]
