"""Where a run stands: what its next step, its schedule and early stopping need to know, and the file that holds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE = "state.json"
_RECORD = {"averaged", "written_by"}
"""What the file holds beside the state: steps in the average; the engine and the world that wrote it."""


@dataclass(kw_only=True)
class State:
    """Where a run stands: the step to do next and what the schedule and early stopping remember."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
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
    stopped: bool = False
    """Early stopping has ended the training."""
    weighting: dict[str, Any] | None = None
    """What the weights of terms depend on, where they follow the terms' values."""
    norms: list[float] = field(default_factory=list)
    """The gradient's norm in recent steps, where clipping follows them."""
    candidates: list[tuple[float, int]] = field(default_factory=list)
    """Score and step of the best weights so far, of which the mean is taken at the end."""


def write(folder: Path, state: State, *, averaged: int | None, engine: str, world: int) -> None:
    """Write the state to a folder, with the steps its average has taken in and who wrote it."""
    record = {"averaged": averaged, "written_by": {"engine": engine, "world": world}}
    (folder / FILE).write_text(json.dumps({**asdict(state), **record}, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[State, int | None]:
    """Return the state in a folder and the steps in its average.

    Raises OSError without the file, ValueError where a field is missing, unknown or of a wrong type.
    """
    data = json.loads((folder / FILE).read_text(encoding="utf-8"))
    blank = asdict(State())
    if not isinstance(data, dict) or set(data) - _RECORD != set(blank):
        raise ValueError(f"{FILE} does not hold where a run stands")
    record = {name: data.pop(name, None) for name in _RECORD}
    number = (int, float)
    score = (*number, type(None))
    kinds: dict[str, Any] = {"best": score, "mark": score, "flat_mark": score, "reduction": number, "budget": number,
                             "weighting": (dict, type(None))}  # fmt: skip
    for name, value in data.items():
        fits = isinstance(value, kinds.get(name, type(blank[name]))) and isinstance(value, bool) == (name == "stopped")
        if not fits or (name == "step" and value < 0):
            raise ValueError(f"{name} is {value!r} in {FILE}")
    averaged = record["averaged"]
    if averaged is not None and type(averaged) is not int:
        raise ValueError(f"averaged is {averaged!r} in {FILE}")
    if not all(isinstance(norm, number) for norm in data["norms"]):
        raise ValueError(f"norms holds no numbers in {FILE}")
    data["candidates"] = [(float(score), int(step)) for score, step in data["candidates"]]
    return State(**data), averaged
