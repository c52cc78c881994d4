"""When memory runs out: half the budget, repeated here by all ranks together, or left for the next session."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from affect.errors import AffectError, LostError, first_line
from affect.recipe import Train
from affect.training import run_dir
from affect.training.distributed import Engine, is_out_of_memory
from affect.training.run_state import State
from affect.training.step import OutVotedError

_LOG = logging.getLogger("affect")
LIMIT = "budget.json"
"""In the folder of the checkpoints: the budget that a session which ran out of memory leaves to the next."""


def is_short(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, here or, by a vote, on any rank."""
    return isinstance(error, OutVotedError) or is_out_of_memory(error)


@contextlib.contextmanager
def explained(folder: Path, advice: str) -> Iterator[None]:
    """Raise AffectError, which says where it was and what to give, where memory runs out inside."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise AffectError(f"{folder}: out of memory ({first_line(error)}); {advice}") from error


def halve(engine: Engine, state: State, shortest: float, checkpoints: Path, error: BaseException) -> None:
    """Halve the budget in force, replayed, so that the step can be repeated: same batch, same loss, other cut.

    Raises AffectError where not even single examples fit, and LostError, the halved budget left in `checkpoints`, where
    the other ranks can't repeat the step with this one.
    """
    before, halved = state.budget, state.budget / 2
    if halved < shortest:
        raise AffectError(f"out of memory even for single examples: {first_line(error)}") from error
    mode = "replay" if state.mode == "hold" else state.mode
    if engine.world > 1 and not isinstance(error, OutVotedError):
        # The others may be inside a collective already.
        run_dir.write_json(checkpoints / LIMIT, {"budget": halved, "mode": mode, "failed": before})
        raise LostError(
            f"rank {engine.rank} ran out of memory; give the command again: it goes on from the last checkpoint with a "
            f"budget of {halved:.4g} at most instead of {before:.4g}, and the loss it optimises is the same"
        ) from error
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()
    state.budget, state.mode = halved, mode
    _LOG.warning(
        "step %d: out of memory; repeating it with a budget of %.4g instead of %.4g (%s), which changes no loss",
        state.step + 1, halved, before, mode,
    )  # fmt: skip


def settle(engine: Engine, named: Train, state: State, measured: State, checkpoints: Path) -> list[str]:
    """Let the budget and the mode of a resumed run be those named, or what memory there is here; return what is said.

    A limit that an earlier session left holds, too. A budget that is `named` is believed, unless it is no smaller than
    the one with which that session ran out of memory: the same command given again must not end in the same way. A
    collective. Raises AffectError where the limit can't be read.
    """
    if named.budget != "auto" or state.budget > measured.budget:
        # Named anew, or a card with less memory than the one before.
        state.budget, state.mode = measured.budget, measured.mode
    if named.mode != "auto":
        state.mode = measured.mode
    limit, failed = engine.on_main(lambda: _limit(checkpoints / LIMIT))
    if limit >= state.budget or (named.budget != "auto" and state.budget < failed):
        return []
    state.budget, state.mode = limit, "replay" if state.mode == "hold" else state.mode
    words = f"an earlier session ran out of memory: budget {limit:.4g} at most, {state.mode} ({checkpoints / LIMIT})"
    return [words]


def _limit(path: Path) -> tuple[float, float]:
    """Return the largest budget that is left, and the one that memory ran out with."""
    if not path.exists():
        return math.inf, math.inf
    try:
        left = json.loads(path.read_text(encoding="utf-8"))
        return float(left["budget"]), float(left.get("failed", math.inf))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AffectError(f"{path} does not hold a budget: remove it") from error
