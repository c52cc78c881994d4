"""The first words of a run: what it runs on, and how its global batch is cut."""

from __future__ import annotations

from collections.abc import Sized

from affect.training.distributed import Engine
from affect.training.schedule import Schedule

_STEPS = 32
"""Steps whose cuts are averaged."""


def words(engine: Engine, schedule: Schedule, rows: int, mode: str) -> str:
    """Return engine, ranks, nodes, precision, the global batch of `rows` training rows, and its cut."""
    figures = schedule.figures(_STEPS)
    return (
        f"engine {engine.name}, {_some(engine.world, 'rank')} on {_some(engine.nodes, 'node')}, "
        f"{engine.device.type}, precision "
        f"{engine.precision}; global batch {min(schedule.batch, rows)} of {rows}, {schedule.per_epoch} steps an epoch, "
        f"{schedule.steps} in all; cut by {schedule.budget:.4g} into {figures['micro_batches']:.1f} micro-batches a "
        f"rank ({mode}), padding {100 * figures['padding']:.0f} %"
    )


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def over(places: Sized, budget: float, first: str) -> str:
    """Return what is said of examples that are longer than the budget."""
    return f"{len(places)} examples are over the budget of {budget:.4g} and travel alone ({first} ...)"
