"""All seeds and folds of a recipe, one after another in these processes, and the report over them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np

from affect import report, tasks
from affect.errors import AffectError, first_line
from affect.options import Options
from affect.recipe import Recipe
from affect.task import Task
from affect.train import environment
from affect.train import folder as folders
from affect.train.engine import Engine, is_out_of_memory
from affect.train.loop import Run
from affect.train.schedule import Schedule

_LOG = logging.getLogger("affect")
_BUDGETS = (15.0, 30.0, 60.0, 120.0, 240.0)
"""Budgets shown by a dry run where the recipe leaves it to the memory probe."""


def run(experiment: str, recipe: Recipe, options: Options, command: str) -> Path:
    """Run every seed and fold that is not finished yet and return the experiment's folder, its report written.

    Raises AffectError for what the user can mend; folds finished before that stay.
    """
    engine = Engine()
    if recipe.train.world not in (None, engine.world):
        raise AffectError(f"train.world asks for {recipe.train.world} processes, but {engine.world} joined")
    top = folders.experiment_folder(options.runs, experiment, options.name)
    whole = tasks.make(recipe)
    # The main rank first: it fills the caches that the others then read.
    numbers = engine.on_main(whole.folds)
    for seed in options.seeds or (recipe.seed,):
        for number in numbers:
            _run(experiment, whole.at(seed, number), top / f"seed{seed}" / f"fold{number}", options, command)
    engine.on_main(lambda: _conclude(options.runs, top))
    return top


def _run(experiment: str, task: Task, folder: Path, options: Options, command: str) -> None:
    """Run one seed and fold, unless its folder says that it is finished."""
    engine = Engine(folder, task.recipe.train.trackers)

    def claim() -> bool:
        done = folders.claim(folder, task.recipe, experiment=experiment, overwrite=options.overwrite)
        if not done:
            said = {"command": command, **environment.describe(engine, task)}
            folders.write_json(folder / "environment.json", said)
            folders.write_lines(folder / "exclusions.jsonl", task.exclusions())
        return done

    try:
        if engine.on_main(claim):
            _LOG.info("%s is finished: skipped (--overwrite runs it again)", folder)
            return
        run = Run(engine, task, task.recipe, folder, experiment=experiment, resume=options.resume)
        scores = run.train()["test"]
        if engine.main:
            _LOG.info("%s: test %s", folder, " ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(f"{folder}: out of memory ({first_line(error)}); give a smaller --train.budget") from error
    finally:
        engine.end()


def _conclude(runs: Path, top: Path) -> None:
    folders.point_latest(runs, top)
    report.write(top)


def dry_run(recipe: Recipe) -> str:
    """Return the resolved recipe and the figures of its first fold's plan, as text; nothing is trained.

    A generated corpus and the cache of functionals are made where they are not there yet.
    """
    world = recipe.train.world or int(os.environ.get("WORLD_SIZE", "1"))
    whole = tasks.make(recipe)
    numbers = whole.folds()
    parts = whole.at(recipe.seed, numbers[0]).datasets()
    lengths = np.asarray(parts["train"]["length"], dtype=np.float64)
    lines = [json.dumps(recipe.to_dict(), indent=2), ""]
    lines.append(f"folds {numbers}; fold {numbers[0]}: " + ", ".join(f"{k} {len(part)}" for k, part in parts.items()))
    lines.append(
        f"train: mean {lengths.mean():.2f}, longest {lengths.max():.2f}, in all {lengths.sum():.0f} {whole.unit}"
    )
    budgets = _BUDGETS if recipe.train.budget == "auto" else (float(recipe.train.budget),)
    for budget in budgets:
        plan = Schedule(lengths, recipe.train, recipe.seed, world, budget)
        if budget == budgets[0]:
            lines.append(f"{plan.per_epoch} steps an epoch, {plan.steps} in all, {world} ranks")
        figures = plan.figures(plan.per_epoch)
        lines.append(
            f"budget {budget:6.4g}: {figures['micro_batches']:.1f} micro-batches a rank and step, padding "
            f"{100 * figures['padding']:.1f} %, slowest rank {100 * figures['slowest_rank']:.1f} % above the mean"
        )
    if recipe.train.budget == "auto":
        lines.append("the budget is measured before the first step; it decides speed and memory, not the result")
    return "\n".join(lines)
