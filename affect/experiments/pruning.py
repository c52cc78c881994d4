"""Ending a trial of a search early: its validation score is under the median of the trials before it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from affect.experiments.optuna_study import Study
from affect.task import Task
from affect.training import run_dir
from affect.training.run import Run

_LOG = logging.getLogger("affect")


class PrunedError(Exception):
    """A trial whose validation score is under the median of those before it; raised on every rank."""


def prune(number: int, epoch: int) -> NoReturn:
    """End a trial after this epoch (from 0), and say so. Raises PrunedError."""
    _LOG.info("trial %d: pruned after epoch %d, under the median of those before it", number, epoch + 1)
    raise PrunedError


class Together:
    """Watches runs of a trial that train as one stack, by the mean of the best score of each up to an epoch.

    Runs of the trial that ended before them count with their final scores: the mean is over more runs, stack by stack.
    """

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
        scores = [_reached(course, epoch, self.latest, self.sign) for course in self.courses.values()]
        known = [score for score in scores if score is not None]
        if len(known) < len(scores):
            return
        counted = (len(self.earlier), len(self.earlier) + len(known))
        if self.study.report(self.number, epoch, float(np.mean([*self.earlier, *known])), runs=counted):
            prune(self.number, epoch)


def _evaluated(folder: Path) -> dict[int, float]:
    """Return the scores by epoch that an earlier session wrote to a run's folder and chose by."""
    lines = [line for line in run_dir.read_lines(folder / "metrics.jsonl") if line.get("event") == "selection"]
    return {line["epoch"]: line["score"] for line in lines if line["score"] is not None}


def _reached(course: dict[int, float], epoch: int, latest: bool, sign: int) -> float | None:
    """Return the best score up to an epoch (the latest, where the last weights are kept); None before the first."""
    known = {mine: score for mine, score in course.items() if mine <= epoch}
    if not known:
        return None
    return known[max(known)] if latest else max(known.values(), key=lambda score: sign * score)
