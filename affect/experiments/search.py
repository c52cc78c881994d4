"""A search: trials of an experiment over ranges of its fields, each judged by validation scores alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError, first_line
from affect.experiments import folds
from affect.experiments.definitions import Choice, Search, changed, resolve
from affect.experiments.optuna_study import Study, Trial
from affect.experiments.pruning import PrunedError, Together, prune
from affect.experiments.search_report import write
from affect.options import Options
from affect.recipe import Recipe
from affect.task import Task
from affect.training import run_dir, signals, stacked_trainer
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.run import selected
from affect.training.watch import DivergedError, Watch

_LOG = logging.getLogger("affect")
_HOPELESS = 3
"""Trials that fail before any succeeds, after which it is not their values that are wrong."""
_SEARCH = "search.json"


@signals.stoppable
def run(name: str, search: Search, recipe: Recipe, options: Options, command: str, *, again: Sequence[str]) -> Path:
    """Run the trials that are not finished yet and return the search's folder, its report written.

    `again` is the command of the experiment alone, to which the best values are added. A trial that diverges or runs
    out of memory is recorded as failed. Raises AffectError for what the user can mend; finished trials stay.
    """
    engine = folds.join(recipe)
    ranges = resolve(search, recipe)
    top = run_dir.experiment_folder(options.runs, name, options.name)
    if options.resume not in ("auto", "never"):
        raise AffectError("--resume PATH is of one run: a search takes auto or never")
    engine.on_main(lambda: _claim(top, search, recipe, options))
    opened: list[Study] = []
    # The main rank alone talks to the study.
    engine.on_main(lambda: opened.append(Study(top, search, ranges, tasks.make(recipe).measures[0].sign)))
    try:
        _trials(engine, opened, search, recipe, replace(options, overwrite=False), command, top)
        engine.on_main(lambda: _conclude(opened[0], search, recipe, options, top, again))
    finally:
        for study in opened:
            study.close()
    return top


def dry_run(search: Search, recipe: Recipe) -> str:
    """Return the search's ranges and the dry run of its experiment, as text; nothing is trained."""
    lines = [f"{search.trials} trials of {search.of}, {'' if search.prune else 'not '}pruned, seed {search.seed}:"]
    for found in resolve(search, recipe):
        if found.choices:
            lines.append(f"  {found.name}: {' or '.join(map(str, found.choices))}")
        else:
            how = f"{'whole numbers' if found.kind is int else 'numbers'}{', drawn by their logarithm' * found.log}"
            lines.append(f"  {found.name}: {found.low:g} to {found.high:g} ({how})")
    return "\n".join([*lines, "", folds.dry_run(recipe)])


def _claim(top: Path, search: Search, recipe: Recipe, options: Options) -> None:
    """Make `top` this search's own. Raises AffectError naming the fields where it holds another search."""
    wanted = {
        "of": search.of, "ranges": list(search.ranges), "seed": search.seed, "prune": search.prune,
        "seeds": list(recipe.seeds(options.seeds)), "recipe": recipe.to_dict(),
        **({"folds": list(options.folds)} if options.folds else {}),
    }  # fmt: skip
    path = top / _SEARCH
    if options.overwrite and top.exists():
        if not path.exists():
            raise AffectError(f"{top} is not a search's folder: --overwrite does not delete it")
        shutil.rmtree(top)
    if path.exists():
        free = {f"recipe.{name}" for name in recipes.FREE}
        other = [name for name in recipes.differences(recipes.read(path), wanted) if name not in free]
        if other:
            raise AffectError(
                f"{top} holds a search that differs in {', '.join(other)}: give --name, or --overwrite to replace it"
            )
    elif top.exists() and any(top.glob("seed*")):
        raise AffectError(f"{top} holds runs of an experiment: give --name")
    run_dir.write_json(path, wanted)


def _trials(
    engine: Engine, opened: list[Study], search: Search, recipe: Recipe, options: Options, command: str, top: Path
) -> None:
    """Run trials until there are as many as asked for. Reached by every rank; `opened` has the main one's study."""
    while True:
        trial: Trial | None = engine.on_main(lambda: opened[0].next())
        if trial is None:
            return
        _LOG.info("trial %d of %d: %s", trial.number, search.trials, said(trial.values))
        folder = top / f"trial{trial.number}"
        score, note, pruned = None, "", False
        try:
            score = _score(engine, opened, trial, search, recipe, options, command, folder)
        except PrunedError:
            pruned = True
        except AffectError as error:
            if not _of_the_trial(engine, error):
                raise
            note = first_line(error)
        number, outcome = trial.number, (score, note, pruned)
        engine.on_main(lambda n=number, o=outcome, f=folder: _record(opened[0], n, o, f, top))  # type: ignore[misc]


def _of_the_trial(engine: Engine, error: AffectError) -> bool:
    """Tell whether an error is the trial's own, and the next may do better: divergence, memory, a model's fault.

    A disk that is full is not. Of several ranks one may have failed alone, and the others wait for it: there only
    divergence, which all see at the same step, is survived.
    """
    if isinstance(error, DivergedError):
        return True
    cause = error.__cause__
    return engine.world == 1 and not (isinstance(cause, Exception) and run_dir.failed_writing(cause))


def _score(
    engine: Engine, opened: list[Study], trial: Trial, search: Search, recipe: Recipe, options: Options, command: str,
    folder: Path,
) -> float:  # fmt: skip
    """Return the mean validation score of a trial over its seeds and folds; its test parts are never looked at."""
    whole = tasks.make(changed(recipe, trial.values))
    numbers = folds.chosen(engine.on_main(whole.folds), options)
    units = [(seed, n) for seed in recipe.seeds(options.seeds) for n in numbers]
    if stacked_trainer.can_stack(engine, whole):
        return _score_together(engine, opened[0], trial.number, search.of, whole, units, options, command, folder)
    scores = []
    for place, (seed, number) in enumerate(units):
        # Scores of different folds can't be compared: the median is that of the first one.
        watch = _watch(engine, opened, trial.number) if place == 0 else None
        mine = folds.folder_of(folder, seed, number)
        task = whole.for_fold(seed, number)
        ends = folds.run_one(search.of, task, mine, options, command, only=_choosing(task), watch=watch)
        scores.append(selected(task, ends))
    return _mean(scores)


def _mean(scores: Sequence[float]) -> float:
    """Return the mean score of a trial. Raises AffectError where one is not defined."""
    if not np.isfinite(scores).all():
        raise AffectError("a validation score is not defined")
    return float(np.mean(scores))


def _choosing(task: Task) -> list[str]:
    """Return the names of the evaluations that a task chooses by."""
    return [evaluation.name for evaluation in task.evaluations() if evaluation.selects]


def _watch(engine: Engine, opened: list[Study], number: int) -> Watch:
    def watch(epoch: int, score: float) -> None:
        if engine.on_main(lambda: opened[0].report(number, epoch, score)):
            prune(number, epoch)

    return watch


def _score_together(
    engine: Engine, study: Study, number: int, experiment: str, whole: Task, units: Sequence[folds.Unit],
    options: Options, command: str, folder: Path,
) -> float:  # fmt: skip
    """Return what `_score` does where as many runs as a stack takes train at once; only one process does."""
    first = whole.for_fold(*units[0])
    width = stacked_trainer.width(engine, first)
    scores: list[float] = []
    try:
        for start in range(0, len(units), width):
            chosen = units[start : start + width]
            places = [folds.folder_of(folder, *unit) for unit in chosen]
            watch = Together(study, number, places, scores, whole)
            ends = folds.run_together(
                experiment, whole, folder, chosen, options, command, only=_choosing(first), watch=watch
            )  # fmt: skip
            scores += [selected(whole.for_fold(*unit), ends[unit]) for unit in chosen]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(f"{folder}: out of memory ({first_line(error)}); give --together 1") from error
    return _mean(scores)


def _record(study: Study, number: int, outcome: tuple[float | None, str, bool], folder: Path, top: Path) -> None:
    """Record what came of a trial, and keep the weights of the best one alone."""
    score, note, pruned = outcome
    study.finish(number, score, note=note, pruned=pruned)
    if score is not None:
        _LOG.info("trial %d: validation %.4f", number, score)
    elif not pruned:
        _LOG.warning("trial %d failed: %s", number, note)
    trials = study.trials()
    best = trials[0].number if trials[0].state == "finished" else None
    for path in top.glob("trial*/seed*/fold*/checkpoints"):
        if path.parents[2].name != f"trial{best}":
            shutil.rmtree(path)
    failed = [trial for trial in trials if trial.state == "failed"]
    if len(failed) == len(trials) >= _HOPELESS:
        raise AffectError(f"the first {len(failed)} trials failed; the last: {note or failed[-1].note}")


def _conclude(study: Study, search: Search, recipe: Recipe, options: Options, top: Path, again: Sequence[str]) -> None:
    trials = study.trials()
    best = trials[0]
    found: dict[str, Any] | None = None
    if best.state == "finished":
        words = [*again, *(word for name, value in best.values.items() for word in _words(name, value))]
        found = {
            "trial": best.number, "score": best.score, "values": best.values, "folder": f"trial{best.number}",
            "command": [*words, "--runs", str(options.runs), "--name", "best"],
            "recipe": changed(recipe, best.values).to_dict(),
        }  # fmt: skip
        run_dir.write_json(top / "best.json", found)
    write(top, search, study.ranges, trials, study.importance(), found, study.sign)
    if options.report:
        run_dir.point_latest(options.runs, top)


def _words(name: str, value: Choice) -> list[str]:
    """Return a field's value as a command line gives it."""
    if isinstance(value, bool):
        head, _, last = name.rpartition(".")
        return [f"--{head}{'.' if head else ''}{'' if value else 'no-'}{last}"]
    return [f"--{name}", str(value)]


def said(values: dict[str, Any]) -> str:
    """Return a trial's values in words."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
