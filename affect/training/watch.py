"""What a run tells whoever watches it: the score that it chooses by on the way, and that it came to nothing."""

from __future__ import annotations

from collections.abc import Callable

from affect.errors import AffectError

Watch = Callable[[int, float], None]
"""Called on every rank after each evaluation with the epoch (from 0) and the score; what it raises ends the run."""


class DivergedError(AffectError):
    """A loss or gradient that is not a finite number; raised at the same step on every rank."""
