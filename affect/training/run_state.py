"""Where a run stands: what its next step, its schedule and early stopping need to know, and the file that holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from affect import config
from affect.errors import AffectError
from affect.recipe import Recipe
from affect.task import Measure, Row, perfect

FILE = "state.json"
_HALF = 0.5


@dataclass(kw_only=True)
class State:
    """Where a run stands: the step to do next and what the schedule and early stopping remember."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    """Of the weights that are kept: 0 where none are yet."""
    best_epoch: int = 0
    worse: int = 0
    """Evaluations since the score rose over `mark`, from which early stopping counts."""
    mark: float | None = None
    flat: int = 0
    """Evaluations since the score rose over `flat_mark`, from which the plateau schedule counts."""
    flat_mark: float | None = None
    reduction: float = 1.0
    """What the plateau schedule has left of the rates."""
    budget: float = 0.0
    """The budget in force: the plan is a function of it."""
    mode: str = ""
    """What is kept between a step's two forwards: hold, replay, mixed; or one pass."""
    capacity: float = 0.0
    """Of a mixed step: what the micro-batches whose graphs a rank keeps may cost together."""
    costs: tuple[float, float, float] | None = None
    """The costs in force for the whole run (start, second, square): the plan is a function of them, too."""
    stopped: bool = False
    """Early stopping has ended the training."""
    weighting: dict[str, Any] | None = None
    """What the weights of terms depend on, where they follow the terms' values."""
    norms: tuple[float, ...] = ()
    """The gradient's norm in recent steps, where clipping follows them."""
    candidates: tuple[tuple[float, int], ...] = ()
    """Score and step of the best weights so far, of which the mean is taken at the end."""
    averaged: int | None = None
    """Steps in the average of the weights."""
    written_by: dict[str, Any] | None = None
    """The engine and the world that wrote the file."""


def read(folder: Path) -> State:
    """Return the state in a folder. Raises OSError without the file, ValueError where it holds something else."""
    data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.keys() != {item.name for item in fields(State)}:
        raise ValueError(f"{FILE} does not hold where a run stands")
    try:
        state = config.from_dict(State, data)
    except AffectError as error:
        raise ValueError(f"{error} in {FILE}") from None
    if state.step < 0:
        raise ValueError(f"step is {state.step} in {FILE}")
    return state


def judge(state: State, score: float, sign: int, epoch: int, recipe: Recipe) -> tuple[bool, list[str]]:
    """Take a validation score into `state`; return whether the weights are the best so far, and what to tell.

    `sign` is 1 where higher scores are better, else -1. A score that is not defined (NaN) is never better, nor a
    reason to stop before one was. The weights kept, early stopping (`train.min_delta`) and the plateau schedule
    (`optim.plateau_delta`) each have a bar of their own: a score that is barely better is kept, but puts off
    no end.
    """
    train, optim = recipe.train, recipe.optim
    last = train.choose == "last"

    def beats(bar: float | None, margin: float = 0.0) -> bool:
        return math.isfinite(score) and (bar is None or sign * (score - bar) > margin)

    better = last or beats(state.best)
    if better:
        # The last weights are kept without a score, too.
        state.best, state.best_step, state.best_epoch = (score if math.isfinite(score) else None), state.step, epoch
    if last or beats(state.mark, train.min_delta):
        state.mark, state.worse = (score if math.isfinite(score) else state.mark), 0
    elif math.isfinite(score) or state.mark is not None:
        # What was never defined yet is not worse than anything.
        state.worse += 1
    if beats(state.flat_mark, optim.plateau_delta * abs(state.flat_mark or 0.0)):
        state.flat_mark, state.flat = score, 0
    else:
        state.flat += 1
    told = []
    if optim.schedule == "plateau" and state.flat >= optim.plateau_patience:
        # Counted anew from here, as torch's ReduceLROnPlateau does.
        state.flat = 0
        reduced = max(state.reduction * _HALF, min(1.0, optim.floor / optim.lr))
        if reduced < state.reduction:
            told.append(f"no better score for {optim.plateau_patience} evaluations: rates halved")
        state.reduction = reduced
    if train.patience is not None and state.worse * train.evaluate_every >= train.patience:
        told.append(f"stopping early: no better validation score for {train.patience} epochs")
        state.stopped = True
    return better, told


def of_labels(measure: Measure, rows: Sequence[Row]) -> float:
    """Return the score of predictions that are right wherever there is a label: NaN where labels define none."""
    try:
        return measure.score(perfect(rows))
    except (AffectError, ValueError, TypeError, KeyError):
        # A task whose rows say it otherwise.
        return 0.0


def undefined(measure: Measure, evaluated: Sequence[Sequence[Row]]) -> str:
    """Say that a measure was defined on no evaluation, and which part of it the labels of these rows don't define."""
    parts = [each.shown for each in measure.parts if not all(math.isfinite(of_labels(each, r)) for r in evaluated)]
    of_them = f", for want of {' and '.join(parts)}," if parts else ""
    return (
        f"{measure.shown}{of_them} was defined on no evaluation (fewer than two labels, or all the same), so that no "
        "weights were chosen: --train.choose last keeps the last ones"
    )
