"""A search: trials of an experiment over ranges of its fields, each judged by validation scores alone."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from affect import recipe as recipes
from affect import tasks
from affect.errors import AffectError, first_line
from affect.experiments import folds
from affect.experiments.definitions import Choice, Range, Search, changed, resolve
from affect.experiments.optuna_study import Study, Trial, in_use
from affect.experiments.search_report import write
from affect.options import Options
from affect.recipe import Recipe
from affect.task import Task
from affect.training import run_dir, signals, stacked_trainer
from affect.training.distributed import Engine
from affect.training.run import DivergedError, Run, selected

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
    trials = _Trials(engine, search, recipe, replace(options, overwrite=False), command, top)
    with contextlib.ExitStack() as stack:
        engine.on_main(lambda: trials.open(ranges, stack))
        trials.run()
        engine.on_main(lambda: trials.conclude(again))
    return top


def dry_run(search: Search, recipe: Recipe) -> str:
    """Return the search's ranges and the dry run of its experiment, as text; nothing is trained."""
    lines = [f"{search.trials} trials of {search.of}, {'' if search.prune else 'not '}pruned, seed {search.seed}:"]
    for field in resolve(search, recipe):
        if field.choices:
            lines.append(f"  {field.name}: {' or '.join(map(str, field.choices))}")
        else:
            how = f"{'whole numbers' if field.kind is int else 'numbers'}{', drawn by their logarithm' * field.log}"
            lines.append(f"  {field.name}: {field.low:g} to {field.high:g} ({how})")
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
        if in_use(top):
            raise AffectError(f"another process searches in {top}: end it first, or give --name")
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


class _Trials:
    """The trials of a search, and what they have in common."""

    study: Study
    """On the main rank, which alone talks to it."""

    def __init__(self, engine: Engine, search: Search, recipe: Recipe, options: Options, command: str, top: Path):
        self.engine, self.search, self.recipe, self.options = engine, search, recipe, options
        self.command, self.top = command, top

    def open(self, ranges: Sequence[Range], stack: contextlib.ExitStack) -> None:
        self.study = Study(self.top, self.search, ranges, tasks.make(self.recipe).measures[0].sign)
        stack.callback(self.study.close)

    def run(self) -> None:
        """Run trials until there are as many as asked for. Reached by every rank."""
        while (trial := self.engine.on_main(lambda: self.study.next())) is not None:
            values = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in trial.values.items())
            _LOG.info("trial %d of %d: %s", trial.number, self.search.trials, values)
            score, note, pruned = None, "", False
            try:
                score = self._score(trial)
            except PrunedError:
                pruned = True
            except AffectError as error:
                if not self._of_the_trial(error):
                    raise
                note = first_line(error)
            self.engine.on_main(partial(self._record, trial.number, score, note, pruned))

    def _of_the_trial(self, error: AffectError) -> bool:
        """Tell whether an error is the trial's own, and the next may do better: divergence, memory, a model's fault.

        A disk that is full is not. Of several ranks one may have failed alone, and the others wait for it: there only
        divergence, which all see at the same step, is survived.
        """
        cause = error.__cause__
        of_the_disk = isinstance(cause, Exception) and run_dir.failed_writing(cause)
        return isinstance(error, DivergedError) or (self.engine.world == 1 and not of_the_disk)

    def _score(self, trial: Trial) -> float:
        """Return the mean validation score of a trial over its seeds and folds; its test parts are never looked at."""
        whole = tasks.make(changed(self.recipe, trial.values))
        units = folds.units(self.recipe, self.engine.on_main(whole.folds), self.options)
        folder = self.top / f"trial{trial.number}"
        together = stacked_trainer.can_stack(self.engine, whole)
        scores = (self._together if together else self._one_by_one)(trial.number, whole, units, folder)
        if not np.isfinite(scores).all():
            raise AffectError("a validation score is not defined")
        return float(np.mean(scores))

    def _one_by_one(self, number: int, whole: Task, units: Sequence[folds.Unit], folder: Path) -> list[float]:
        def watch(epoch: int, score: float) -> None:
            if self.engine.on_main(lambda: self.study.report(number, epoch, score)):
                prune(number, epoch)

        scores: list[float] = []
        for unit in units:
            task = whole.for_fold(*unit)
            ends = folds.run_one(
                self.search.of, task, folds.folder_of(folder, *unit), self.options, self.command, only=_choosing(task),
                # Scores of different folds can't be compared: the median is that of the first one.
                watch=None if scores else watch,
            )  # fmt: skip
            scores.append(selected(task, ends))
        return scores

    def _together(self, number: int, whole: Task, units: Sequence[folds.Unit], folder: Path) -> list[float]:
        """As many runs as a stack takes train at once; only one process does that."""
        first = whole.for_fold(*units[0])
        width = stacked_trainer.width(self.engine, first)
        scores: list[float] = []
        for start in range(0, len(units), width):
            chosen = units[start : start + width]
            watch = Together(self.study, number, [folds.folder_of(folder, *unit) for unit in chosen], scores, whole)
            ends = folds.run_together(
                self.search.of, whole, folder, chosen, self.options, self.command, only=_choosing(first), watch=watch
            )
            scores += [selected(whole.for_fold(*unit), ends[unit]) for unit in chosen]
        return scores

    def _record(self, number: int, score: float | None, note: str, pruned: bool) -> None:
        """Record what came of a trial, and keep of the trials that ended the weights of the best one alone."""
        if score is not None:
            _LOG.info("trial %d: validation %.4f", number, score)
        elif not pruned:
            _LOG.warning("trial %d failed: %s", number, note)
        with self.study.held():
            self.study.finish(number, score, note=note, pruned=pruned)
            ended = [trial for trial in self.study.trials() if trial.state not in ("running", "interrupted")]
            best = ended[0].number if ended[0].state == "finished" else None
            for trial in (one for one in ended if one.number != best):
                for path in self.top.glob(f"trial{trial.number}/seed*/fold*/checkpoints"):
                    shutil.rmtree(path)
        failed = [trial for trial in ended if trial.state == "failed"]
        if len(failed) == len(ended) >= _HOPELESS:
            raise AffectError(f"the first {len(failed)} trials failed; the last: {note or failed[-1].note}")

    def conclude(self, again: Sequence[str]) -> None:
        """Write best.json and the report of what is known by now; of several processes the last one's is whole."""
        with self.study.held():
            self._conclude(again)

    def _conclude(self, again: Sequence[str]) -> None:
        trials = self.study.trials()
        best = trials[0]
        summary: dict[str, Any] | None = None
        if best.state == "finished":
            words = [*again, *(word for name, value in best.values.items() for word in _words(name, value))]
            summary = {
                "trial": best.number, "score": best.score, "values": best.values, "folder": f"trial{best.number}",
                "command": [*words, "--runs", str(self.options.runs), "--name", "best"],
                "recipe": changed(self.recipe, best.values).to_dict(),
            }  # fmt: skip
            run_dir.write_json(self.top / "best.json", summary)
        write(self.top, self.search, self.study.ranges, trials, self.study.importance(), summary, self.study.sign)
        if self.options.report:
            run_dir.point_latest(self.options.runs, self.top)


def _choosing(task: Task) -> list[str]:
    """Return the names of the evaluations that a task chooses by."""
    return [evaluation.name for evaluation in task.evaluations() if evaluation.selects]


def _words(name: str, value: Choice) -> list[str]:
    """Return a field's value as a command line gives it."""
    if isinstance(value, bool):
        head, dot, last = name.rpartition(".")
        return [f"--{head}{dot}{'' if value else 'no-'}{last}"]
    return [f"--{name}", str(value)]


class PrunedError(Exception):
    """A trial whose validation score is under the median of those before it; raised on every rank."""


def prune(number: int, epoch: int) -> NoReturn:
    """End a trial after this epoch (from 0), and say so. Raises PrunedError."""
    _LOG.info("trial %d: pruned after epoch %d, under the median of those before it", number, epoch + 1)
    raise PrunedError


class Together:
    """Watches runs of a trial that train as one stack, by the mean of each one's best score (and of those before)."""

    def __init__(self, study: Study, number: int, places: Sequence[Path], earlier: Sequence[float], task: Task):
        """Watch the runs in the folders `places`; `earlier` are the scores of those that ended before them."""
        self.study, self.number, self.earlier = study, number, list(earlier)
        self.latest = task.recipe.train.choose == "last"
        self.sign = task.measures[0].sign
        # A run that an earlier session brought to the end of its training is not seen again.
        self.courses = {place: _evaluated(place) for place in places}
        self.stands: dict[Path, float] = {}
        """The last epoch of the runs that were seen; of those that are over infinity."""

    def __call__(self, runs: Sequence[Run]) -> None:
        """Report an epoch that all runs have come to. Raises PrunedError."""
        epoch = -1
        for run in runs:
            epoch = run.schedule.epoch(run.state.step - 1)
            self.stands[run.folder] = math.inf if run.done else epoch
            if run.state.best is not None:
                self.courses[run.folder][epoch] = run.state.best
        # Folds of other sizes have other epochs. One that was not seen is no further back: the hindmost train first.
        if min(self.stands.values()) < epoch:
            return
        scores = [self._reached(course, epoch) for course in self.courses.values()]
        reached = [score for score in scores if score is not None]
        if len(reached) < len(scores):
            return
        counted = (len(self.earlier), len(self.earlier) + len(reached))
        if self.study.report(self.number, epoch, float(np.mean([*self.earlier, *reached])), runs=counted):
            prune(self.number, epoch)

    def _reached(self, course: dict[int, float], epoch: int) -> float | None:
        """Return the best score up to an epoch (the latest, where the last weights are kept); None before the first."""
        past = {at: score for at, score in course.items() if at <= epoch}
        if not past:
            return None
        return past[max(past)] if self.latest else max(past.values(), key=lambda score: self.sign * score)


def _evaluated(folder: Path) -> dict[int, float]:
    """Return the scores by epoch that an earlier session wrote to a run's folder and chose by."""
    lines = [line for line in run_dir.read_lines(folder / "metrics.jsonl") if line.get("event") == "selection"]
    return {line["epoch"]: line["score"] for line in lines if line["score"] is not None}
