"""What a run goes on from: the newest checkpoint that is whole, and best weights that are."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path

from affect import checksums
from affect.checksums import DamagedError
from affect.errors import AffectError, first_line
from affect.training import atomic_swap, run_dir, run_state
from affect.training.run_state import State

_LOG = logging.getLogger("affect")
BEST = "best"
"""Folder of the best weights."""
PLACE = "place.json"
"""In the folder of the best weights: the step they are of, and their validation scores."""

Tell = Callable[[str], None]


def steps(where: Path) -> list[Path]:
    """Return the checkpoints in a run's checkpoint folder, oldest first."""
    return sorted(path for path in where.glob("step-*") if path.is_dir())


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
    save that is past it (`tidy`, `drop_lost_best`).
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


def tidy(where: Path, step: int, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and those set aside that the one of `step` makes needless."""
    aside = [path for path in where.glob("aside-[0-9]*") if _number(path) <= step]
    for path in [*steps(where)[:-keep], *aside]:
        run_dir.discard(path)


def drop_lost_best(where: Path) -> None:
    """Remove best weights that were set aside: there are others now."""
    for path in where.glob("aside-best-*"):
        run_dir.discard(path)


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
    except (OSError, ValueError) as error:
        raise DamagedError(f"{run_state.FILE} can't be read ({first_line(error)})") from error


def _lost(where: Path, stands: State) -> tuple[int, str] | None:
    """Return the step of best weights that a checkpoint counts on and that can't be used, and what is wrong with them.

    None where they are whole, or not yet chosen, or of a later step, which comes again.
    """
    best = where / BEST
    if stands.best is None:
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


def _step_of(best: Path) -> int | None:
    """Return the step that best weights say they are of, where that can be read."""
    try:
        place = json.loads((best / PLACE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return place["step"] if isinstance(place, dict) and isinstance(place.get("step"), int) else None


def _number(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
