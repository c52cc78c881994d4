"""An ensemble: the mean of several experiments' predictions, utterance by utterance."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError
from affect.experiments import folds
from affect.metrics.average_predictions import combine
from affect.options import Options
from affect.recipe import Recipe
from affect.tables import counted, grid, number
from affect.task import TRAIN, VALID, Row, Task, measured
from affect.training import run_dir, signals
from affect.training.distributed import join

Members = Mapping[str, Recipe | Path]
"""The members by name: an experiment's recipe, or the folder of a finished one."""


@signals.stoppable
def run(name: str, members: Members, options: Options, command: str) -> Path:
    """Run the unfinished members and return the ensemble's folder; AffectError where members differ, naming in what."""
    own = replace(options, overwrite=False)
    engines = [folds.join(recipe) for recipe in members.values() if isinstance(recipe, Recipe)] or [join()]
    engine = engines[0]
    # Before anything is trained: a member that lacks a fold is known now.
    units = engine.on_main(lambda: _units(members, options))
    engine.on_main(lambda: _free(members, options))
    tops = {
        member: chosen if isinstance(chosen, Path) else folds.run(member, chosen, own, command)
        for member, chosen in members.items()
    }
    top = run_dir.experiment_folder(options.runs, name, options.name)

    def average() -> None:
        _claim(top, tops, options)
        for unit in units:
            _unit(name, tops, top, unit, command)
        run_dir.write_text(top / "members.md", table(top) + "\n")
        if options.report:
            folds.conclude(options.runs, top)

    engine.on_main(average)
    return top


def dry_run(members: Members, options: Options) -> str:
    """Return where each member's runs stand and how many are finished, as text; nothing is trained."""
    lines = []
    for name, chosen in members.items():
        if isinstance(chosen, Path):
            lines.append(f"{name}: {len(_finished(chosen))} finished runs")
            continue
        top = run_dir.experiment_folder(options.runs, name, options.name)
        wanted = _wanted(chosen, options)
        done = len(set(wanted) & set(_finished(top)))
        lines.append(f"{name}: {top}, {done} of {counted(len(wanted), 'run')} finished")
    return "\n".join(lines)


def table(top: Path) -> str:
    """Return the mean scores of an ensemble and of its members on the test parts, a table a part."""
    first = next(iter(_folders(top).values()))
    places = recipes.read(first / "recipe.json")["members"]
    tops = {**{name: Path(place) for name, place in places.items()}, "ensemble": top}
    units = list(_folders(top))
    ends = {name: [folds.scores_of(folds.folder_of(place, *unit)) for unit in units] for name, place in tops.items()}
    return "\n\n".join(
        _part(part, {name: [scores[part] for scores in runs] for name, runs in ends.items()})
        for part in ends["ensemble"][0]
        if part not in (TRAIN, VALID) and "@" not in part
    )


def _part(part: str, scores: Mapping[str, Sequence[Mapping[str, float | None]]]) -> str:
    """Return the table of one part, without scores that the ensemble has in no run (there is no label)."""
    mixed = scores["ensemble"]
    columns = [column for column in mixed[0] if any(one.get(column) is not None for one in mixed)]
    rows = [
        [name, *(number(np.array([one.get(column) for one in runs], dtype=float).mean()) for column in columns)]
        for name, runs in scores.items()
    ]
    return grid([f"mean {part} scores of {len(mixed)} runs", *columns], rows)


def _free(members: Members, options: Options) -> None:
    """With --overwrite, delete the members' runs of another recipe; those of the same one are kept."""
    for name, chosen in members.items():
        if isinstance(chosen, Path) or not options.overwrite:
            continue
        whole = tasks.make(chosen)
        top = run_dir.experiment_folder(options.runs, name, options.name)
        for seed, fold in _wanted(chosen, options):
            folder, recipe = folds.folder_of(top, seed, fold), whole.for_fold(seed, fold).recipe
            try:
                run_dir.claim(folder, recipe, experiment=name, overwrite=False)
            except AffectError:
                run_dir.claim(folder, recipe, experiment=name, overwrite=True)


def _wanted(recipe: Recipe, options: Options) -> list[folds.Unit]:
    return folds.units(recipe, tasks.make(recipe).folds(), options)


def _finished(top: Path) -> list[folds.Unit]:
    return [unit for unit, folder in _folders(top).items() if run_dir.finished(folder)]


def _folders(top: Path) -> dict[folds.Unit, Path]:
    """Return the run folders below an experiment's by seed and fold."""
    return dict(sorted((folds.unit_of(path), path) for path in top.glob("seed[0-9]*/fold[0-9]*") if path.is_dir()))


def _units(members: Members, options: Options) -> list[folds.Unit]:
    """Return the seeds and folds of the members that are experiments (or of all); AffectError where one lacks some."""
    has = {
        member: _finished(chosen) if isinstance(chosen, Path) else _wanted(chosen, options)
        for member, chosen in members.items()
    }
    asking = [member for member, chosen in members.items() if isinstance(chosen, Recipe)]
    wanted = sorted({unit for member in asking or has for unit in has[member]})
    if not asking and options.seeds is not None:
        wanted = [(seed, fold) for seed in options.seeds for fold in dict.fromkeys(f for _, f in wanted)]
    if not wanted:
        raise AffectError(f"{next(iter(members))} holds no finished runs")
    for seed, fold in wanted:
        lacking = [member for member, units in has.items() if (seed, fold) not in units]
        if lacking:
            raise AffectError(f"{lacking[0]} has no finished seed{seed}/fold{fold}, which the ensemble needs")
    return wanted


def _claim(top: Path, tops: Mapping[str, Path], options: Options) -> None:
    """Make `top` the ensemble's own. Raises AffectError where it holds runs, or an ensemble of other members."""
    wanted = {member: str(place) for member, place in tops.items()}
    for folder in _folders(top).values():
        held = recipes.read(folder / "recipe.json") if (folder / "recipe.json").exists() else {}
        if "members" not in held:
            raise AffectError(f"{top} holds runs of an experiment: give --name")
        if held["members"] != wanted and not options.overwrite:
            raise AffectError(
                f"{top} holds an ensemble of {', '.join(held['members'])}: give --name, or --overwrite to replace it"
            )
    # It is made of its members alone, in no time: made anew, it is never a mixture of two.
    for folder in _folders(top).values():
        shutil.rmtree(folder)


def _unit(name: str, tops: Mapping[str, Path], top: Path, unit: folds.Unit, command: str) -> None:
    """Write the ensemble's folder of one seed and fold."""
    places = {member: folds.folder_of(place, *unit) for member, place in tops.items()}
    for place in places.values():
        recipes.check_own(place)
    documents = {member: recipes.read(place / "recipe.json") for member, place in places.items()}
    folder, first = folds.folder_of(top, *unit), next(iter(places.values()))
    task: Task = tasks.make(tasks.read_recipe(next(iter(documents.values()))))
    # All of it before anything is written: members that do not fit leave no folder behind.
    names = dict.fromkeys(name for place in places.values() for name in run_dir.predicted(place))
    rows = {
        name: combine({member: _rows(place, name) for member, place in places.items()}, task.average) for name in names
    }
    scores = {name: measured(task.measures, part) for name, part in rows.items()}
    run_dir.write_rows(folder, rows)
    for path in first.glob("baseline-*.jsonl"):
        shutil.copy(path, folder / path.name)
    environment = recipes.read(first / "environment.json", "environment")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run_dir.write_json(folder / "environment.json", {**environment, "command": command, "started": started})
    shared = _shared(list(documents.values()))
    made_of = {"experiment": name, "members": {member: str(place) for member, place in tops.items()}}
    run_dir.write_json(folder / "recipe.json", {**shared, **made_of})
    run_dir.write_lines(folder / "metrics.jsonl", [{"event": "end", "step": 0, "scores": scores}])


def _rows(folder: Path, name: str) -> list[Row]:
    rows = run_dir.read_rows(folder, name)
    if not rows:
        raise AffectError(f"{folder} has no predictions of {name}, of which an ensemble is made: run it again")
    # A label that is missing is written as null, and is NaN to the metrics.
    return [{**row, "target": {t: math.nan if v is None else v for t, v in row["target"].items()}} for row in rows]


def _shared(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what all recipes have in common, section by section."""
    first, *others = documents
    kept: dict[str, Any] = {}
    for key, value in first.items():
        theirs: list[Any] = [other.get(key) for other in others]
        if all(isinstance(part, dict) for part in (value, *theirs)):
            kept[key] = _shared([value, *theirs])
        elif all(part == value for part in theirs):
            kept[key] = value
    return kept
