"""What a validation score means for a run: whether its weights are kept, its rates halved, its training stopped."""

from __future__ import annotations

import math

from affect.recipe import Recipe
from affect.training.run_state import State

_HALF = 0.5


def judge(state: State, score: float, sign: int, epoch: int, recipe: Recipe) -> tuple[bool, list[str]]:
    """Take a validation score into `state`; return whether the weights are the best so far, and what to tell.

    `sign` is 1 where higher scores are better, else -1. A score that is not defined (NaN) is never better. The weights
    kept, early stopping (`train.min_delta`) and the plateau schedule (`optim.plateau_delta`) each have a bar of their
    own: a score that is barely better is kept, but does not put off the end.
    """
    train, optim = recipe.train, recipe.optim
    last = train.choose == "last"

    def beats(bar: float | None, margin: float = 0.0) -> bool:
        return math.isfinite(score) and (bar is None or sign * (score - bar) > margin)

    better = last or beats(state.best)
    if better:
        # Of the last weights a score is kept where there is one.
        state.best, state.best_step, state.best_epoch = (score if math.isfinite(score) else 0.0), state.step, epoch
    if last or beats(state.mark, train.min_delta):
        state.mark, state.worse = (score if math.isfinite(score) else state.mark), 0
    else:
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
