"""What a run tells whoever watches it: its validation scores on the way, and that it came to nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from affect.errors import AffectError
from affect.task import Batch

Watch = Callable[[int, dict[str, float]], None]
"""Called on every rank after each validation with the epoch (from 0) and its scores; what it raises ends the run."""


class DivergedError(AffectError):
    """A loss or gradient that is not a finite number; raised at the same step on every rank."""


def diverged(what: str, step: int, good: Path | None, rank: int, batches: Sequence[Batch]) -> DivergedError:
    """Return the error of a loss or gradient (`what`) at a step (from 1), naming the examples that this rank had."""
    ids = [name for batch in batches if not batch.filler for name in batch.ids]
    # The culprit may be on another rank; each names its own.
    return DivergedError(
        f"step {step}: the {what} is not a finite number; lower the rates or optim.clip; "
        f"last good checkpoint: {good or 'none'}; examples on rank {rank}: {', '.join(ids)}"
    )
