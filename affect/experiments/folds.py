"""All seeds and folds of a recipe, one after another in these processes, and the report over them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from affect import report, tasks
from affect.errors import AffectError, first_line
from affect.models import saving
from affect.options import Options
from affect.recipe import Recipe
from affect.task import TRAIN, VALID, Task
from affect.training import environment, lock, run_dir, signals, stacked_trainer, trainer, watchdog
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.run import Run, Scores, Start
from affect.training.schedule import Schedule
from affect.training.watch import DivergedError, Watch

_LOG = logging.getLogger("affect")
Unit = tuple[int, int]
"""Seed and fold."""
_BUDGETS = (15.0, 30.0, 60.0, 120.0, 240.0)
"""Budgets shown by a dry run where the recipe leaves it to the memory probe."""


@signals.stoppable
def run(experiment: str, recipe: Recipe, options: Options, command: str) -> Path:
    """Run every seed and fold that is not finished yet and return the experiment's folder, its report written.

    Raises AffectError for what the user can mend; folds finished before that stay.
    """
    engine = join(recipe)
    top = run_dir.experiment_folder(options.runs, experiment, options.name)
    whole = tasks.make(recipe)
    # The main rank first: it fills the caches that the others then read.
    numbers = engine.on_main(whole.folds)
    units = [(seed, number) for seed in recipe.seeds(options.seeds) for number in chosen(numbers, options)]
    diverged: DivergedError | None = None
    if stacked_trainer.can_stack(engine, whole):
        try:
            run_together(experiment, whole, top, units, options, command)
        except DivergedError as error:
            # The others are at their end: their report is worth having.
            diverged = error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise AffectError(f"{top}: out of memory ({first_line(error)}); give --together 1") from error
    else:
        # One fold of several is one of several repositories, too.
        alone = len(units) == 1 and options.report and options.folds is None
        for seed, number in units:
            folder = folder_of(top, seed, number)
            run_one(experiment, whole.for_fold(seed, number), folder, options, command, alone=alone)
    if options.report:
        engine.on_main(lambda: conclude(options.runs, top))
    if diverged is not None:
        raise diverged
    return top


def join(recipe: Recipe) -> Engine:
    """Return the engine of these processes. Raises AffectError when their launch file says something else."""
    engine = Engine(precision=recipe.train.precision)
    engine.agree(recipe)
    return engine


def initial_weights(recipe: Recipe, seed: int, fold: int) -> dict[str, Tensor] | None:
    """Return the weights that a seed and fold of a recipe starts from, None where it starts anew.

    Of an experiment they are those of the same seed and fold, which have not seen its test part, or of its only run.
    Raises AffectError where there are none.
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
            return saving.read_weights(place)
    raise AffectError(f"train.init_from: {source} holds no {saving.WEIGHTS}: name a run's folder, a model's, or one "
                      "on the Hub")  # fmt: skip


def chosen(numbers: Sequence[int], options: Options) -> list[int]:
    """Return the folds to run of those there are. Raises AffectError for one that the recipe has not."""
    for number in options.folds or ():
        if number not in numbers:
            raise AffectError(f"--folds names {number}, but the folds here are {' '.join(map(str, numbers))}")
    return [number for number in numbers if options.folds is None or number in options.folds]


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
    engine = Engine(folder, task.recipe.train.trackers)
    held = contextlib.ExitStack()
    try:
        scores = engine.on_main(lambda: claim(engine, experiment, task, folder, options, command, held))
        if scores is not None:
            return scores
        with contextlib.ExitStack() as stack:
            on_save: list[Callable[[], None] | None] = []
            repo = task.recipe.push_to_hub if only is None else None
            pushed = _pushing(repo, folder, private=task.recipe.hub_private, several=not alone)
            engine.on_main(lambda: on_save.append(stack.enter_context(pushed)))
            with watchdog.Watchdog(engine, folder / "train.log", task.recipe.train.timeout):
                start = Start(
                    experiment=experiment, resume=options.resume, only=only, watch=watch,
                    on_save=on_save[0] if on_save else None, weights=initial_weights(task.recipe, *unit_of(folder)),
                )  # fmt: skip
                scores = trainer.train(Run(engine, task, folder, start))
        if engine.main:
            tell(folder, scores)
        return scores
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(f"{folder}: out of memory ({first_line(error)}); give a smaller --train.budget") from error
    finally:
        engine.end()
        held.close()


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
    said = {"command": command, **environment.describe(engine, task)}
    earlier = folder / "environment.json"
    if earlier.is_file():
        # A run that goes on was started when it was started.
        said["started"] = json.loads(earlier.read_text(encoding="utf-8")).get("started", said["started"])
    run_dir.write_json(earlier, said)
    run_dir.write_lines(folder / "exclusions.jsonl", task.exclusions())
    return None


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
    found: dict[Unit, Scores] = {}
    failed: dict[Unit, str] = {}
    made = {unit: whole.for_fold(*unit) for unit in units}
    # All of them first: a fold that can't be cut or a folder of another run is known before anything is begun.
    for task in made.values():
        task.datasets()
    engine = Engine()
    with contextlib.ExitStack() as held:
        for unit, task in made.items():
            scores = claim(engine, experiment, task, folder_of(top, *unit), options, command, held)
            if scores is not None:
                found[unit] = scores
        left = [unit for unit in units if unit not in found]
        if left and only is None:
            _check_hub(whole.recipe.push_to_hub)
        width = stacked_trainer.width(engine, made[left[0]]) if left else 1
        for first in range(0, len(left), width):
            chosen = left[first : first + width]
            _LOG.info("runs %d to %d of %d", first + 1, first + len(chosen), len(left))
            with contextlib.ExitStack() as stack:
                runs: dict[Unit, Run] = {}
                for unit in chosen:
                    task, folder = made[unit], folder_of(top, *unit)
                    engine = Engine(folder, task.recipe.train.trackers)
                    stack.callback(engine.end)
                    repo = task.recipe.push_to_hub if only is None else None
                    push = stack.enter_context(
                        _pushing(repo, folder, private=task.recipe.hub_private, several=len(units) > 1)
                    )
                    start = Start(
                        experiment=experiment, resume=options.resume, only=only, on_save=push,
                        weights=initial_weights(task.recipe, *unit), stacked=True,
                    )  # fmt: skip
                    runs[unit] = stack.enter_context(Run(engine, task, folder, start))
                log = folder_of(top, *chosen[0]) / "train.log"
                stack.enter_context(watchdog.Watchdog(engine, log, whole.recipe.train.timeout))
                ended = stacked_trainer.train(list(runs.values()), watch)
                for unit, run in runs.items():
                    if run in ended:
                        failed[unit] = ended[run]
                    else:
                        found[unit] = run.finish()
                        tell(run.folder, found[unit], extra={"run": run.folder})
    if failed:
        raise DivergedError(f"{len(failed)} of {len(left)} runs diverged: {next(iter(failed.values()))}")
    return found


def _pushing(
    repo: str | None, folder: Path, *, private: bool, several: bool
) -> contextlib.AbstractContextManager[Callable[[], None] | None]:
    """Push a run's folder beside its training where it has a repository; the Hub's client is loaded only then."""
    if repo is None:
        return contextlib.nullcontext(None)
    from affect.hub.background import pushing

    return pushing(repo, folder, private=private, several=several)


def _check_hub(repo: str | None) -> None:
    """Raise AffectError where a run could not be pushed to its repository."""
    if repo is not None:
        from affect.hub import client

        client.check(repo)


def tell(folder: Path, scores: Scores, extra: dict[str, Path] | None = None) -> None:
    """Log a run's scores on the parts that it had not seen, as they are: tests, or validation where no other is."""
    for part, found in scores.items():
        if (part not in (TRAIN, VALID) and "@" not in part) or len(scores) == 1:
            words = " ".join(f"{name} {value:.3f}" for name, value in found.items())
            _LOG.info("%s: %s %s", folder, part, words, extra=extra)


def scores_of(folder: Path) -> Scores:
    """Return the scores that a finished run wrote at its end."""
    ends = [line for line in run_dir.read_lines(folder / "metrics.jsonl") if line.get("event") == "end"]
    scores: Scores = ends[-1]["scores"]
    return scores


def conclude(runs: Path, top: Path) -> None:
    """Write the report of the experiment in `top` and let runs/latest point at it."""
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
