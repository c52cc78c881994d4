"""A run's folder: what is written where, atomically, and whether it already holds this run."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from affect import archive
from affect import recipe as recipes
from affect.archive import DamagedArchiveError
from affect.errors import AffectError, first_line
from affect.recipe import Recipe
from affect.training import atomic_swap, lock

CONDITIONS = "predictions-conditions.zip"
"""The rows of every part under every condition, a member each: as files they would be a hundred small ones a run."""


def experiment_folder(runs: Path, experiment: str, name: str | None) -> Path:
    """Return the folder of an experiment: runs/<experiment>[-<name>]."""
    return runs / (f"{experiment}-{name}" if name else experiment)


def point_latest(runs: Path, target: Path) -> None:
    """Let runs/latest point at the experiment's folder `target`."""
    link = runs / "latest"
    temporary = runs / f".latest.{os.getpid()}"
    if link.exists() and not link.is_symlink():
        return
    try:
        temporary.symlink_to(target.name)
        temporary.replace(link)
    except OSError as error:
        raise AffectError(f"could not write {link}: {reason(error)}") from error


def claim(folder: Path, recipe: Recipe, *, experiment: str, overwrite: bool) -> bool:
    """Make `folder` this run's own and return whether it is already finished.

    Raises AffectError naming the fields when it holds a run of another recipe, or the process that trains it now.
    """
    with lock.held(folder):
        if overwrite:
            _empty(folder)
        return _claim(folder, {"experiment": experiment, **recipe.to_dict()})


def _empty(folder: Path) -> None:
    """Delete what is in a run's folder, but for the lock that is held on it."""
    paths = [path for path in folder.glob("*") if path.name != lock.NAME]
    if paths and not (folder / "recipe.json").exists():
        raise AffectError(f"{folder} is not a run's folder: --overwrite does not delete it")
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _claim(folder: Path, wanted: dict[str, Any]) -> bool:
    path = folder / "recipe.json"
    if path.exists():
        other = recipes.differences(recipes.read(path), wanted)
        # Where and how fast a run goes may change between sessions; what it optimises may not.
        other = [name for name in other if name not in recipes.FREE]
        if not other:
            # A damaged one is told of now, while all ranks hear of it.
            list(read_lines(folder / "timing.jsonl"))
            return finished(folder)
        # One that stopped before its first step, for one of these fields perhaps, has nothing to lose.
        if _begun(folder):
            raise AffectError(
                f"{folder} holds a run that differs in {', '.join(other)}: give --name, or --overwrite to replace it"
            )
    write_json(path, wanted)
    return False


def _begun(folder: Path) -> bool:
    return any(True for _ in read_lines(folder / "metrics.jsonl")) or any(folder.glob("checkpoints/*"))


def finished(folder: Path) -> bool:
    """Tell whether the run in `folder` came to its end."""
    return any(line.get("event") == "end" for line in read_lines(folder / "metrics.jsonl"))


class _Line(dict[str, Any]):
    """A line of a file: what it lacks is an AffectError that names the line."""

    def __init__(self, record: dict[str, Any], place: str):
        super().__init__(record)
        self.place = place

    def __missing__(self, name: str) -> Any:
        raise _damaged(self.place, f"has no {name!r}")


def _damaged(place: str, why: str) -> AffectError:
    return AffectError(f"{place} is damaged: it {why}; put it right or take a copy, or --overwrite runs all anew")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's metrics.jsonl or timing.jsonl; a last one that a crash cut short is left out.

    Raises AffectError with the number of any other line that is no object; so does what a line lacks.
    """
    try:
        file = path.open("rb")  # decoded line by line: a crash can leave bytes that are no text
    except FileNotFoundError:
        return
    except OSError as error:
        raise AffectError(f"{path} can't be read: {error.strerror}") from error
    with file:
        for line in _objects(file, path, mend=True):
            # True is an int, too, and no step.
            if type(line.get("step", 0)) is not int:
                raise _damaged(line.place, f"has {line['step']!r} for a step")
            yield line


def _objects(lines: Iterable[bytes], path: Path, *, mend: bool) -> Iterator[_Line]:
    """Yield the objects of lines; with `mend` a last one without its end is left out where it is none."""
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number},"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            if mend and not line.endswith(b"\n"):
                return
            record = None
        if not isinstance(record, dict):
            raise _damaged(place, "holds no JSON object")
        yield _Line(record, place)


def write_json(path: Path, data: Any) -> None:
    """Write `data` to `path`, whole or not at all."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def note(folder: Path, **facts: Any) -> None:
    """Add facts to what a run's environment.json says, where there is one."""
    path = folder / "environment.json"
    if path.is_file():
        write_json(path, recipes.read(path, "environment") | facts)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines to `path`, whole or not at all; NaN becomes null."""
    write_text(path, "".join(map(_line, rows)))


def predicted(folder: Path) -> list[str]:
    """Return the names of the evaluations whose rows a run's folder holds, in order."""
    names = [path.stem.removeprefix("predictions-") for path in folder.glob("predictions-*.jsonl")]
    if (folder / CONDITIONS).exists():
        with _whole_archive(folder / CONDITIONS):
            names += [name.removesuffix(".jsonl") for name in archive.names(folder / CONDITIONS)]
    return sorted(names)


def read_rows(folder: Path, evaluation: str) -> list[dict[str, Any]]:
    """Return the predicted rows of an evaluation; none where there are none. Raises AffectError where they are damaged.

    They were written whole: what is cut short is damaged.
    """
    try:
        if "@" not in evaluation:
            path = folder / f"predictions-{evaluation}.jsonl"
            content = path.read_bytes()
        else:
            path = folder / CONDITIONS
            with _whole_archive(path):
                content = archive.content(path, f"{evaluation}.jsonl")
    except (FileNotFoundError, KeyError):
        return []
    rows = list(_objects(content.splitlines(), path, mend=False))
    for row in rows:
        if not isinstance(row["prediction"], dict) or not isinstance(row["target"], dict):
            raise _damaged(row.place, "holds no prediction and target")
    return list(rows)


@contextlib.contextmanager
def _whole_archive(path: Path) -> Iterator[None]:
    try:
        yield
    except DamagedArchiveError as error:
        raise AffectError(f"{path} is damaged: {error}; take a copy, or --overwrite runs all anew") from error


def _line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(plain(row), ensure_ascii=False) + "\n"


def write_rows(folder: Path, rows: Mapping[str, Iterable[dict[str, Any]]]) -> None:
    """Write the predicted rows of evaluations to a run's folder: a file each, those under conditions in one archive."""
    for evaluation, predicted_rows in rows.items():
        if "@" not in evaluation:
            write_lines(folder / f"predictions-{evaluation}.jsonl", predicted_rows)
    under = {f"{evaluation}.jsonl": lines for evaluation, lines in rows.items() if "@" in evaluation}
    if not under:
        return
    with (
        whole(folder / CONDITIONS) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
    ):
        for name, lines in under.items():
            # Without the time of day: the same rows are the same bytes.
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(member, "".join(map(_line, lines)).encode("utf-8", "backslashreplace"), compresslevel=1)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all. Raises AffectError when the disk won't take it."""
    with whole(path) as temporary:
        # A lone surrogate becomes what JSON calls it.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary file or folder name beside `path` that takes its place, synced, when the block succeeds.

    A kill at any moment leaves the old or the new (of a folder: after `atomic_swap.recover`). Raises AffectError for a
    full or read-only disk; what stood at `path` before is then untouched.
    """
    temporary = _hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # of a process of the same number that was killed
        yield temporary
        for item in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
            _sync(item)
        if temporary.is_dir() and path.is_dir():
            atomic_swap.swap(temporary, path)
        else:
            temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        if not failed_writing(error):
            raise
        raise AffectError(f"could not write {path}: {reason(error)}; what was there before is kept") from error
    finally:
        _remove(temporary)


def discard(path: Path) -> None:
    """Remove a folder, no half of which is ever seen under its name; one that can't be removed stays."""
    hidden = _hidden(path)
    _remove(hidden)
    with contextlib.suppress(OSError):
        path.rename(hidden)
    _remove(hidden)


def failed_writing(error: Exception) -> bool:
    """Tell whether an exception says that a file could not be written (a full or read-only disk)."""
    return isinstance(error, (OSError, SafetensorError))


def reason(error: Exception) -> str:
    """Return why a file could not be written, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # where even its folder is none, another error says so
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain(value: Any) -> Any:
    """Return JSON types: NaN and infinities, which JSON lacks, become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
