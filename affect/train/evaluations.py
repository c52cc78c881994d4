"""What a run that was stopped in the middle of an evaluation still owes."""

from __future__ import annotations

from pathlib import Path

from affect.recipe import Train
from affect.train import folder as folders
from affect.train.schedule import Schedule


def evaluates(schedule: Schedule, train: Train, step: int) -> bool:
    """Tell whether the validation part is predicted after `step` (from 0), the last of an epoch."""
    return (schedule.epoch(step) + 1) % train.evaluate_every == 0 or step + 1 == schedule.steps


def owes(folder: Path, schedule: Schedule, train: Train, done: int) -> bool:
    """Tell whether a run saved after `done` steps was stopped inside the evaluation that follows them."""
    if done == 0 or not schedule.ends_epoch(done - 1) or not evaluates(schedule, train, done - 1):
        return False
    lines = folders.read_lines(folder / "metrics.jsonl")
    return not any(line.get("event") == "eval" and line["step"] == done for line in lines)
