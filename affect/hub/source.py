"""A run's folder as what is pushed: its weights, where it stands, and the experiment that it is of."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from affect import checksums, report, tasks
from affect import recipe as recipes
from affect.checksums import DamagedError
from affect.errors import AffectError
from affect.hub import clean
from affect.models.saving import CONFIG, WEIGHTS
from affect.report.rows import Record
from affect.tables import inside

if TYPE_CHECKING:
    from affect.task import Task

AVERAGE = "average.safetensors"
_LOG = logging.getLogger("affect")


@dataclass(frozen=True)
class Source:
    """One run: its folder, and what the report reads of it."""

    folder: Path
    run: report.Run

    @property
    def best(self) -> Path:
        """The folder of the best weights, their configuration and tokenizer."""
        return self.folder / "checkpoints" / "best"

    @cached_property
    def last(self) -> Path | None:
        """The weights of the newest checkpoint whose weights are whole, averaged where it has those; None without one.

        What is passed over is logged.
        """
        for folder in sorted((self.folder / "checkpoints").glob("step-*"), reverse=True):
            try:
                checksums.check(folder, (AVERAGE, WEIGHTS))
            except DamagedError as error:
                _LOG.warning("%s is damaged and passed over: %s", folder, error)
                continue
            for name in (AVERAGE, WEIGHTS):
                if (folder / name).is_file():
                    return folder / name
        return None

    @cached_property
    def place(self) -> Record:
        """The step that the best weights are of, and their validation scores."""
        try:
            place = json.loads((self.best / "place.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return place if isinstance(place, dict) else {}

    @cached_property
    def config(self) -> Record:
        """The model's configuration, without paths. Raises AffectError where it can't be read."""
        try:
            config: Record = clean.scrub(json.loads((self.best / CONFIG).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise AffectError(f"{self.best / CONFIG} is not readable: the run can't be pushed") from error
        return config

    @cached_property
    def pushed(self) -> Record:
        """The configuration that the best weights are pushed with: what the task says of it, of a finished run."""
        return self.task.pushed_config(self.config, self.folder) if self.run.finished else self.config

    @property
    def task(self) -> type[Task]:
        """The model's task."""
        return tasks.task_class(str(self.config.get("task")))

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return str(self.run.recipe.get("experiment", self.folder.absolute().parents[1].name))

    @property
    def step(self) -> int:
        """The step that the run has come to."""
        records = [*self.run.steps, self.run.end, self.place]
        return max((step for record in records if isinstance(step := record.get("step"), int)), default=0)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Scores by part: all of a finished run, before that the validation scores of the best weights so far."""
        parts = inside(self.run.end if self.run.finished else self.place, "scores")
        return {part: {k: v for k, v in values.items() if isinstance(v, int | float)}
                for part, values in parts.items() if isinstance(values, dict)}  # fmt: skip

    @property
    def plain(self) -> dict[str, dict[str, float]]:
        """Scores of parts as they are, without those under conditions (test@snr=10)."""
        return {part: values for part, values in self.scores.items() if "@" not in part}


def read(run: Path) -> Source:
    """Return the run in a folder, its best weights held against their checksums.

    Raises AffectError where they are damaged, and where it is no run's folder, naming a run of an experiment's.
    """
    if not (run / "checkpoints" / "best" / WEIGHTS).is_file():
        below = sorted(path.parents[2] for path in run.glob(f"**/checkpoints/best/{WEIGHTS}"))
        if below:
            raise AffectError(f"{run} holds several runs: name one, such as {below[0]}")
        what = "holds no best weights yet" if run.is_dir() else "is no folder"
        raise AffectError(f"{run} {what}: a run's folder is runs/<experiment>/seed<S>/fold<F>")
    recipes.check_own(run.resolve())
    # Read as the report reads it, which wants a run's own folder.
    source = Source(run, report.read(run.resolve())[0])
    if not source.run.recipe:
        raise AffectError(f"{run / 'recipe.json'} is missing or not readable: the run can't be pushed")
    try:
        checksums.check(source.best)
    except DamagedError as error:
        raise AffectError(
            f"{source.best} is damaged: {error}; copy it there again, or train it anew with --overwrite"
        ) from error
    return source
