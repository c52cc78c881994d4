"""All seeds and folds of a recipe, one after another in these processes, and the report over them."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError
from affect.experiments import source
from affect.models import saving
from affect.options import Options
from affect.recipe import Recipe
from affect.tables import counted, plural
from affect.task import TRAIN, VALID, Task
from affect.training import (
    cost_probe,
    distributed,
    hardware,
    lock,
    memory,
    run_dir,
    signals,
    stacked_trainer,
    trainer,
    watchdog,
)
from affect.training.costs import Costs
from affect.training.distributed import Engine
from affect.training.run import DivergedError, Run, Scores, Start, Watch
from affect.training.schedule import Schedule

_LOG = logging.getLogger("affect")
Unit = tuple[int, int]
"""Seed and fold."""
_BUDGETS = (15.0, 30.0, 60.0, 120.0, 240.0)
"""Budgets shown by a dry run where the recipe leaves it to the memory probe."""
_PACKAGES = ("affect", "accelerate", "datasets", "numpy", "torch", "transformers")


@signals.stoppable
def run(experiment: str, recipe: Recipe, options: Options, command: str) -> Path:
    """Run every seed and fold that is not finished and return the experiment's folder, its report written."""
    engine = join(recipe)
    top = run_dir.experiment_folder(options.runs, experiment, options.name)
    whole = tasks.make(recipe)
    # The main rank first: it fills the caches that the others then read.
    wanted = units(recipe, engine.on_main(whole.folds), options)
    diverged: DivergedError | None = None
    if stacked_trainer.can_stack(engine, whole):
        try:
            run_together(experiment, whole, top, wanted, options, command)
        except DivergedError as error:
            # The others are at their end: their report is worth having.
            diverged = error
    else:
        # One fold of several is one of several repositories, too.
        alone = len(wanted) == 1 and options.report and options.folds is None
        for number_of, (seed, number) in enumerate(wanted, start=1):
            if len(wanted) > 1 and engine.main:
                _LOG.info("run %d of %d: seed %d, fold %d", number_of, len(wanted), seed, number)
            folder = folder_of(top, seed, number)
            run_one(experiment, whole.for_fold(seed, number), folder, options, command, alone=alone)
    if options.report:
        engine.on_main(lambda: conclude(options.runs, top))
    if diverged is not None:
        raise diverged
    return top


def join(recipe: Recipe) -> Engine:
    """Return the engine of these processes. Raises AffectError when their launch file says something else."""
    engine = distributed.join(precision=recipe.train.precision)
    distributed.agree(engine.accelerator, recipe)
    return engine


def initial_weights(recipe: Recipe, seed: int, fold: int) -> dict[str, Tensor] | None:
    """Return the weights that a seed and fold of a recipe starts from, None where it starts anew.

    Of an experiment they are those of the same seed and fold, which have not seen its test part, or of its only run.
    Raises AffectError where there are none, or they lack some of a pretrained part that their config.json describes.
    """
    source = recipe.train.init_from
    if source is None:
        return None
    experiment = Path(source)
    below = sorted(path.parents[2] for path in experiment.glob("seed*/fold*/checkpoints/best/" + saving.WEIGHTS))
    if below:
        own = folder_of(experiment, seed, fold)
        if own not in below and len(below) > 1:
            raise AffectError(f"train.init_from: {source} has several runs and no seed{seed}/fold{fold}: name one")
        source = str(own if own in below else below[0])
    # Imported where it is used: it loads the Hub's client.
    from affect.hub import load

    folder = load.folder_of(Path(source))
    for place in (folder, folder / "checkpoints" / "best"):
        if (place / saving.WEIGHTS).is_file():
            weights = saving.read_weights(place)
            # Of another task the parts may be others; a task that is not installed here says nothing of its models.
            if (place / saving.CONFIG).is_file() and recipe.task in tasks.names():
                saving.check_pretrained(place, weights, recipe.task, tasks.model_of)
            return weights
    raise AffectError(f"train.init_from: {source} holds no {saving.WEIGHTS}: name a run's folder, a model's, or one "
                      "on the Hub")  # fmt: skip


def chosen(numbers: Sequence[int], options: Options) -> list[int]:
    """Return the folds to run of those there are. Raises AffectError for one that the recipe has not."""
    for number in options.folds or ():
        if number not in numbers:
            raise AffectError(f"--folds names {number}, but the folds here are {' '.join(map(str, numbers))}")
    return [number for number in numbers if options.folds is None or number in options.folds]


def units(recipe: Recipe, numbers: Sequence[int], options: Options) -> list[Unit]:
    """Return the seeds and folds to run, of the folds `numbers` that there are; raises as `chosen` does."""
    return [(seed, number) for seed in recipe.seeds(options.seeds) for number in chosen(numbers, options)]


def folder_of(top: Path, seed: int, fold: int) -> Path:
    """Return the folder of one seed and fold of the experiment in `top`."""
    return top / f"seed{seed}" / f"fold{fold}"


def unit_of(folder: Path) -> Unit:
    """Return the seed and fold of a run's folder."""
    return int(folder.parent.name.removeprefix("seed")), int(folder.name.removeprefix("fold"))


def run_one(
    experiment: str, task: Task, folder: Path, options: Options, command: str,
    *, only: Sequence[str] | None = None, watch: Watch | None = None, alone: bool = False,
) -> Scores:  # fmt: skip
    """Run one seed and fold, unless its folder says that it is finished, and return its scores by evaluation.

    `only` are the evaluations at its end (None: all, and only then it is pushed to the Hub); `watch` sees the score
    that it is chosen by; `alone` says that its experiment has no other. Reached by every rank.
    """
    engine = distributed.join(folder, task.recipe.train.trackers, task.recipe.train.precision)
    short = memory.explained(folder, "give a smaller --train.budget")
    with contextlib.ExitStack() as held, contextlib.ExitStack() as ending, short:
        ending.callback(engine.end)
        scores = engine.on_main(lambda: claim(engine, experiment, task, folder, options, command, held))
        if scores is not None:
            return scores
        with contextlib.ExitStack() as stack:
            start = _start(stack, engine, experiment, task, folder, options, only, several=not alone, watch=watch)
            stack.enter_context(watchdog.Watchdog(engine, folder / "train.log", task.recipe.train.timeout))
            scores = trainer.train(Run(engine, task, folder, start))
        if engine.main:
            tell(folder, scores)
        return scores


def claim(
    engine: Engine, experiment: str, task: Task, folder: Path, options: Options, command: str,
    held: contextlib.ExitStack,
) -> Scores | None:  # fmt: skip
    """Make a folder this run's own and say in it what the run is; return the scores of one that is finished.

    No other session may train it until `held` is closed. Raises AffectError where another does.
    """
    with contextlib.ExitStack() as now:
        now.enter_context(lock.held(folder))
        if run_dir.claim(folder, task.recipe, experiment=experiment, overwrite=options.overwrite):
            _LOG.info("%s is finished: skipped (--overwrite runs it again)", folder)
            return scores_of(folder)
        held.push(now.pop_all())
    surroundings = {"command": command, **_surroundings(engine, task)}
    earlier = folder / "environment.json"
    if earlier.is_file():
        try:
            # A run that goes on was started when it was started.
            surroundings |= {k: v for k, v in recipes.read(earlier, "environment").items() if k == "started"}
        except AffectError as error:
            _LOG.warning("%s: it is written anew, and when the run was first started is lost", error)
    run_dir.write_json(earlier, surroundings)
    run_dir.write_lines(folder / "exclusions.jsonl", task.exclusions())
    return None


def _surroundings(engine: Engine, task: Task) -> dict[str, Any]:
    """Return versions, hardware, processes, and the data's own description."""
    device, card = f"CPU ({hardware.processor()})", {}
    if engine.accelerated:
        module = torch.get_device_module(engine.device)
        device = module.get_device_name(engine.device)
        # Beside it the report sees how nearly full the card was.
        card = {"device_memory_bytes": module.get_device_properties(engine.device).total_memory}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"), "python": python_version(),
        "packages": {name: version(name) for name in _PACKAGES}, **source.commit(), "device": device, **card,
        "threads": torch.get_num_threads(), "engine": engine.name, "world": engine.world,
        "precision": engine.precision, **task.describe(),
    }  # fmt: skip


def run_together(
    experiment: str, whole: Task, top: Path, units: Sequence[Unit], options: Options, command: str,
    *, only: Sequence[str] | None = None, watch: stacked_trainer.Watching | None = None,
) -> dict[Unit, Scores]:  # fmt: skip
    """Run seeds and folds of a small model in this process, unless they are finished, and return their scores.

    As many at a time as a stack takes. Those that diverge leave the others; raises DivergedError at the end, naming the
    first.
    """
    if options.resume not in ("auto", "never"):
        raise AffectError("--resume PATH is of one run alone: give auto or never where several train together")
    finished: dict[Unit, Scores] = {}
    failed: list[str] = []
    made = {unit: whole.for_fold(*unit) for unit in units}
    # All of them first: a fold that can't be cut or a folder of another run is known before anything is begun.
    for task in made.values():
        task.datasets()
    precision = whole.recipe.train.precision
    engine = distributed.join(precision=precision)
    with contextlib.ExitStack() as held, memory.explained(top, "give --together 1"):
        for unit, task in made.items():
            scores = claim(engine, experiment, task, folder_of(top, *unit), options, command, held)
            if scores is not None:
                finished[unit] = scores
        left = [unit for unit in units if unit not in finished]
        if left and only is None and whole.recipe.push_to_hub is not None:
            from affect.hub import client

            client.check(whole.recipe.push_to_hub)
        width = stacked_trainer.width(engine, made[left[0]]) if left else 1
        for first in range(0, len(left), width):
            chosen = left[first : first + width]
            _LOG.info("runs %d to %d of %d: %s", first + 1, first + len(chosen), len(left), _in_words(chosen))
            with contextlib.ExitStack() as stack:
                runs: dict[Unit, Run] = {}
                for unit in chosen:
                    task, folder = made[unit], folder_of(top, *unit)
                    engine = distributed.join(folder, task.recipe.train.trackers, precision)
                    stack.callback(engine.end)
                    several = len(units) > 1
                    start = _start(stack, engine, experiment, task, folder, options, only, several, stacked=True)
                    runs[unit] = stack.enter_context(Run(engine, task, folder, start))
                log = folder_of(top, *chosen[0]) / "train.log"
                stack.enter_context(watchdog.Watchdog(engine, log, whole.recipe.train.timeout))
                ended = stacked_trainer.train(list(runs.values()), watch)
                failed += ended.values()
                for unit, run in runs.items():
                    if run not in ended:
                        finished[unit] = run.finish()
                        tell(run.folder, finished[unit], extra={"run": run.folder})
    if failed:
        raise DivergedError(f"{len(failed)} of {counted(len(left), 'run')} diverged: {failed[0]}")
    return finished


def _in_words(units: Sequence[Unit]) -> str:
    """Return the seeds and folds of a stack: seeds 0 to 2 of folds 1 to 5; seed 3 of fold 1."""
    folds_of: dict[int, list[int]] = {}
    for seed, fold in units:
        folds_of.setdefault(seed, []).append(fold)
    alike = itertools.groupby(folds_of, key=folds_of.__getitem__)
    return "; ".join(f"{_spans('seed', list(seeds))} of {_spans('fold', own)}" for own, seeds in alike)


def _spans(unit: str, numbers: Sequence[int]) -> str:
    """Return numbers with their unit, neighbours from three on as a span: folds 1 to 5, 7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    words = [f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans]
    return f"{unit if len(numbers) == 1 else plural(unit)} {', '.join(words)}"


def _start(
    stack: contextlib.ExitStack, engine: Engine, experiment: str, task: Task, folder: Path, options: Options,
    only: Sequence[str] | None, several: bool, *, watch: Watch | None = None, stacked: bool = False,
) -> Start:  # fmt: skip
    """Return how a run begins; where it has a repository, it is pushed there beside its training in `stack`."""
    on_save: list[Callable[[], None]] = []
    repo = task.recipe.push_to_hub if only is None else None
    if repo is not None:
        # Imported where it is used: it loads the Hub's client.
        from affect.hub.background import pushing

        pushed = pushing(repo, folder, private=task.recipe.hub_private, several=several)
        engine.on_main(lambda: on_save.append(stack.enter_context(pushed)))
    return Start(
        experiment=experiment, resume=options.resume, only=only, watch=watch, stacked=stacked,
        on_save=on_save[0] if on_save else None, weights=initial_weights(task.recipe, *unit_of(folder)),
    )  # fmt: skip


def tell(folder: Path, scores: Scores, extra: dict[str, Path] | None = None) -> None:
    """Log a run's scores on the parts that it had not seen, as they are: tests, or validation where no other is."""
    for part, values in scores.items():
        if (part not in (TRAIN, VALID) and "@" not in part) or len(scores) == 1:
            words = " ".join(f"{name} {value:.3f}" for name, value in values.items())
            _LOG.info("%s: %s %s", folder, part, words, extra=extra)


def scores_of(folder: Path) -> Scores:
    """Return the scores that a finished run wrote at its end."""
    lines = run_dir.read_lines(folder / "metrics.jsonl")
    ends: list[Scores] = [line["scores"] for line in lines if line.get("event") == "end"]
    return ends[-1]


def conclude(runs: Path, top: Path) -> None:
    """Write the report of the experiment in `top` and let runs/latest point at it."""
    # Loaded where it is needed: a rank's start need not wait for it.
    from affect import report

    run_dir.point_latest(runs, top)
    report.write(top)


def dry_run(recipe: Recipe, options: Options | None = None) -> str:
    """Return the resolved recipe and the figures of its first fold's plan, as text; nothing is trained.

    A generated corpus and the cache of functionals are made where they are not there yet.
    """
    world = recipe.train.world or int(os.environ.get("WORLD_SIZE", "1"))
    whole = tasks.make(recipe)
    numbers = chosen(whole.folds(), options or Options())
    parts = whole.for_fold(recipe.seed, numbers[0]).datasets()
    lengths = np.asarray(parts["train"]["length"], dtype=np.float64)
    lines = [
        json.dumps(recipe.to_dict(), indent=2),
        "",
        f"folds {numbers}; fold {numbers[0]}: " + ", ".join(f"{name} {len(part)}" for name, part in parts.items()),
        f"train: mean {lengths.mean():.2f}, longest {lengths.max():.2f}, in all {lengths.sum():.0f} {whole.unit}",
    ]
    costs = _known_costs(whole, recipe)
    if costs is not None:
        costs = costs if isinstance(recipe.train.costs, tuple) else cost_probe.started(costs, lengths)
        lines.append(costs.words(whole.unit))
    budgets = _BUDGETS if recipe.train.budget == "auto" else (float(recipe.train.budget),)
    for budget in budgets:
        plan = Schedule(lengths, recipe.train, recipe.seed, world, budget, costs)
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


def _known_costs(task: Task, recipe: Recipe) -> Costs | None:
    """Return what ranks would be balanced by, where the recipe names it or a run here has measured it."""
    train = recipe.train
    if isinstance(train.costs, tuple):
        return Costs(*train.costs)
    # As the memory probe: where budget and mode are named, nothing is measured.
    measures = train.costs == "auto" and "auto" in (train.budget, train.mode)
    return cost_probe.remembered(task, recipe) if measures else None
