"""Experiments of the third task."""

from __future__ import annotations

from dataclasses import replace

from affect.cli import experiments_of, launch
from affect.experiments import Sequence
from affect.recipe import Optim, Train
from tests.third.config import Activity


def demo() -> Activity:
    """Frames of made-up recordings."""
    return Activity(
        optim=Optim(lr=3e-2, schedule="constant", warmup=0.0),
        train=Train(batch=8, epochs=4, workers=0, trackers=(), budget=60.0, diagnostics_every=2),
    )


def wide() -> Activity:
    """The same with more hidden values."""
    base = demo()
    return replace(base, model=replace(base.model, hidden=24))


def tuned() -> Activity:
    """The demo again, from its own weights."""
    return demo()


def both() -> Sequence:
    """One after the other."""
    return Sequence(stages=("demo", "tuned"))


if __name__ == "__main__":
    launch(experiments_of(globals(), __name__))
