"""Checkpoints: everything a run needs to go on, and the best weights, each whole and checksummed, or absent.

What is in them is named by parameter and whole, whatever engine wrote it on however many ranks: another can go on.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
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
    weights, moments = engine.weights(model), engine.moments(model, optimizer)
    averaged = None if average is None else engine.weights(average.model)

    def write() -> None:
        with run_dir.whole(where / f"step-{stands.step:07d}") as temporary:
            temporary.mkdir()
            save_file(weights, str(temporary / MODEL))
            save_file(moments, str(temporary / OPTIMIZER))
            if averaged is not None:
                save_file(averaged, str(temporary / AVERAGE))
            _write_rest(engine, where.parent / "recipe.json", temporary, average, stands)
            checksums.write(temporary)
        resume.tidy(where, stands.step, keep)
        _tidy_candidates(where)

    engine.on_main(write)


def _write_rest(engine: Engine, recipe: Path, folder: Path, average: Average | None, stands: State) -> None:
    """Write the loss scaler, the state and a copy of the run's recipe."""
    scaler = engine.scaler_state()
    if scaler is not None:
        (folder / SCALER).write_text(json.dumps(scaler) + "\n", encoding="utf-8")
    averaged = None if average is None else average.count
    run_state.write(folder, stands, averaged=averaged, engine=engine.name, world=engine.world)
    if recipe.exists():
        shutil.copyfile(recipe, folder / recipe.name)


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
        needed = {step for path in steps(where) for _, step in run_state.read(path)[0].candidates}
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
            known = total.get(name)
            total[name] = value.double() if known is None or not value.is_floating_point() else known + value
        kinds = {name: value.dtype for name, value in held.items()}
    return {
        name: (value / len(steps) if kinds[name].is_floating_point else value).to(kinds[name])
        for name, value in total.items()
    }


def load(path: Path, engine: Engine, model: nn.Module, optimizer: Any, average: Average | None) -> State:
    """Load a checkpoint into the model, the optimiser and the average, and return where the run stands. A collective.

    Every rank reads the files itself. Raises AffectError on each when one can't, or they belong to another model.
    """
    read = _Read(path, engine, average is not None)
    engine.everywhere(read)
    try:
        engine.load_weights(model, read.tensors[MODEL])
        if average is not None:
            average.model.load_state_dict(read.tensors[AVERAGE])
            average.count = read.state.step if read.averaged is None else read.averaged
        engine.load_moments(model, optimizer, _fitting(read.tensors[OPTIMIZER], read.tensors[MODEL]))
        if read.scaler is not None:
            engine.load_scaler(read.scaler)
    except Exception as error:  # engines and torch each raise their own kinds
        raise _refused(path, error) from error
    return read.state


class _Read:
    """What is in a checkpoint's files, once called: reading comes before all that ranks do together."""

    def __init__(self, path: Path, engine: Engine, average: bool):
        self.path, self.engine = path, engine
        self.names = [MODEL, OPTIMIZER, *([AVERAGE] if average else [])]
        self.tensors: dict[str, dict[str, Tensor]] = {}
        self.scaler: dict[str, Any] | None = None
        self.state = State()
        self.averaged: int | None = None

    def __call__(self) -> None:
        """Read everything. Raises AffectError."""
        path = self.path
        if not path.is_dir():
            raise AffectError(
                f"rank {self.engine.rank} on {platform.node()} sees no {path}: --runs must be on a disk of all machines"
            )
        try:
            self.state, self.averaged = run_state.read(path)
            self.tensors = {name: load_file(str(path / name)) for name in self.names}
            if (path / SCALER).exists():
                self.scaler = json.loads((path / SCALER).read_text(encoding="utf-8"))
        except Exception as error:  # safetensors and JSON each raise their own kinds for a damaged file
            raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> AffectError:
    return AffectError(f"{path} can't be resumed from: {first_line(error)}; name another with --resume, or --overwrite")


def _fitting(moments: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return moments <kind>/<parameter>. Raises ValueError unless each kind is of the same parameters of the model."""
    kinds: dict[str, set[str]] = {}
    for key in moments:
        kind, _, name = key.partition("/")
        kinds.setdefault(name, set()).add(kind)
    every = set().union(*kinds.values())
    for name, found in kinds.items():
        if name not in weights:
            raise ValueError(f"{OPTIMIZER} has moments of {name}, which the model has not")
        if found != every:
            raise ValueError(f"{OPTIMIZER} lacks {min(every - found)}/{name}")
    return moments
