"""Checkpoints: everything a run needs to go on, and the best weights, each whole and checksummed, or absent.

What is in them is named by parameter and whole, whatever engine wrote it on however many ranks: another can go on.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from affect import checksums
from affect.errors import AffectError, first_line
from affect.training import resume, run_dir, run_state
from affect.training.distributed import Engine
from affect.training.optim import Average
from affect.training.resume import BEST, PLACE, clear, find, steps
from affect.training.run_state import State

__all__ = ["BEST", "PLACE", "State", "clear", "find", "load", "save", "save_best", "steps"]
CANDIDATES = "candidates"
"""Folder of the weights whose mean is taken at the end, a file a step."""
MODEL, AVERAGE, OPTIMIZER, SCALER = "model.safetensors", "average.safetensors", "optimizer.safetensors", "scaler.json"


def save(
    engine: Engine, where: Path, model: nn.Module, optimizer: Any, average: Average | None, stands: State, *, keep: int
) -> None:
    """Write a checkpoint to `where`/step-<n> and remove all but the newest `keep`. A collective.

    Raises AffectError when the disk is full; the checkpoints there before stay.
    """
    tensors = {MODEL: engine.weights(model), OPTIMIZER: engine.moments(model, optimizer)}
    if average is not None:
        tensors[AVERAGE] = engine.weights(average.model)
    stands.averaged = None if average is None else average.count
    stands.written_by = {"engine": engine.name, "world": engine.world}
    scaler, recipe = engine.scaler_state(), where.parent / "recipe.json"

    def write() -> None:
        with run_dir.whole(where / f"step-{stands.step:07d}") as temporary:
            temporary.mkdir()
            for name, held in tensors.items():
                save_file(held, str(temporary / name))
            if scaler is not None:
                (temporary / SCALER).write_text(json.dumps(scaler) + "\n", encoding="utf-8")
            (temporary / run_state.FILE).write_text(json.dumps(asdict(stands), indent=2) + "\n", encoding="utf-8")
            if recipe.exists():
                shutil.copyfile(recipe, temporary / recipe.name)
            checksums.write(temporary)
        resume.tidy(where, stands.step, keep)
        _tidy_candidates(where)

    engine.on_main(write)


def save_best(
    where: Path, step: int, scores: Mapping[str, Mapping[str, float]], write: Callable[[Path], object]
) -> None:
    """Let the best weights in `where` be what `write` puts into the folder that it is given. On the main rank alone.

    Raises AffectError when the disk is full; the best weights there before stay.
    """
    with run_dir.whole(where / BEST) as temporary:
        temporary.mkdir()
        write(temporary)
        place = {"step": step, "scores": run_dir.plain(dict(scores))}
        (temporary / PLACE).write_text(json.dumps(place, indent=2) + "\n", encoding="utf-8")
        checksums.write(temporary)
    resume.drop_lost_best(where)


def save_candidate(where: Path, step: int, weights: Mapping[str, Tensor]) -> None:
    """Write weights that may be averaged at the end. On the main rank alone."""
    with run_dir.whole(where / CANDIDATES / f"{step:07d}.safetensors") as temporary:
        save_file(dict(weights), str(temporary))


def _tidy_candidates(where: Path) -> None:
    """Remove the weights that no checkpoint here counts on: a run may go on from any of them."""
    held = list((where / CANDIDATES).glob("*.safetensors"))
    if held:
        needed = {step for path in steps(where) for _, step in run_state.read(path).candidates}
        for path in held:
            if int(path.stem) not in needed:
                path.unlink()


def mean_of_candidates(where: Path, steps: Sequence[int]) -> dict[str, Tensor]:
    """Return the mean of the weights kept at `steps`; what is no fraction is the last one's.

    Raises AffectError where one of them is missing or can't be read.
    """
    total: dict[str, Tensor] = {}
    for step in sorted(steps):
        path = where / CANDIDATES / f"{step:07d}.safetensors"
        try:
            held = load_file(str(path))
        except (OSError, SafetensorError) as error:
            raise AffectError(f"{path} can't be read: {first_line(error)}; --resume never trains anew") from error
        for name, value in held.items():
            adds = name in total and value.is_floating_point()
            total[name] = total[name] + value if adds else value.double()
        kinds = {name: value.dtype for name, value in held.items()}
    return {
        name: (value / len(steps) if kinds[name].is_floating_point else value).to(kinds[name])
        for name, value in total.items()
    }


def load(path: Path, engine: Engine, model: nn.Module, optimizer: Any, average: Average | None) -> State:
    """Load a checkpoint into the model, the optimiser and the average, and return where the run stands. A collective.

    Every rank reads the files itself. Raises AffectError on each when one can't, or they belong to another model.
    """
    names = [MODEL, OPTIMIZER] if average is None else [MODEL, OPTIMIZER, AVERAGE]
    state, tensors, scaler = engine.everywhere(lambda: _read(path, names, engine.rank))
    try:
        engine.load_weights(model, tensors[MODEL])
        if average is not None:
            average.model.load_state_dict(tensors[AVERAGE])
            average.count = state.step if state.averaged is None else state.averaged
        engine.load_moments(model, optimizer, tensors[OPTIMIZER])
        if scaler is not None:
            engine.load_scaler(scaler)
    except Exception as error:  # engines and torch each raise their own kinds
        raise _refused(path, error) from error
    return state


def _read(
    path: Path, names: Sequence[str], rank: int
) -> tuple[State, dict[str, dict[str, Tensor]], dict[str, Any] | None]:
    """Return what is in a checkpoint's files: reading comes before all that ranks do together. Raises AffectError."""
    if not path.is_dir():
        raise AffectError(f"rank {rank} on {platform.node()} sees no {path}: --runs must be on a disk of all machines")
    try:
        scaler = json.loads((path / SCALER).read_text(encoding="utf-8")) if (path / SCALER).exists() else None
        return run_state.read(path), {name: load_file(str(path / name)) for name in names}, scaler
    except Exception as error:  # safetensors and JSON each raise their own kinds for a damaged file
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> AffectError:
    return AffectError(f"{path} can't be resumed from: {first_line(error)}; name another with --resume, or --overwrite")
