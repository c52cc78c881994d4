"""Checkpoints: everything a run needs to go on, and the best weights, each whole or absent."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from affect.errors import AffectError, first_line
from affect.train import folder as folders
from affect.train.engine import Engine
from affect.train.optim import Average

_LOG = logging.getLogger("affect")
PLACE = "place.json"
"""In the folder of the best weights: the step they are of, and their validation scores."""


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


def save(
    engine: Engine, where: Path, model: nn.Module, optimizer: Any, average: Average | None, state: State, *, keep: int
) -> None:
    """Write a checkpoint to `where`/step-<n> and remove all but the newest `keep`. Reached by every rank.

    Raises AffectError when the disk is full; the checkpoints there before stay.
    """

    def write() -> None:
        with folders.whole(where / f"step-{state.step:07d}") as temporary:
            temporary.mkdir()
            save_file(_tensors(engine.unwrap(model)), str(temporary / "model.safetensors"))
            if average is not None:
                save_file(_tensors(average.model), str(temporary / "average.safetensors"))
            extra = {"scaler": engine.accelerator.scaler.state_dict()} if engine.accelerator.scaler else {}
            torch.save({"optimizer": optimizer.state_dict(), **extra}, temporary / "optimizer.pt")
            (temporary / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
        for old in steps(where)[:-keep]:
            # One that can't be removed is no reason to stop.
            shutil.rmtree(old, ignore_errors=True)

    engine.on_main(write)


def steps(where: Path) -> list[Path]:
    """Return the checkpoints in a run's checkpoint folder, oldest first."""
    return sorted(path for path in where.glob("step-*") if path.is_dir())


def find(resume: str, where: Path) -> Path | None:
    """Return the checkpoint that `resume` (auto, never or a path) names; None starts from the beginning.

    Raises AffectError when a named checkpoint is not one.
    """
    if resume == "never":
        return None
    if resume == "auto":
        found = steps(where)
        return found[-1] if found else None
    path = Path(resume)
    if not (path / "state.json").exists():
        raise AffectError(f"--resume {resume}: no checkpoint is there; auto takes the newest, never starts anew")
    if path.resolve().parent != where.resolve():
        # Another fold's weights have seen this fold's test part.
        raise AffectError(
            f"--resume {resume} is a checkpoint of another run than {where.parent}: name its seed and fold"
        )
    return path


def clear(where: Path, after: int) -> bool:
    """Remove what a run in `where` that stands after step `after` will write anew, and what a kill left half done.

    Returns whether the best weights were among it.
    """
    for path in steps(where):
        if int(path.name.removeprefix("step-")) > after:
            shutil.rmtree(path)
    for path in [*where.glob(".*.tmp"), *where.glob(".*.old")]:
        shutil.rmtree(path, ignore_errors=True)
    best = where / "best"
    if not best.is_dir():
        return False
    place = json.loads((best / PLACE).read_text(encoding="utf-8")) if (best / PLACE).exists() else {"step": 0}
    if int(place["step"]) <= after:
        return False
    shutil.rmtree(best)
    return True


def load(path: Path, engine: Engine, model: nn.Module, optimizer: Any, average: Average | None) -> State:
    """Load a checkpoint into the model, the optimiser and the average, and return where the run stands.

    Raises AffectError when a file is missing or damaged, or belongs to another model.
    """
    try:
        state = _read_state(path / "state.json")
        _restore(engine.unwrap(model), path / "model.safetensors")
        if average is not None:
            _restore(average.model, path / "average.safetensors")
            average.count = state.step
        saved = torch.load(path / "optimizer.pt", map_location=engine.device, weights_only=True)
        optimizer.load_state_dict(saved["optimizer"])
        if engine.accelerator.scaler and "scaler" in saved:
            engine.accelerator.scaler.load_state_dict(saved["scaler"])
    except Exception as error:  # torch, safetensors and JSON each raise their own kinds for a damaged file
        raise AffectError(
            f"{path} can't be resumed from: {first_line(error)}; name another with --resume, or --overwrite"
        ) from error
    return state


def _read_state(path: Path) -> State:
    """Return the state in a file. Raises ValueError where a field is missing, unknown or of a wrong type."""
    data = json.loads(path.read_text(encoding="utf-8"))
    blank = asdict(State())
    if not isinstance(data, dict) or set(data) != set(blank):
        raise ValueError(f"{path.name} does not hold where a run stands")
    number = (int, float)
    score = (*number, type(None))
    kinds = {"best": score, "mark": score, "flat_mark": score, "reduction": number, "budget": number}
    for name, value in data.items():
        fits = isinstance(value, kinds.get(name, type(blank[name]))) and isinstance(value, bool) == (name == "stopped")
        if not fits or (name == "step" and value < 0):
            raise ValueError(f"{name} is {value!r} in {path.name}")
    return State(**data)


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    # Cloned where tensors share memory, which safetensors refuses.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def _restore(model: nn.Module, path: Path) -> None:
    model.load_state_dict(load_file(str(path)))
