"""The end of an experiment whose folds ran as jobs of their own: its report, and what did not come to its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from affect import tasks
from affect.experiments import folds
from affect.experiments.parallel import OUTPUT
from affect.options import Options
from affect.recipe import Recipe
from affect.training import run_dir

_SLURM = re.compile(r"(srun|slurmstepd\S*|slurmd\S*): ")


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A seed and fold that did not come to its end: its place below the experiment, how far it came, and why."""

    name: str
    state: str
    why: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.name} {self.state}: {self.why}"


def conclude(
    experiment: str, recipe: Recipe, options: Options, logs: str | None
) -> tuple[Path | None, list[Unfinished]]:
    """Write the report over the runs that are finished; return its folder (None of none) and the unfinished ones.

    The recipe says which seeds and folds there should be; `logs` is where the log of a fold's job is, with {fold} in
    the place of its number. Nothing is trained.
    """
    top = run_dir.experiment_folder(options.runs, experiment, options.name)
    numbers = folds.chosen(tasks.make(recipe).folds(), options)
    units = [(seed, number) for seed in recipe.seeds(options.seeds) for number in numbers]
    left = [(seed, number) for seed, number in units if not run_dir.finished(folds.folder_of(top, seed, number))]
    if len(left) < len(units) and options.report:
        folds.conclude(options.runs, top)
    return (top if len(left) < len(units) else None), [_unfinished(top, *unit, logs) for unit in left]


def _unfinished(top: Path, seed: int, number: int, logs: str | None) -> Unfinished:
    folder = folds.folder_of(top, seed, number)
    steps = [line["step"] for line in run_dir.read_lines(folder / "metrics.jsonl") if line.get("event") == "step"]
    state = f"stopped after step {steps[-1]}" if steps else "did not begin"
    log = folder / OUTPUT if logs is None else Path(logs.replace("{fold}", str(number)))
    why = last_words(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else f"there is no {log}"
    return Unfinished(name=f"seed{seed}/fold{number}", state=state, why=f"{why} ({log})" if log.is_file() else why)


def last_words(text: str) -> str:
    """Return why a job ended, in a line of its log: its own error, else why Slurm ended it, else what it said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    ended = [line.strip("* ") for line in lines if _SLURM.match(line) and " DUE TO " in line]
    said = [line for line in lines if not _SLURM.match(line)]
    return (errors or ended or said or lines or ["its log is empty"])[-1]
