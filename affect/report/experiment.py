"""Experiments on disk: the folder of an experiment's runs, or a file of numbers reported elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from affect.errors import AffectError, nearest
from affect.report import reported
from affect.report.runs import Run, read
from affect.report.study import Study
from affect.tables import inside

_LOG = logging.getLogger("affect")


def load(path: Path, beside: Path | None = None, *, scores_only: bool = False) -> Study:
    """Return the experiment in a folder (or a file of reported numbers); `beside`: a name alone is looked for there.

    `scores_only` leaves out, or reads late, what a comparison doesn't need, which is most of what takes time.
    Raises AffectError where there is none.
    """
    if not path.exists() and beside is not None and len(path.parts) == 1:
        names = [folder.name for folder in experiments_in(beside)]
        if path.name not in names:
            hint = nearest(path.name, names) if names else "there is none"
            raise AffectError(f"no experiment {path.name!r} in {str(beside)!r}; {hint}")
        path = beside / path.name
    if path.suffix == ".json" and not path.is_dir():
        # Numbers that lie beside no runs get a folder of their own for their report.
        return _reported(path, path.parent if path.name == reported.FILE else path.with_suffix(""))
    if path.is_file():
        raise AffectError(f"{str(path)!r} is a file: name a folder of runs, or a .json file of reported numbers")
    file = path / reported.FILE
    if file.is_file():
        if not holds_runs(path):
            return _reported(file, path)
        _LOG.warning("%s holds runs: they count, %s does not", path, reported.FILE)
    runs = read(path, scores_only=scores_only)
    return Study(name=path.resolve().name, folder=path, runs=runs, before=partial(_before, path, runs))


def _before(folder: Path, runs: Sequence[Run]) -> Study | None:
    """Return the experiment from whose weights the runs of a folder started: where it was named, or beside it."""
    start = inside(next((run.recipe for run in runs if run.recipe), {}), "train").get("init_from")
    places = [Path(start), folder.resolve().parent / Path(start).name] if isinstance(start, str) and start else []
    source = next((place for place in places if is_experiment(place)), None)
    same = source is None or source.resolve() == folder.resolve()
    return None if same or source is None else load(source, scores_only=True)


def holds_runs(folder: Path) -> bool:
    """Tell whether a folder is that of an experiment with runs in it."""
    return any(path.is_dir() for path in folder.glob("seed*/fold*"))


def is_experiment(folder: Path) -> bool:
    """Tell whether a folder is that of an experiment: of its own runs, or of reported numbers."""
    return folder.is_dir() and (holds_runs(folder) or (folder / reported.FILE).is_file())


def experiments_in(folder: Path) -> list[Path]:
    """Return the folders of the experiments directly in a folder, by name; links (runs/latest) are left out."""
    return sorted(path for path in folder.glob("*") if not path.is_symlink() and is_experiment(path))


def expand(paths: Sequence[Path]) -> list[Path]:
    """Return the experiments that paths name: a folder of several stands for all of them."""
    each = ([path] if is_experiment(path) else experiments_in(path) or [path] for path in paths)
    return list(dict.fromkeys(path for several in each for path in several))


def replace_file(path: Path, content: str) -> None:
    """Write a file in one go, so that a reader never sees half of it; OSError where that can't be."""
    # Each process its own half: reports of several jobs may end at once.
    half = path.with_name(f".{path.name}.{os.getpid()}.part")
    # Rows of files may hold lone surrogates, which UTF-8 does not.
    half.write_bytes(content.encode("utf-8", "backslashreplace"))
    os.replace(half, path)


def _reported(path: Path, folder: Path) -> Study:
    runs, task = reported.read(path)
    return Study(name=str(runs[0].recipe["experiment"]), folder=folder, runs=runs, given=task)
