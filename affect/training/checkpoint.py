"""Checkpoints: everything a run needs to go on, and the best weights, each whole and checksummed, or absent.

What is in them is named by parameter and whole, whatever engine wrote it on however many ranks: another can go on. A
run goes on from the newest that is whole, and from best weights that are.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from affect import checksums
from affect import recipe as recipes
from affect.checksums import DamagedError
from affect.errors import AffectError, first_line
from affect.training import atomic_swap, run_dir, run_state
from affect.training.distributed import Engine
from affect.training.optim import Average
from affect.training.run_state import State

_LOG = logging.getLogger("affect")
BEST = "best"
"""Folder of the best weights."""
PLACE = "place.json"
"""In the folder of the best weights: the step they are of, and their validation scores."""
CANDIDATES = "candidates"
"""Folder of the weights whose mean is taken at the end, a file a step."""
MODEL, AVERAGE, OPTIMIZER, SCALER = "model.safetensors", "average.safetensors", "optimizer.safetensors", "scaler.json"

Tell = Callable[[str], None]


def save(
    engine: Engine, where: Path, model: nn.Module, optimizer: Any, average: Average | None, stands: State, *, keep: int
) -> None:
    """Write a checkpoint to `where`/step-<n> and keep the newest `keep`; AffectError on a full disk. A collective."""
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
        # Of those set aside, what this one makes needless.
        aside = [path for path in where.glob("aside-[0-9]*") if _number(path) <= stands.step]
        for path in [*steps(where)[:-keep], *aside]:
            run_dir.discard(path)
        _tidy_candidates(where)

    engine.on_main(write)


def save_best(
    where: Path, step: int, scores: Mapping[str, Mapping[str, float]], write: Callable[[Path], object]
) -> None:
    """Let the best weights be what `write` puts into a folder; AffectError where they can't be. For the main rank."""
    with run_dir.whole(where / BEST) as temporary:
        temporary.mkdir()
        write(temporary)
        place = {"step": step, "scores": run_dir.plain(dict(scores)), **_whose(where.parent)}
        (temporary / PLACE).write_text(json.dumps(place, indent=2) + "\n", encoding="utf-8")
        checksums.write(temporary)
    # Those that were set aside are needed no more.
    for path in where.glob("aside-best-*"):
        run_dir.discard(path)


def save_candidate(where: Path, step: int, weights: Mapping[str, Tensor]) -> None:
    """Write weights that may be averaged at the end. On the main rank alone."""
    with run_dir.whole(where / CANDIDATES / f"{step:07d}.safetensors") as temporary:
        save_file(dict(weights), str(temporary))


def _whose(folder: Path) -> dict[str, Any]:
    """Return what best weights say of the run in a folder, nothing where no recipe.json tells of one."""
    path = folder / "recipe.json"
    return {"of": recipes.whose(recipes.read(path))} if path.exists() else {}


def _tidy_candidates(where: Path) -> None:
    """Remove the weights that no checkpoint here counts on: a run may go on from any of them."""
    held = list((where / CANDIDATES).glob("*.safetensors"))
    if held:
        needed = {step for path in steps(where) for _, step in run_state.read(path).candidates}
        for path in held:
            if int(path.stem) not in needed:
                path.unlink()


def mean_of_candidates(where: Path, steps: Sequence[int]) -> dict[str, Tensor]:
    """Return the mean of the weights kept at `steps` (of integers the last); AffectError where one can't be read."""
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


def steps(where: Path) -> list[Path]:
    """Return the checkpoints in a run's checkpoint folder, oldest first."""
    return sorted(path for path in where.glob("step-*") if re.fullmatch(r"step-\d+", path.name) and path.is_dir())


def find(resume: str, where: Path, tell: Tell = _LOG.warning) -> Path | None:
    """Return the checkpoint that `resume` (auto, never or a path) names; None starts from the beginning.

    Every file is read and held against its checksum: for one rank alone. Auto takes the newest that is whole, or an
    older one from which damaged best weights are made again; `tell` hears of all that was passed over. Best weights
    that can't be used are set aside. Raises AffectError where none is whole, or a named one is not.
    """
    if resume == "never":
        return None
    atomic_swap.recover(where / BEST)
    return _newest(where, tell) if resume == "auto" else _named(resume, where, tell)


def clear(where: Path, after: int) -> bool:
    """Set aside what a run in `where` that stands after step `after` will write anew; remove what a kill left behind.

    Returns whether there are no best weights now, so that they are chosen anew. What is set aside goes with the first
    save that is past it.
    """
    best = where / BEST
    atomic_swap.recover(best)
    for path in [*where.glob(".*.tmp"), *where.glob(".*.old")]:
        shutil.rmtree(path, ignore_errors=True)
    for path in steps(where):
        if _number(path) > after:
            _set_aside(path, f"aside-{_number(path):07d}")
    step = _step_of(best)
    if best.is_dir() and (step is None or step > after):
        _set_aside(best, f"aside-best-{after + 1 if step is None else step:07d}")
    return not best.is_dir()


def _newest(where: Path, tell: Tell) -> Path | None:
    """Return the newest whole checkpoint, or where its best weights are lost the newest from before their step."""
    passed: list[str] = []
    newest: Path | None = None
    before: float = math.inf
    lost = ""
    for path in reversed(steps(where)):
        if _number(path) >= before:
            continue
        try:
            stands = _examine(path)
        except DamagedError as error:
            passed.append(f"{path.name}: {error}")
            tell(f"{path} is damaged and passed over: {error}")
            continue
        _hold(path, where.parent)
        if newest is None:
            newest = path
            before, lost = _lost(where, stands) or (before, "")
        if stands.step < before:
            if lost:
                tell(f"{where / BEST}: {lost}; they are made again from {path} on")
                _drop_best(where, int(before))
            elif passed:
                tell(f"going on from {path}, the newest checkpoint that is whole")
            return path
    if newest is not None:
        raise AffectError(
            f"{where / BEST}: {lost}, and no whole checkpoint from before their step {int(before)} is there to make "
            f"them again: --resume {newest} chooses the best of what is still to come, --resume never trains anew"
        )
    if passed:
        raise AffectError(
            f"no checkpoint in {where} is whole ({'; '.join(passed)}): --resume never or --overwrite trains anew"
        )
    return None


def _named(resume: str, where: Path, tell: Tell) -> Path:
    path = Path(resume)
    if not (path / run_state.FILE).exists() and path not in steps(path.parent):
        raise AffectError(f"--resume {resume}: no checkpoint is there; auto takes the newest, never starts anew")
    if path.resolve().parent != where.resolve():
        # Another fold's weights have seen this fold's test part.
        raise AffectError(
            f"--resume {resume} is a checkpoint of another run than {where.parent}: name its seed and fold"
        )
    try:
        stands = _examine(path)
    except DamagedError as error:
        raise AffectError(
            f"--resume {resume} is damaged: {error}; auto takes the newest that is whole, never starts anew"
        ) from error
    _hold(path, where.parent)
    lost = _lost(where, stands)
    if lost is not None:
        step, why = lost
        more = "made again" if step > stands.step else "the best of what is still to come is taken"
        tell(f"{where / BEST}: {why}; {more}")
        _drop_best(where, step)
    return path


def _examine(path: Path) -> State:
    """Return where a checkpoint stands, each of its files held against its checksum. Raises DamagedError."""
    checksums.check(path)
    try:
        return run_state.read(path)
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{run_state.FILE} can't be read ({first_line(error)})") from error


def _hold(path: Path, folder: Path) -> None:
    """Raise AffectError unless a checkpoint is of the run in a folder, by the recipe.json that lies in both."""
    own, held = folder / "recipe.json", path / "recipe.json"
    if not own.exists():
        return
    none = ["all: it tells of none"]
    changed = recipes.differences(recipes.read(held), recipes.read(own)) if held.exists() else none
    if changed := [name for name in changed if name not in recipes.FREE]:
        # Another fold's weights have seen this fold's test part.
        raise AffectError(
            f"{path} is no checkpoint of {folder}: its recipe differs in {', '.join(changed)}; take it away, or "
            "--overwrite trains anew"
        )


def _lost(where: Path, stands: State) -> tuple[int, str] | None:
    """Return the step of best weights that a checkpoint counts on and can't use, and what is wrong; else None."""
    best = where / BEST
    if not stands.best_step:
        return None
    if not best.is_dir():
        if any(_number(path) > stands.step for path in where.glob("aside-best-[0-9]*")):
            return None
        return stands.best_step, "the best weights are missing"
    step = _step_of(best)
    wrong = checksums.faults(best)
    if step is None:
        wrong.setdefault(PLACE, f"{PLACE} can't be read")
    if step is None or wrong:
        # What a damaged file says is not believed.
        believed = None if {PLACE, checksums.FILE} & wrong.keys() else step
        return believed or stands.best_step, f"the best weights are damaged ({next(iter(wrong.values()))})"
    of = _place(best).get("of")
    if of is not None and {"of": of} != _whose(where.parent):
        return stands.best_step, "the best weights are another run's"
    if step <= stands.step and step != stands.best_step:
        return stands.best_step, f"the best weights are of step {step}, not {stands.best_step}"
    return None


def _drop_best(where: Path, step: int) -> None:
    best, name = where / BEST, f"aside-best-{step:07d}"
    if best.is_dir():
        _set_aside(best, name)
    else:
        # An empty one stands for weights that are gone: a checkpoint from before their step needs no older one.
        (where / name).mkdir(exist_ok=True)


def _set_aside(path: Path, name: str) -> None:
    target = path.with_name(name)
    run_dir.discard(target)
    try:
        path.rename(target)
    except OSError as error:
        raise AffectError(f"could not move {path} to {target.name}: {run_dir.reason(error)}") from error


def _place(best: Path) -> dict[str, Any]:
    """Return what best weights say of themselves, where that can be read."""
    try:
        place = json.loads((best / PLACE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return place if isinstance(place, dict) else {}


def _step_of(best: Path) -> int | None:
    """Return the step that best weights say they are of, where that can be read."""
    step = _place(best).get("step")
    return step if isinstance(step, int) else None


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
