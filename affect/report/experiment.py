"""An experiment as the report takes it: the folder of its runs, or numbers reported elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from affect.errors import AffectError, nearest
from affect.report import reported
from affect.report.runs import Run, read
from affect.report.scores import Scores, section

_LOG = logging.getLogger("affect")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Runs under one name, and the folder that their report goes to."""

    name: str
    folder: Path
    runs: list[Run]

    @cached_property
    def scores(self) -> Scores:
        """The scores of those runs that have some: finished ones with predictions, or reported ones."""
        return with_scores(self.runs)

    @property
    def corpus(self) -> str:
        """The corpus's name, "" where nobody says it."""
        named = (section(run.recipe, "data").get("corpus") for run in self.runs)
        return next((str(name) for name in named if name), "")


def load(path: Path, beside: Path | None = None, *, scores_only: bool = False) -> Experiment:
    """Return the experiment in a folder (or a file of reported numbers); `beside`: a name alone is looked for there.

    `scores_only` leaves out what a comparison doesn't need, which is most of what takes time.
    Raises AffectError where there is none.
    """
    path = Path(path)
    if not path.exists() and beside is not None and len(path.parts) == 1:
        path = _beside(path.name, beside)
    if path.suffix == ".json" and not path.is_dir():
        # Numbers that lie beside no runs get a folder of their own for their report.
        folder = path.parent if path.name == reported.FILE else path.with_suffix("")
        return _named(folder, reported.read(path))
    if path.is_file():
        raise AffectError(f"{str(path)!r} is a file: name a folder of runs, or a .json file of reported numbers")
    found = path / reported.FILE
    if found.is_file():
        if not holds_runs(path):
            return _named(path, reported.read(found))
        _LOG.warning("%s holds runs: they count, %s does not", path, reported.FILE)
    return Experiment(name=path.resolve().name, folder=path, runs=read(path, scores_only=scores_only))


def with_scores(runs: Sequence[Run]) -> Scores:
    """Return the scores of those runs that have some: finished ones with predictions, or reported ones."""
    return Scores(runs=[run for run in runs if run.finished and (run.test or run.reported)])


def holds_runs(folder: Path) -> bool:
    """Tell whether a folder is that of an experiment with runs in it."""
    return any(path.is_dir() for path in folder.glob("seed*/fold*"))


def is_experiment(folder: Path) -> bool:
    """Tell whether a folder is that of an experiment: of its own runs, or of reported numbers."""
    return folder.is_dir() and (holds_runs(folder) or (folder / reported.FILE).is_file())


def experiments_in(folder: Path) -> list[Path]:
    """Return the folders of the experiments directly in a folder, by name; links (runs/latest) are left out."""
    return sorted(path for path in Path(folder).glob("*") if not path.is_symlink() and is_experiment(path))


def _beside(name: str, folder: Path) -> Path:
    known = [path.name for path in experiments_in(folder)]
    if name not in known:
        hint = nearest(name, known) if known else "there is none"
        raise AffectError(f"no experiment {name!r} in {str(folder)!r}; {hint}")
    return folder / name


def _named(folder: Path, runs: list[Run]) -> Experiment:
    return Experiment(name=str(runs[0].recipe["experiment"]), folder=folder, runs=runs)
